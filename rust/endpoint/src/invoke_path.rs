//! Invocations over HTTP, as the Lambda service has them (spec lambda-service 1.1 to 1.7): what a request asks for, how it
//! is run in a pool, and what each outcome is answered with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::oneshot;

use crate::error::EndpointError;
use crate::error_document;
use crate::identifiers;
use crate::invocation::{Answer, InvocationRequest, JSON, ServiceFailure, Waiter};
use crate::pool::Pool;
use crate::stream_front::{self, MessageBody};

/// Largest event of a synchronous invocation, in bytes.
pub(crate) const MAX_EVENT: usize = 6_291_456;
/// Largest event of an asynchronous one.
const MAX_ASYNC_EVENT: usize = 1_048_576;
/// The rest of a refused body is read up to here, so that its sender comes to read the answer.
const DISCARD_LIMIT: usize = 64 * 1024 * 1024;

const INVOKE_PREFIX: &str = "/2015-03-31/functions/";
const INVOKE_SUFFIX: &str = "/invocations";
const STREAM_PREFIX: &str = "/2021-11-15/functions/";
const STREAM_SUFFIX: &str = "/response-streaming-invocations";

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REMAPPED_LENGTH: HeaderName = HeaderName::from_static("x-amzn-remapped-content-length");
const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");
const LOG_TYPE: HeaderName = HeaderName::from_static("x-amz-log-type");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("x-amz-client-context");
const COGNITO_IDENTITY: HeaderName = HeaderName::from_static("x-amz-cognito-identity");
const TENANT_ID: HeaderName = HeaderName::from_static("x-amz-tenant-id");
pub(crate) const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");

pub(crate) type Answered = Response<Full<Bytes>>;

/// An answer that is whole, or a stream of messages.
pub(crate) type InvokeBody = Either<Full<Bytes>, MessageBody>;

/// The two operations that run a function and wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `Invoke`.
    Invoke,
    /// `InvokeWithResponseStream`.
    Stream,
}

/// The operation that a path means, and the function's name in it, as it is written there.
pub(crate) fn addressed(path: &str) -> Option<(Operation, &str)> {
    let between = |prefix, suffix| path.strip_prefix(prefix)?.strip_suffix(suffix);
    let found = between(INVOKE_PREFIX, INVOKE_SUFFIX)
        .map(|name| (Operation::Invoke, name))
        .or_else(|| Some((Operation::Stream, between(STREAM_PREFIX, STREAM_SUFFIX)?)));
    found.filter(|(_, name)| !name.is_empty() && !name.contains('/'))
}

/// How the caller wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvocationType {
    RequestResponse,
    Event,
    DryRun,
}

/// Run the invocation and wait for its answer, or for the beginning of that.
pub(crate) async fn run(
    pool: &Pool,
    operation: Operation,
    request: InvocationRequest,
    tail: bool,
) -> Response<InvokeBody> {
    match operation {
        Operation::Invoke => synchronous(pool, request, tail).await.map(Either::Left),
        Operation::Stream => {
            let request_id = header(request.request_id.as_deref().unwrap_or_default());
            match stream_front::invoke(pool, request, tail).await {
                Ok(mut response) => {
                    response.headers_mut().insert(REQUEST_ID, request_id);
                    response.map(Either::Right)
                }
                Err(failure) => failure.map(Either::Left),
            }
        }
    }
}

/// The event, if it is not too large for such an invocation. Fails with the answer to one that is.
pub(crate) async fn read_event(kind: InvocationType, body: Incoming) -> Result<Bytes, Box<Answered>> {
    let limit = if kind == InvocationType::Event { MAX_ASYNC_EVENT } else { MAX_EVENT };
    match read(body, limit).await {
        Read::Whole(event) => Ok(event),
        Read::TooLarge(size) => Err(Box::new(too_large(kind, size))),
        // Nobody is left to read an answer.
        Read::BrokenOff => Err(Box::new(Response::new(Full::default()))),
    }
}

/// Whether the end of the log is wanted, too.
pub(crate) fn wants_tail(headers: &HeaderMap) -> bool {
    headers.get(LOG_TYPE).is_some_and(|value| value == "Tail")
}

/// Run the invocation. The answer leaves when it was posted; with a log tail, when the log is complete.
async fn synchronous(pool: &Pool, request: InvocationRequest, tail: bool) -> Answered {
    let (sender, receiver) = oneshot::channel();
    // A caller that hung up has dropped the receiver.
    let waiter = if tail {
        Waiter::Finish(Box::new(move |result| {
            let _ = sender.send((result.answer, Some(result.log_tail)));
        }))
    } else {
        Waiter::Answer(Box::new(move |answer| {
            let _ = sender.send((answer, None));
        }))
    };
    if let Err(error) = pool.submit(request, waiter) {
        return refused(&error);
    }
    match receiver.await {
        Ok((answer, log_tail)) => match &answer.service_error {
            Some(failure) => not_run(failure, &answer.request_id),
            None => answered(answer, log_tail.as_deref(), pool),
        },
        Err(_) => service_failure("the invocation was lost"),
    }
}

