//! A client of the Extensions API (spec extensions-telemetry 1), for an extension inside the runtime's process and for
//! one that is a process of its own.

use std::fmt;

use crate::error::{Call, Error, Refusal};
use crate::exchange::{Exchange, Failure};
use crate::http1::RequestHead;
use crate::json_members::{quote, string_member};
use crate::protocol;
use crate::transport::{Connect, Wait};

mod telemetry;

pub use telemetry::Subscribed;

/// What an extension is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventType {
    /// The environment has an invocation.
    Invoke,
    /// The environment ends; external extensions only.
    Shutdown,
    /// What did not exist when this was written.
    Other(String),
}

impl EventType {
    /// As the API writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invoke => "INVOKE",
            Self::Shutdown => "SHUTDOWN",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for EventType {
    fn from(name: &str) -> Self {
        match name {
            "INVOKE" => Self::Invoke,
            "SHUTDOWN" => Self::Shutdown,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// What the platform says about the function when an extension registers. What it leaves out is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// The extension's id, which every later call carries.
    pub identifier: String,
    /// `functionName`
    pub function_name: String,
    /// `functionVersion`
    pub function_version: String,
    /// `handler`
    pub handler: String,
    /// `accountId`, where the feature was asked for and the platform has it.
    pub account_id: Option<String>,
}

/// One event. Its JSON document is [`ExtensionClient::event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionEvent {
    /// `eventType`
    pub event_type: EventType,
    /// `Lambda-Extension-Event-Identifier`; the platform may leave it out.
    pub event_id: Option<String>,
}

/// What went wrong between an extension and the platform.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExtensionError {
    /// 404: the platform has no Extensions API, or it is turned off. The function works without.
    Disabled {
        /// The call that was answered so.
        call: Call,
    },
    /// The platform refused a call (4xx).
    Refused {
        /// The refused call.
        call: Call,
        /// Its entry in the catalogue.
        reason: RefusalReason,
        /// Status and the platform's own words.
        refusal: Refusal,
    },
    /// A registration was accepted without `Lambda-Extension-Identifier`, which every later call needs.
    MissingIdentifier,
    /// An event is no JSON object with an `eventType`.
    InvalidEvent {
        /// Its beginning.
        start: String,
    },
    /// The conversation itself failed, or the platform did (5xx): an extension is to end then.
    Conversation(Error),
}

/// Why a call was refused: the `errorType` of the answer (spec extensions-telemetry 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalReason {
    /// `Extension.InvalidExtensionName`: the name is empty.
    InvalidName,
    /// `InvalidRequestFormat`: the registration's body.
    InvalidRequestFormat,
    /// `Extension.InvalidEventType`: no such event, or none for this kind of extension.
    InvalidEventType,
    /// `Extension.RegistrationClosed`: the runtime has asked for its first invocation.
    RegistrationClosed,
    /// `Extension.TooManyExtensions`: there are ten.
    TooManyExtensions,
    /// `Extension.InvalidExtensionState`: the wrong time for this call, or the name is taken.
    InvalidState,
    /// `Extension.MissingExtensionIdentifier`
    MissingIdentifier,
    /// `Extension.InvalidExtensionIdentifier`: no UUID.
    InvalidIdentifier,
    /// `Extension.UnknownExtensionIdentifier`: nobody's, perhaps from before a reset.
    UnknownIdentifier,
    /// `Extension.MissingHeader`: an error without its type.
    MissingErrorType,
    /// Anything else.
    Other,
}

impl RefusalReason {
    fn of(refusal: &Refusal) -> Self {
        match string_member(refusal.body.as_bytes(), "errorType").as_deref() {
            Some("Extension.InvalidExtensionName") => Self::InvalidName,
            Some("InvalidRequestFormat") => Self::InvalidRequestFormat,
            Some("Extension.InvalidEventType") => Self::InvalidEventType,
            Some("Extension.RegistrationClosed") => Self::RegistrationClosed,
            Some("Extension.TooManyExtensions") => Self::TooManyExtensions,
            Some("Extension.InvalidExtensionState") => Self::InvalidState,
            Some("Extension.MissingExtensionIdentifier") => Self::MissingIdentifier,
            Some("Extension.InvalidExtensionIdentifier") => Self::InvalidIdentifier,
            Some("Extension.UnknownExtensionIdentifier") => Self::UnknownIdentifier,
            Some("Extension.MissingHeader") => Self::MissingErrorType,
            _ => Self::Other,
        }
    }
}

