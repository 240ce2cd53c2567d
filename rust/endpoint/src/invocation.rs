//! One invocation: what the caller gives, and what comes back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::error::EndpointError;
use crate::error_document::error_type_of;
use crate::identifiers;
use crate::pool::Lease;
use crate::response_stream::PieceSender;

/// An event and what travels with it. `Default` is an empty event with everything else left to the environment.
#[derive(Debug, Clone, Default)]
pub struct InvocationRequest {
    /// The event's bytes; they are not looked into.
    pub event: Bytes,
    /// Type of the event; `application/json` unless given.
    pub content_type: Option<String>,
    /// The invocation's id; a fresh UUID unless given.
    pub request_id: Option<String>,
    /// JSON text of the client context.
    pub client_context: Option<String>,
    /// JSON text of the Cognito identity.
    pub cognito_identity: Option<String>,
    /// X-Ray header; a fresh unsampled one unless given.
    pub trace_id: Option<String>,
    /// Tenant of a function with tenant isolation.
    pub tenant_id: Option<String>,
    /// The function as the caller named it; the environment's unqualified ARN unless given.
    pub invoked_function_arn: Option<HeaderValue>,
    /// The function's time limit for this invocation; the environment's unless given.
    pub timeout: Option<Duration>,
    /// No platform log lines and no memory figures: for measuring the bare cycle.
    pub quiet: bool,
    /// Where the pieces of the response go if the runtime streams it. Without it, and where the runtime does not stream,
    /// the response is the answer's payload.
    pub pieces: Option<PieceSender>,
}

impl InvocationRequest {
    /// The same, for a function that was called by this ARN.
    ///
    /// Fails with [`EndpointError::InvalidHeader`] if it cannot be sent.
    pub fn invoked_as(mut self, function_arn: &str) -> Result<Self, EndpointError> {
        self.invoked_function_arn = Some(header("invoked_function_arn", function_arn.to_owned())?);
        Ok(self)
    }
}

/// How an invocation ended, in the platform's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvocationStatus {
    /// The runtime posted a response and asked for the next invocation.
    Success,
    /// The function reported an error, or the runtime failed.
    Error,
    /// A time limit passed.
    Timeout,
}

impl InvocationStatus {
    /// The status as platform events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// What the caller of a function gets.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The invocation's id.
    pub request_id: String,
    /// The bytes the runtime posted, or the platform's error document. Empty where they were streamed; where a stream
    /// ended with an error, its document.
    pub payload: Bytes,
    /// The type the runtime gave, or `application/json`.
    pub content_type: HeaderValue,
    /// Whether this is an error (`X-Amz-Function-Error: Unhandled`).
    pub is_error: bool,
    /// The error's type as the platform logs it.
    pub error_type: Option<String>,
    /// The trace id the runtime was given.
    pub trace_id: HeaderValue,
    /// How the invocation ended, as far as the caller is concerned.
    pub status: InvocationStatus,
    /// It was never run: the service failed, and says so in place of an answer.
    pub service_error: Option<Box<ServiceFailure>>,
}

/// Why the service did not run an invocation that it had taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFailure {
    /// The HTTP status.
    pub status: u16,
    /// The exception's name in the service's API.
    pub error_type: String,
    /// What the caller is told.
    pub message: String,
}

impl Answer {
    /// The answer to an invocation that was not run.
    pub(crate) fn refused(request_id: String, trace_id: HeaderValue, failure: ServiceFailure) -> Self {
        Self {
            request_id,
            payload: Bytes::new(),
            content_type: JSON,
            is_error: true,
            error_type: Some(failure.error_type.clone()),
            trace_id,
            status: InvocationStatus::Error,
            service_error: Some(Box::new(failure)),
        }
    }
}