fn answered(answer: Answer, log_tail: Option<&[u8]>, pool: &Pool) -> Answered {
    let mut response = Response::new(Full::new(answer.payload));
    let headers = response.headers_mut();
    headers.reserve(8);
    headers.insert(CONTENT_TYPE, answer.content_type);
    headers.insert(REQUEST_ID, header(&answer.request_id));
    headers.insert(EXECUTED_VERSION, pool.executed_version());
    headers.insert(REMAPPED_LENGTH, HeaderValue::from_static("0"));
    headers.insert(TRACE_ID, trace_of(&answer.trace_id));
    if answer.is_error {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    if let Some(log_tail) = log_tail {
        headers.insert(LOG_RESULT, header(&STANDARD.encode(log_tail)));
    }
    response
}

/// The trace header as the service writes it back: lower-case keys, root and sampling only.
pub(crate) fn trace_of(trace_id: &HeaderValue) -> HeaderValue {
    let text = trace_id.to_str().unwrap_or_default();
    let member = |name| text.split(';').find_map(|part| part.trim().strip_prefix(name));
    match member("Root=") {
        Some(root) => header(&format!("root={root};sampled={}", member("Sampled=").unwrap_or("0"))),
        None => trace_id.clone(),
    }
}

pub(crate) fn invocation_type(headers: &HeaderMap) -> Result<InvocationType, Box<Answered>> {
    match headers.get(INVOCATION_TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"RequestResponse") => Ok(InvocationType::RequestResponse),
        Some(b"Event") => Ok(InvocationType::Event),
        Some(b"DryRun") => Ok(InvocationType::DryRun),
        Some(other) => Err(unknown_type(other, "Event, RequestResponse, DryRun")),
    }
}

pub(crate) fn unknown_type(given: &[u8], known: &str) -> Box<Answered> {
    let message = format!(
        "1 validation error detected: Value '{}' at 'invocationType' failed to satisfy constraint: \
         Member must satisfy enum value set: [{known}]",
        String::from_utf8_lossy(given)
    );
    let body = document(None, "message", &message);
    Box::new(failure(StatusCode::BAD_REQUEST, "ValidationException", &body))
}

/// What a request asks for. Fails with the answer to one that cannot be.
pub(crate) fn invocation_request(
    headers: &HeaderMap,
    event: Bytes,
) -> Result<InvocationRequest, Box<Answered>> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let client_context = match headers.get(CLIENT_CONTEXT) {
        Some(encoded) if !encoded.is_empty() => Some(client_context(encoded.as_bytes())?),
        _ => None,
    };
    Ok(InvocationRequest {
        // An empty body is an empty object to the handler (spec lambda-service 1.1).
        event: if event.is_empty() { Bytes::from_static(b"{}") } else { event },
        // The service hands every event to the runtime as JSON, whatever the caller called it.
        content_type: None,
        request_id: Some(identifiers::request_id()),
        client_context,
        cognito_identity: text(COGNITO_IDENTITY),
        trace_id: text(TRACE_ID).filter(|trace| !trace.is_empty()),
        tenant_id: text(TENANT_ID),
        invoked_function_arn: None,
        timeout: None,
        quiet: false,
        pieces: None,
    })
}

/// The client context's JSON text.
fn client_context(encoded: &[u8]) -> Result<String, Box<Answered>> {
    let refuse = |why: &str| {
        let message = format!("Could not parse the header X-Amz-Client-Context: {why}");
        Box::new(failure(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContentException",
            &document(Some("User"), "message", &message),
        ))
    };
    let decoded = STANDARD.decode(encoded).map_err(|error| refuse(&format!("it is not base64 ({error})")))?;
    if !error_document::is_json(&decoded) {
        return Err(refuse("what it encodes is not JSON"));
    }
    String::from_utf8(decoded).map_err(|_| refuse("what it encodes is not UTF-8"))
}

pub(crate) enum Read {
    Whole(Bytes),
    TooLarge(usize),
    BrokenOff,
}

/// The body, if it is not longer than `limit`; a longer one is read and dropped.
pub(crate) async fn read(mut body: Incoming, limit: usize) -> Read {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Read::BrokenOff };
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size > DISCARD_LIMIT {
            break;
        }
        if size > limit {
            whole = BytesMut::new();
        } else if first.is_empty() {
            // Most events come in one piece and need no copy.
            first = data;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
    }
    match size {
        size if size > limit => Read::TooLarge(size),
        _ if whole.is_empty() => Read::Whole(first),
        _ => Read::Whole(whole.freeze()),
    }
}