/// A registered extension.
#[derive(Debug)]
pub struct ExtensionClient<C: Connect> {
    exchange: Exchange<C>,
    user_agent: String,
    registration: Registration,
    /// The head of the request at hand; kept for its memory.
    head: Vec<u8>,
}

impl<C: Connect> ExtensionClient<C> {
    /// Register. An external extension's `name` is that of its file in `/opt/extensions`. `account_id` asks for the
    /// feature of that name.
    pub fn register<W: Wait<C::Transport>>(
        connector: C,
        user_agent: impl Into<String>,
        name: &str,
        events: &[EventType],
        account_id: bool,
        wait: &mut W,
    ) -> Result<Self, ExtensionError> {
        const CALL: Call = Call::ExtensionRegister;
        let mut client = Self {
            exchange: Exchange::new(connector),
            user_agent: user_agent.into(),
            registration: Registration::default(),
            head: Vec::new(),
        };
        let events: Vec<_> = events.iter().map(|event| quote(event.as_str())).collect();
        // An empty body is refused.
        let body = format!("{{\"events\":[{}]}}", events.join(","));
        let mut headers = vec![(protocol::EXTENSION_NAME, name), ("Content-Type", "application/json")];
        if account_id {
            headers.push((protocol::EXTENSION_ACCEPT_FEATURE, "accountId"));
        }
        client.post(CALL, protocol::EXTENSION_REGISTER_PATH, &headers, body.as_bytes(), wait)?;
        if client.exchange.responses.status() != 200 {
            return Err(client.status_error(CALL));
        }
        let Some(identifier) = client.header(protocol::EXTENSION_IDENTIFIER) else {
            return Err(ExtensionError::MissingIdentifier);
        };
        let document = client.exchange.responses.body();
        let member = |name| string_member(document, name);
        client.registration = Registration {
            identifier,
            function_name: member("functionName").unwrap_or_default(),
            function_version: member("functionVersion").unwrap_or_default(),
            handler: member("handler").unwrap_or_default(),
            account_id: member("accountId"),
        };
        client.exchange.settle();
        Ok(client)
    }

    /// What the platform said at the registration.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Say that the previous event is done with, and wait as long as it takes for the next one. Its document is
    /// [`Self::event`].
    ///
    /// The platform knows no second poll, and takes one that was given up for one that waits: once interrupted, the
    /// client is not to be asked again (spec extensions-telemetry 1.3).
    pub fn next_event<W: Wait<C::Transport>>(
        &mut self,
        wait: &mut W,
    ) -> Result<ExtensionEvent, ExtensionError> {
        const CALL: Call = Call::ExtensionNextEvent;
        let mut head = std::mem::take(&mut self.head);
        self.write_head(&mut head, "GET", protocol::EXTENSION_NEXT_PATH, &[]);
        let outcome = self.converse(CALL, &head, &[], wait);
        self.head = head;
        outcome?;
        if self.exchange.responses.status() != 200 {
            return Err(self.status_error(CALL));
        }
        let Some(event_type) = string_member(self.exchange.responses.body(), "eventType") else {
            return Err(ExtensionError::InvalidEvent { start: self.exchange.responses.beginning() });
        };
        let event_id = self.header(protocol::EXTENSION_EVENT_IDENTIFIER);
        self.exchange.settle();
        Ok(ExtensionEvent { event_type: event_type.as_str().into(), event_id })
    }

    /// The JSON document of the event that [`Self::next_event`] returned last.
    pub fn event(&self) -> &[u8] {
        self.exchange.responses.body()
    }

    /// Report a failure between the registration and the first poll; the process is to end then. `error_type` is
    /// `Category.Reason`, `body` the error document or empty.
    pub fn post_init_error<W: Wait<C::Transport>>(
        &mut self,
        error_type: &str,
        body: &[u8],
        wait: &mut W,
    ) -> Result<(), ExtensionError> {
        let path = protocol::EXTENSION_INIT_ERROR_PATH;
        self.report(Call::ExtensionInitError, path, error_type, body, wait)
    }