impl InvokeResult {
    /// The result of an invocation that was not run.
    pub(crate) fn refused(answer: Answer, executed_version: String) -> Self {
        Self {
            status: answer.status,
            error_type: answer.error_type.clone(),
            answer,
            executed_version,
            log_tail: Bytes::new(),
            log: Bytes::new(),
            extension_log: Bytes::new(),
            init_duration: None,
            restore_duration: None,
            duration: Duration::ZERO,
            billed_duration_ms: 0,
            response_latency: Duration::ZERO,
            max_memory_used_mb: 0,
            phases: Phases::default(),
            delivered_at: None,
        }
    }

    /// The type of the failure as a person would name it: `errorType` of the document the caller gets, and where that
    /// has none, or the caller got a good answer before the end, the type the platform logs.
    pub fn failure_type(&self) -> Option<String> {
        if self.answer.is_error {
            error_type_of(&self.answer.payload).or_else(|| self.error_type.clone())
        } else {
            self.error_type.clone()
        }
    }
}

/// The duration of each part of an invocation, where it took place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases {
    /// Waiting behind other invocations, and for a process that was ending.
    pub queued: Option<Duration>,
    /// Waiting for an Init phase that failed, until nothing of its processes was left. Then init is run again.
    pub failed_init: Option<Duration>,
    /// From the request for a process until its pid was told.
    pub process_start: Option<Duration>,
    /// From the pid until the runtime's first `/next` or `/restore/next`; within an invocation also until init failed.
    pub runtime_init: Option<Duration>,
    /// SnapStart: from the restore until the runtime's first `/next`.
    pub restore: Option<Duration>,
    /// From the event's delivery until the answer was posted completely.
    pub response: Option<Duration>,
    /// From the answer until the next poll, or until the process ended.
    pub after_response: Option<Duration>,
    /// From that poll until the last extension that works on the invocation has asked for its next event.
    pub extensions: Option<Duration>,
}

/// A finished invocation: the runtime has answered and polled again, or its process has ended.
#[derive(Debug, Clone)]
pub struct InvokeResult {
    /// What the caller gets.
    pub answer: Answer,
    /// The function version that ran.
    pub executed_version: String,
    /// How the invocation ended. Not always the answer's: a runtime may time out or die after a good answer.
    pub status: InvocationStatus,
    /// The type of the failure behind `status`.
    pub error_type: Option<String>,
    /// The last 4096 bytes of the log, from init (cold) or START on, platform lines included.
    pub log_tail: Bytes,
    /// The whole log where the environment keeps it, else empty.
    pub log: Bytes,
    /// What external extensions printed meanwhile, where the environment keeps the log; else empty.
    pub extension_log: Bytes,
    /// Init Duration, for the first invocation after an Init phase. An init within the invocation has none: it is part
    /// of `duration`.
    pub init_duration: Option<Duration>,
    /// Restore Duration, for the first invocation after a restore.
    pub restore_duration: Option<Duration>,
    /// From the delivery of the event, or the beginning of the init within the invocation, until the next poll, a
    /// timeout or the end of the process.
    pub duration: Duration,
    /// Init and duration in whole milliseconds, rounded up; with SnapStart the restore in place of the init.
    pub billed_duration_ms: u64,
    /// From the delivery of the event until the answer was posted.
    pub response_latency: Duration,
    /// Peak resident memory of the process in MB.
    pub max_memory_used_mb: u64,
    /// The parts of the time.
    pub phases: Phases,
    /// When the event was handed to the runtime; `None` if it never was.
    pub delivered_at: Option<Instant>,
}

/// Called with the answer.
pub type AnswerWaiter = Box<dyn FnOnce(Answer) + Send>;
/// Called with the result.
pub type FinishWaiter = Box<dyn FnOnce(InvokeResult) + Send>;

/// Who waits for an invocation, and for which moment.
pub enum Waiter {
    /// The answer, as soon as it is known.
    Answer(AnswerWaiter),
    /// The result, when everything is over.
    Finish(FinishWaiter),
    /// Nobody (an asynchronous invocation).
    Nobody,
}