fn too_large(kind: InvocationType, size: usize) -> Answered {
    if kind != InvocationType::Event {
        return request_too_large();
    }
    too_large_because(&format!(
        "{size} byte payload is too large for the Event invocation type (limit {MAX_ASYNC_EVENT} bytes)"
    ))
}

/// The answer to an event that is too large for an invocation that is waited for.
pub(crate) fn request_too_large() -> Answered {
    too_large_because(&format!(
        "Request must be smaller than {MAX_EVENT} bytes for the InvokeFunction operation"
    ))
}

pub(crate) fn too_large_because(message: &str) -> Answered {
    failure(
        StatusCode::PAYLOAD_TOO_LARGE,
        "RequestEntityTooLargeException",
        &document(None, "Message", message),
    )
}

/// The answer where an invocation was not taken.
pub(crate) fn refused(error: &EndpointError) -> Answered {
    match error {
        EndpointError::InvalidHeader { .. }
        | EndpointError::TenantMissing
        | EndpointError::TenantUnexpected => failure(
            StatusCode::BAD_REQUEST,
            "InvalidParameterValueException",
            &document(Some("User"), "message", &error.to_string()),
        ),
        EndpointError::Throttled(throttled) => failure(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequestsException",
            &format!("{{\"Reason\":\"{}\",\"Type\":\"User\",\"message\":\"{error}\"}}", throttled.reason()),
        ),
        other => service_failure(&other.to_string()),
    }
}

/// The answer where the service took an invocation and could not run it.
pub(crate) fn not_run(reason: &ServiceFailure, request_id: &str) -> Answered {
    let status = StatusCode::from_u16(reason.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status.is_server_error() { "Service" } else { "User" };
    // The spelling of the key belongs to the exception; SDKs read either (spec lambda-service 0.4).
    let key = if status.is_server_error() { "Message" } else { "message" };
    let mut response = failure(status, "", &document(Some(kind), key, &reason.message));
    response.headers_mut().insert(ERROR_TYPE, header(&reason.error_type));
    response.headers_mut().insert(REQUEST_ID, header(request_id));
    response
}

pub(crate) fn service_failure(message: &str) -> Answered {
    failure(
        StatusCode::INTERNAL_SERVER_ERROR,
        "ServiceException",
        &document(Some("Service"), "Message", message),
    )
}

pub(crate) fn method_not_allowed() -> Answered {
    let mut response = failure(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowedException",
        &document(Some("User"), "message", "Invoke the function with POST"),
    );
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

/// An error body of the service; the message's key differs from exception to exception (spec lambda-service 0.4).
pub(crate) fn document(kind: Option<&str>, key: &str, message: &str) -> String {
    let mut json = String::from("{");
    if let Some(kind) = kind {
        json.push_str("\"Type\":");
        error_document::push_json_string(&mut json, kind);
        json.push(',');
    }
    error_document::push_json_string(&mut json, key);
    json.push(':');
    error_document::push_json_string(&mut json, message);
    json.push('}');
    json
}

pub(crate) fn failure(status: StatusCode, error_type: &'static str, body: &str) -> Answered {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ERROR_TYPE, HeaderValue::from_static(error_type));
    headers.insert(REQUEST_ID, header(&identifiers::request_id()));
    response
}

pub(crate) fn empty(status: StatusCode, request_id: &str) -> Answered {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response.headers_mut().insert(REQUEST_ID, header(request_id));
    response
}

/// A header value made of text that was checked before.
pub(crate) fn header(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_written_back_in_the_services_form() {
        let trace = HeaderValue::from_static("Root=1-5bef4de7-ad49b0e8;Parent=9a91;Sampled=1;Lineage=a:0");
        assert_eq!(trace_of(&trace), "root=1-5bef4de7-ad49b0e8;sampled=1");
        assert_eq!(trace_of(&HeaderValue::from_static("Root=1-a-b")), "root=1-a-b;sampled=0");
        assert_eq!(trace_of(&HeaderValue::from_static("odd")), "odd");
    }

    #[test]
    fn a_client_context_is_base64_of_json() {
        assert_eq!(client_context(b"eyJhIjoxfQ==").unwrap(), "{\"a\":1}");
        for broken in [&b"%"[..], b"Ym9vbQ==", b"Iv8i"] {
            let refusal = client_context(broken).unwrap_err();
            assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
            assert_eq!(refusal.headers()[ERROR_TYPE], "InvalidRequestContentException");
        }
    }
}