    /// Report a later failure; the process is to end then. Arguments as for [`Self::post_init_error`].
    pub fn post_exit_error<W: Wait<C::Transport>>(
        &mut self,
        error_type: &str,
        body: &[u8],
        wait: &mut W,
    ) -> Result<(), ExtensionError> {
        let path = protocol::EXTENSION_EXIT_ERROR_PATH;
        self.report(Call::ExtensionExitError, path, error_type, body, wait)
    }

    fn report<W: Wait<C::Transport>>(
        &mut self,
        call: Call,
        path: &str,
        error_type: &str,
        body: &[u8],
        wait: &mut W,
    ) -> Result<(), ExtensionError> {
        let headers = [(protocol::EXTENSION_ERROR_TYPE, error_type), ("Content-Type", "application/json")];
        self.post(call, path, &headers, body, wait)?;
        if !(200..300).contains(&self.exchange.responses.status()) {
            return Err(self.status_error(call));
        }
        self.exchange.settle();
        Ok(())
    }

    fn post<W: Wait<C::Transport>>(
        &mut self,
        call: Call,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        wait: &mut W,
    ) -> Result<(), ExtensionError> {
        let length = body.len().to_string();
        let headers = [headers, &[("Content-Length", &length)]].concat();
        let mut head = std::mem::take(&mut self.head);
        self.write_head(&mut head, "POST", path, &headers);
        let outcome = self.converse(call, &head, body, wait);
        self.head = head;
        outcome
    }

    fn write_head(&self, head: &mut Vec<u8>, method: &str, path: &str, headers: &[(&str, &str)]) {
        head.clear();
        let mut request = RequestHead::new(head, method, &[path])
            .header("Host", self.exchange.address())
            .header("User-Agent", &self.user_agent);
        if !self.registration.identifier.is_empty() {
            request = request.header(protocol::EXTENSION_IDENTIFIER, &self.registration.identifier);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.end();
    }

    /// One request and its response. A kept connection may have been closed, perhaps while the environment was frozen:
    /// then the request is made once more. Where the platform had read the first one it refuses the second, which is
    /// no worse.
    fn converse<W: Wait<C::Transport>>(
        &mut self,
        call: Call,
        head: &[u8],
        body: &[u8],
        wait: &mut W,
    ) -> Result<(), ExtensionError> {
        self.exchange.responses.consume();
        if self.exchange.responses.has_started() {
            // Nobody asked for it: what comes next could be taken for the answer to this request.
            self.exchange.disconnect();
        }
        let kept_alive = self.exchange.is_kept_alive();
        let mut outcome = self.exchange.run(call, [head, body, &[]], wait);
        if kept_alive && matches!(outcome, Err(Failure::Closed(_))) {
            self.exchange.disconnect();
            outcome = self.exchange.run(call, [head, body, &[]], wait);
        }
        outcome.map_err(|failure| {
            self.exchange.disconnect();
            ExtensionError::Conversation(failure.into_error(call))
        })
    }

    /// A header of the response at hand that is there and not empty.
    fn header(&self, name: &str) -> Option<String> {
        self.exchange
            .responses
            .headers()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .filter(|value| !value.is_empty())
    }

    fn status_error(&mut self, call: Call) -> ExtensionError {
        let refusal = self.exchange.refusal();
        self.exchange.settle();
        match refusal.status {
            404 => ExtensionError::Disabled { call },
            400..=499 => ExtensionError::Refused { call, reason: RefusalReason::of(&refusal), refusal },
            _ => ExtensionError::Conversation(refusal.into_error(call)),
        }
    }
}

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled { call } => {
                write!(f, "{call}: there is no Extensions API, or it is turned off (404)")
            }
            Self::Refused { call, refusal, .. } => write!(f, "{call} was refused: {refusal}"),
            Self::MissingIdentifier => {
                write!(f, "POST /extension/register: the answer has no Lambda-Extension-Identifier header")
            }
            Self::InvalidEvent { start } => {
                write!(
                    f,
                    "GET /extension/event/next: the answer is no JSON object with an eventType: {start:?}"
                )
            }
            Self::Conversation(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ExtensionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Conversation(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
