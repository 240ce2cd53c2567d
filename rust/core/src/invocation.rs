//! One invocation as `GET /next` delivers it (spec runtime-api 1.3).

use crate::error::Error;
use crate::http1::ResponseBuffer;
use crate::protocol;

/// The headers of an invocation. The event itself stays in the client's buffer ([`crate::Client::event`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// `Lambda-Runtime-Aws-Request-Id`; never empty.
    pub request_id: String,
    /// `Lambda-Runtime-Invocation-Id`: one attempt of this request, to be echoed on its answer.
    pub invocation_id: Option<String>,
    /// `Lambda-Runtime-Invoked-Function-Arn`, empty when absent.
    pub invoked_function_arn: String,
    /// `Lambda-Runtime-Trace-Id`.
    pub trace_id: Option<String>,
    /// `Lambda-Runtime-Client-Context`: JSON text.
    pub client_context: Option<String>,
    /// `Lambda-Runtime-Cognito-Identity`: JSON text.
    pub cognito_identity: Option<String>,
    /// `Lambda-Runtime-Aws-Tenant-Id`.
    pub tenant_id: Option<String>,
    /// The event's Content-Type, where it says that the event is no JSON ([`Self::is_json`]).
    pub other_content_type: Option<String>,
    deadline_ms: Option<String>,
    shown_deadline_ms: Option<String>,
}

impl Invocation {
    /// Read the headers of a complete response. An empty value counts as absent: AWS's emulator for Managed Instances
    /// sends some headers always.
    pub(crate) fn from_response(response: &ResponseBuffer) -> Result<Self, Error> {
        let mut invocation = Self::default();
        for (name, value) in response.headers().filter(|(_, value)| !value.is_empty()) {
            let text = || match std::str::from_utf8(value) {
                Ok(text) => text.to_owned(),
                Err(_) => String::from_utf8_lossy(value).into_owned(),
            };
            let is = |header: &str| name.eq_ignore_ascii_case(header.as_bytes());
            if is(protocol::AWS_REQUEST_ID) {
                invocation.request_id = text();
            } else if is(protocol::DEADLINE_MS) {
                invocation.deadline_ms = Some(text());
            } else if is(protocol::INVOKED_FUNCTION_ARN) {
                invocation.invoked_function_arn = text();
            } else if is(protocol::TRACE_ID) {
                invocation.trace_id = Some(text());
            } else if is(protocol::INVOCATION_ID) {
                invocation.invocation_id = Some(text());
            } else if is(protocol::CLIENT_CONTEXT) {
                invocation.client_context = Some(text());
            } else if is(protocol::COGNITO_IDENTITY) {
                invocation.cognito_identity = Some(text());
            } else if is(protocol::TENANT_ID) {
                invocation.tenant_id = Some(text());
            } else if is(protocol::CALORIC_DEADLINE_MS) {
                invocation.shown_deadline_ms = Some(text());
            } else if is("content-type") && value != b"application/json" {
                // Exactly so: a charset or other case makes it bytes, as the peer does (spec 4.6).
                invocation.other_content_type = Some(text());
            }
        }
        if invocation.request_id.is_empty() {
            return Err(Error::MissingRequestId);
        }
        // It is sent as it came (spec 1.1); with a blank in it the answer would be another request.
        if !invocation.request_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::InvalidRequestId { value: invocation.request_id });
        }
        Ok(invocation)
    }

    /// Whether the event is JSON: its Content-Type is exactly `application/json`, or missing.
    pub fn is_json(&self) -> bool {
        self.other_content_type.is_none()
    }

    /// `Lambda-Runtime-Deadline-Ms`: Unix time in milliseconds at which the function times out. With a virtual clock it is
    /// the time which that clock shows then.
    pub fn deadline_ms(&self) -> Result<u64, Error> {
        let Some(value) = self.shown_deadline_ms.as_ref().or(self.deadline_ms.as_ref()) else {
            return Err(Error::MissingDeadline { request_id: self.request_id.clone() });
        };
        value
            .trim()
            .parse()
            .map_err(|_| Error::InvalidDeadline { request_id: self.request_id.clone(), value: value.clone() })
    }
}
