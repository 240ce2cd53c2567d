//! The invoke path of the Lambda service, for one function (spec lambda-service 1.1 to 1.6).
//!
//! Any function name in the path reaches the pool's one function. An invocation is run by the environment that is free;
//! who comes when none is waits, in the order of arrival.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use crate::environment::{listen, next_connection};
use crate::error::EndpointError;
use crate::error_document;
use crate::http_connection;
use crate::identifiers;
use crate::invocation::{Answer, InvocationRequest, JSON, Waiter};
use crate::pool::Pool;
use crate::runtime_thread;
use crate::stream_front::{self, MessageBody};
use crate::url_front::{self, Ends, InvokeMode};

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

/// A port that takes invocations for a pool of environments, until it is closed or dropped: the service's invoke path, or
/// the function's URL.
pub struct HttpFront {
    address: SocketAddr,
    task: Mutex<Option<AbortHandle>>,
}

impl HttpFront {
    /// Listen on `host:port`; port 0 takes a free one. With `url` every path is the function's, as with a function URL.
    ///
    /// Fails with [`EndpointError::Bind`] if that is not possible.
    pub fn new(pool: Pool, host: &str, port: u16, url: Option<InvokeMode>) -> Result<Self, EndpointError> {
        let handle = runtime_thread::handle()?;
        let (listener, address) = listen(&handle, host, port)?;
        let task = handle.spawn(accept(listener, pool, url)).abort_handle();
        Ok(Self { address, task: Mutex::new(Some(task)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stop listening and drop every connection; invocations that run go on. Idempotent.
    pub fn close(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Drop for HttpFront {
    fn drop(&mut self) {
        self.close();
    }
}

async fn accept(listener: TcpListener, pool: Pool, url: Option<InvokeMode>) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = next_connection(&listener) => {
                connections.spawn(serve(stream, pool.clone(), url));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, pool: Pool, url: Option<InvokeMode>) {
    let mut builder = http1::Builder::new();
    // A client that goes away loses its answer; the invocation runs on, as in Lambda.
    match url {
        None => http_connection::serve(stream, &mut builder, |request, _| route(request, pool.clone())).await,
        Some(mode) => {
            // Who is gone already needs no answer.
            let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else { return };
            let answer = |request, _| {
                let pool = pool.clone();
                async move { url_front::answer(request, &pool, mode, Ends { client, server }).await }
            };
            http_connection::serve(stream, &mut builder, answer).await;
        }
    }
}

async fn route(request: Request<Incoming>, pool: Pool) -> Response<Either<Full<Bytes>, MessageBody>> {
    let path = request.uri().path();
    let names_function = |prefix, suffix| {
        let name: Option<&str> = path.strip_prefix(prefix).and_then(|rest: &str| rest.strip_suffix(suffix));
        // ARNs arrive percent-encoded or plain; there is one function whatever it is called.
        name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
    };
    if names_function(INVOKE_PREFIX, INVOKE_SUFFIX) {
        if request.method() == Method::POST {
            return invoke(request, &pool).await.map(Either::Left);
        }
        read(request.into_body(), 0).await;
        return method_not_allowed().map(Either::Left);
    }
    let streams = names_function(STREAM_PREFIX, STREAM_SUFFIX);
    if streams && request.method() == Method::POST {
        return invoke_with_response_stream(request, &pool).await;
    }
    // Or hyper would close the connection, on which more may come.
    read(request.into_body(), 0).await;
    if streams {
        return method_not_allowed().map(Either::Left);
    }
    failure(
        StatusCode::NOT_FOUND,
        "ResourceNotFoundException",
        "{\"Type\":\"User\",\"Message\":\"Nothing is here. Invoke the function with \
         POST /2015-03-31/functions/function/invocations\"}",
    )
    .map(Either::Left)
}

/// How the caller wants to be answered.
enum InvocationType {
    RequestResponse,
    Event,
    DryRun,
}

async fn invoke(request: Request<Incoming>, pool: &Pool) -> Answered {
    let Asked { kind, tail, request } = match ask(request).await {
        Ok(asked) => asked,
        Err(failure) => return *failure,
    };
    let request_id = request.request_id.clone().unwrap_or_default();
    match kind {
        InvocationType::DryRun => empty(StatusCode::NO_CONTENT, &request_id),
        InvocationType::Event => match pool.submit(request, Waiter::Nobody) {
            Ok(()) => empty(StatusCode::ACCEPTED, &request_id),
            Err(error) => refused(&error),
        },
        InvocationType::RequestResponse => synchronous(pool, request, tail).await,
    }
}

/// `InvokeWithResponseStream` (spec lambda-service 1.7).
async fn invoke_with_response_stream(
    request: Request<Incoming>,
    pool: &Pool,
) -> Response<Either<Full<Bytes>, MessageBody>> {
    let answered = match ask(request).await {
        Ok(Asked { kind: InvocationType::RequestResponse, tail, request }) => {
            let request_id = request.request_id.clone().unwrap_or_default();
            match stream_front::invoke(pool, request, tail).await {
                Ok(mut response) => {
                    response.headers_mut().insert(REQUEST_ID, header(&request_id));
                    return response.map(Either::Right);
                }
                Err(error) => refused(&error),
            }
        }
        Ok(Asked { kind: InvocationType::DryRun, request, .. }) => {
            empty(StatusCode::NO_CONTENT, &request.request_id.unwrap_or_default())
        }
        Ok(Asked { kind: InvocationType::Event, .. }) => *unknown_type(b"Event", "RequestResponse, DryRun"),
        Err(failure) => *failure,
    };
    answered.map(Either::Left)
}

/// What a request asks for.
struct Asked {
    kind: InvocationType,
    /// The end of the log is wanted, too.
    tail: bool,
    request: InvocationRequest,
}

/// Read a request. Fails with the answer to one that is none.
async fn ask(request: Request<Incoming>) -> Result<Asked, Box<Answered>> {
    let (head, body) = request.into_parts();
    let kind = match invocation_type(&head.headers) {
        Ok(kind) => kind,
        Err(failure) => {
            read(body, 0).await;
            return Err(failure);
        }
    };
    let limit = if matches!(kind, InvocationType::Event) { MAX_ASYNC_EVENT } else { MAX_EVENT };
    let event = match read(body, limit).await {
        Read::Whole(event) => event,
        Read::TooLarge(size) => return Err(Box::new(too_large(&kind, size))),
        // Nobody is left to read an answer.
        Read::BrokenOff => return Err(Box::new(Response::new(Full::default()))),
    };
    let request = invocation_request(&head.headers, event)?;
    let tail = head.headers.get(LOG_TYPE).is_some_and(|value| value == "Tail");
    Ok(Asked { kind, tail, request })
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
        Ok((answer, log_tail)) => answered(answer, log_tail.as_deref(), pool),
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

fn invocation_type(headers: &HeaderMap) -> Result<InvocationType, Box<Answered>> {
    match headers.get(INVOCATION_TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"RequestResponse") => Ok(InvocationType::RequestResponse),
        Some(b"Event") => Ok(InvocationType::Event),
        Some(b"DryRun") => Ok(InvocationType::DryRun),
        Some(other) => Err(unknown_type(other, "Event, RequestResponse, DryRun")),
    }
}

fn unknown_type(given: &[u8], known: &str) -> Box<Answered> {
    let message = format!(
        "1 validation error detected: Value '{}' at 'invocationType' failed to satisfy constraint: \
         Member must satisfy enum value set: [{known}]",
        String::from_utf8_lossy(given)
    );
    let body = document(None, "message", &message);
    Box::new(failure(StatusCode::BAD_REQUEST, "ValidationException", &body))
}

fn invocation_request(headers: &HeaderMap, event: Bytes) -> Result<InvocationRequest, Box<Answered>> {
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

fn too_large(kind: &InvocationType, size: usize) -> Answered {
    if !matches!(kind, InvocationType::Event) {
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

fn too_large_because(message: &str) -> Answered {
    failure(
        StatusCode::PAYLOAD_TOO_LARGE,
        "RequestEntityTooLargeException",
        &document(None, "Message", message),
    )
}

/// The answer where an invocation was not taken.
pub(crate) fn refused(error: &EndpointError) -> Answered {
    match error {
        EndpointError::InvalidHeader { .. } => failure(
            StatusCode::BAD_REQUEST,
            "InvalidParameterValueException",
            &document(Some("User"), "message", &error.to_string()),
        ),
        other => service_failure(&other.to_string()),
    }
}

fn service_failure(message: &str) -> Answered {
    failure(
        StatusCode::INTERNAL_SERVER_ERROR,
        "ServiceException",
        &document(Some("Service"), "Message", message),
    )
}

fn method_not_allowed() -> Answered {
    let mut response = failure(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowedException",
        &document(Some("User"), "message", "Invoke the function with POST"),
    );
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

/// An error body of the service; the message's key differs from exception to exception (spec lambda-service 0.4).
fn document(kind: Option<&str>, key: &str, message: &str) -> String {
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

fn failure(status: StatusCode, error_type: &'static str, body: &str) -> Answered {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ERROR_TYPE, HeaderValue::from_static(error_type));
    headers.insert(REQUEST_ID, header(&identifiers::request_id()));
    response
}

fn empty(status: StatusCode, request_id: &str) -> Answered {
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