/// An accepted invocation: every value checked and ready to be sent.
pub struct Invocation {
    pub request_id: String,
    pub request_id_header: HeaderValue,
    pub event: Bytes,
    pub content_type: HeaderValue,
    pub client_context: Option<HeaderValue>,
    pub cognito_identity: Option<HeaderValue>,
    pub trace_id: HeaderValue,
    pub tenant_id: Option<HeaderValue>,
    /// The time limit that the caller gave for it.
    pub own_timeout: Option<Duration>,
    pub invoked_function_arn: Option<HeaderValue>,
    /// The time limit that it has: its own, or the environment's.
    pub timeout: Duration,
    pub quiet: bool,
    pub pieces: Option<PieceSender>,
    /// By the environment's clock; in a pool by the machine's.
    pub submitted: Instant,
    pub waiter: Waiter,
    /// What a pool has for it.
    pub lease: Option<Lease>,
}

impl Invocation {
    /// Check a request and fill in what it leaves open.
    ///
    /// Fails with [`EndpointError::InvalidHeader`] if a value cannot be written as a header.
    pub fn new(
        request: InvocationRequest,
        timeout: Duration,
        waiter: Waiter,
        now: Instant,
    ) -> Result<Self, EndpointError> {
        let request_id = request.request_id.unwrap_or_else(identifiers::request_id);
        let trace_id = request.trace_id.unwrap_or_else(identifiers::trace_id);
        Ok(Self {
            request_id_header: header("request_id", request_id.clone())?,
            request_id,
            event: request.event,
            content_type: match request.content_type {
                Some(value) => header("content_type", value)?,
                None => JSON,
            },
            client_context: optional_header("client_context", request.client_context)?,
            cognito_identity: optional_header("cognito_identity", request.cognito_identity)?,
            trace_id: header("trace_id", trace_id)?,
            tenant_id: optional_header("tenant_id", request.tenant_id)?,
            own_timeout: request.timeout,
            invoked_function_arn: request.invoked_function_arn,
            timeout: request.timeout.unwrap_or(timeout),
            quiet: request.quiet,
            pieces: request.pieces,
            submitted: now,
            waiter,
            lease: None,
        })
    }
}

/// The default type of events and answers.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A header value; line ends become blanks as in Go's server, so that pretty-printed JSON can be sent.
fn header(field: &'static str, value: String) -> Result<HeaderValue, EndpointError> {
    let value = if value.contains(['\r', '\n']) { value.replace(['\r', '\n'], " ") } else { value };
    HeaderValue::try_from(value).map_err(|_| EndpointError::InvalidHeader { field })
}

/// Empty means absent: the runtime must not see an empty header (spec runtime-api 1.3).
fn optional_header(field: &'static str, value: Option<String>) -> Result<Option<HeaderValue>, EndpointError> {
    value.filter(|value| !value.is_empty()).map(|value| header(field, value)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(request: InvocationRequest) -> Result<Invocation, EndpointError> {
        Invocation::new(request, Duration::from_secs(3), Waiter::Nobody, Instant::now())
    }

    #[test]
    fn a_pretty_printed_client_context_is_sent_on_one_line() {
        let context = Some("{\n  \"client\": \"é\"\r\n}".to_owned());
        let invocation = accept(InvocationRequest { client_context: context, ..Default::default() }).unwrap();
        assert_eq!(invocation.client_context.unwrap().as_bytes(), "{   \"client\": \"é\"  }".as_bytes());
    }

    #[test]
    fn a_control_character_is_refused_with_the_fields_name() {
        let request = InvocationRequest { tenant_id: Some("a\u{1}b".to_owned()), ..Default::default() };
        let Err(error) = accept(request) else { panic!("accepted") };
        assert_eq!(error.to_string(), "tenant_id holds control characters and cannot be sent as a header");
    }

    #[test]
    fn empty_optional_values_are_absent() {
        let request = InvocationRequest { cognito_identity: Some(String::new()), ..Default::default() };
        assert!(accept(request).unwrap().cognito_identity.is_none());
    }
}
