//! Everything that can go wrong between the clients and the Runtime API, which serves the Extensions API too.

use std::fmt;
use std::io;

/// The calls of the Runtime API and of the Extensions API, for error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `GET /runtime/invocation/next`
    NextInvocation,
    /// `POST /runtime/invocation/<id>/response`
    InvocationResponse,
    /// `POST /runtime/invocation/<id>/error`
    InvocationError,
    /// `POST /runtime/init/error`
    InitializationError,
    /// `GET /runtime/restore/next`
    RestoreNext,
    /// `POST /runtime/restore/error`
    RestoreError,
    /// `POST /extension/register`
    ExtensionRegister,
    /// `GET /extension/event/next`
    ExtensionNextEvent,
    /// `POST /extension/init/error`
    ExtensionInitError,
    /// `POST /extension/exit/error`
    ExtensionExitError,
    /// `PUT /telemetry`
    TelemetrySubscribe,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NextInvocation => "GET /runtime/invocation/next",
            Self::InvocationResponse => "POST /runtime/invocation/<id>/response",
            Self::InvocationError => "POST /runtime/invocation/<id>/error",
            Self::InitializationError => "POST /runtime/init/error",
            Self::RestoreNext => "GET /runtime/restore/next",
            Self::RestoreError => "POST /runtime/restore/error",
            Self::ExtensionRegister => "POST /extension/register",
            Self::ExtensionNextEvent => "GET /extension/event/next",
            Self::ExtensionInitError => "POST /extension/init/error",
            Self::ExtensionExitError => "POST /extension/exit/error",
            Self::TelemetrySubscribe => "PUT /telemetry",
        })
    }
}

/// A failed conversation with the Runtime API.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made: nobody listens, or the address is wrong.
    Connect {
        /// `host:port` as given.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The connection broke while a request was sent or its answer was read.
    Io {
        /// The call that was under way.
        call: Call,
        /// What the operating system said.
        source: io::Error,
    },
    /// The connection was closed before the first byte of an answer, on a new connection too.
    NoAnswer {
        /// The call that was under way.
        call: Call,
    },
    /// The connection was closed in the middle of an answer.
    EndedEarly {
        /// The call that was under way.
        call: Call,
        /// Body bytes that had arrived.
        received: usize,
        /// Body bytes that were announced; `None` when the head itself was cut, or the body was chunked.
        expected: Option<u64>,
    },
    /// The bytes that came are no HTTP/1.x response.
    NotHttp {
        /// The call that was under way.
        call: Call,
        /// What is wrong with them.
        reason: &'static str,
        /// Their beginning, for the log.
        start: String,
    },
    /// The head of an answer is longer than [`crate::http1::MAX_RESPONSE_HEAD`].
    HeadTooLarge {
        /// The call that was under way.
        call: Call,
        /// The limit in bytes.
        limit: usize,
    },
    /// An answer's body is longer than [`crate::http1::MAX_RESPONSE_BODY`].
    BodyTooLarge {
        /// The call that was under way.
        call: Call,
        /// The limit in bytes.
        limit: usize,
    },
    /// An invocation without `Lambda-Runtime-Aws-Request-Id` cannot be answered.
    MissingRequestId,
    /// An invocation whose id cannot be part of a path, as its answer needs: only visible ASCII can.
    InvalidRequestId {
        /// What the header said.
        value: String,
    },
    /// An invocation without `Lambda-Runtime-Deadline-Ms`.
    MissingDeadline {
        /// The invocation.
        request_id: String,
    },
    /// `Lambda-Runtime-Deadline-Ms` is no whole number of milliseconds.
    InvalidDeadline {
        /// The invocation.
        request_id: String,
        /// What the header said.
        value: String,
    },
    /// The Runtime API refused a call (4xx).
    Refused {
        /// The refused call.
        call: Call,
        /// Status and the platform's own words.
        refusal: Refusal,
    },
    /// The Runtime API failed (5xx): not recoverable, the process is to end (spec runtime-api 1.7).
    ServerError {
        /// The call that failed.
        call: Call,
        /// Status and the platform's own words.
        refusal: Refusal,
    },
    /// An answer that this call never gives, such as 204 to `/next` or a redirect.
    UnexpectedStatus {
        /// The call that was answered so.
        call: Call,
        /// Status and the platform's own words.
        refusal: Refusal,
    },
    /// An invocation came where the answer to a post belongs: what comes on this connection can no longer be told
    /// apart.
    OutOfStep {
        /// The call that was answered so.
        call: Call,
    },
    /// The wait was given up: a signal handler raised.
    Interrupted,
}

/// A non-2xx answer: its status and what its body said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The body as text, cut after a kilobyte.
    pub body: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        // One line, whatever came: it goes into a log.
        for part in self.body.split(char::is_control).map(str::trim).filter(|part| !part.is_empty()) {
            write!(f, " {part}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { address, source } => {
                write!(f, "cannot connect to the Runtime API at {address} (AWS_LAMBDA_RUNTIME_API): {source}")
            }
            Self::Io { call, source } => write!(f, "{call}: the connection failed: {source}"),
            Self::NoAnswer { call } => {
                write!(f, "{call}: the connection was closed without an answer")
            }
            Self::EndedEarly { call, received, expected: Some(expected) } => {
                write!(f, "{call}: the answer ended after {received} of {expected} body bytes")
            }
            Self::EndedEarly { call, received, expected: None } => {
                write!(f, "{call}: the answer ended early, after {received} body bytes")
            }
            Self::NotHttp { call, reason, start } => {
                write!(f, "{call}: the answer is no HTTP/1.x response ({reason}): {start:?}")
            }
            Self::HeadTooLarge { call, limit } => {
                write!(f, "{call}: the head of the answer is longer than {limit} bytes")
            }
            Self::BodyTooLarge { call, limit } => {
                write!(f, "{call}: the body of the answer is longer than {limit} bytes")
            }
            Self::MissingRequestId => write!(
                f,
                "GET /runtime/invocation/next: the answer has no Lambda-Runtime-Aws-Request-Id header"
            ),
            Self::InvalidRequestId { value } => write!(
                f,
                "GET /runtime/invocation/next: Lambda-Runtime-Aws-Request-Id is {value:?}, which no path can hold"
            ),
            Self::MissingDeadline { request_id } => {
                write!(f, "invocation {request_id} has no Lambda-Runtime-Deadline-Ms header")
            }
            Self::InvalidDeadline { request_id, value } => write!(
                f,
                "invocation {request_id}: Lambda-Runtime-Deadline-Ms is {value:?}, not a number of milliseconds"
            ),
            Self::Refused { call, refusal } => write!(f, "{call} was refused: {refusal}"),
            Self::ServerError { call, refusal } => {
                write!(f, "{call}: the Runtime API failed: {refusal}")
            }
            Self::UnexpectedStatus { call, refusal } => {
                write!(f, "{call}: unexpected answer: {refusal}")
            }
            Self::OutOfStep { call } => {
                write!(f, "{call}: the answer is that to another request: an invocation")
            }
            Self::Interrupted => f.write_str("interrupted by a signal handler"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
