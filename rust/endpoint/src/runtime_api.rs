//! The Runtime API's routes: what a runtime may ask, and the exact answers (spec runtime-api 1.2 to 1.7).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use caloric_core::protocol;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpStream;

use crate::clock;
use crate::environment::{ConnectionOwner, Owner, Shared};
use crate::error_document::{self, ErrorDocument};
use crate::extensions;
use crate::guard::is_from_web_page;
use crate::http_connection::{self, Client};
use crate::invocation::JSON;
use crate::lifecycle::{Delivery, NextPoll, Posted, Refusal, RuntimeState};
use crate::response_stream::{MAX_STREAM, Piece, PieceSender};
use crate::state_machine::StateMachine;
use crate::telemetry;

/// A whole answer.
pub type Answered = Response<Full<Bytes>>;

/// Answer bodies are read to their end even where nobody wants them, so that the connection can go on; not further
/// than this.
const DISCARD_LIMIT: u64 = 64 * 1024 * 1024;

/// Managed Instances take error documents up to here (spec runtime-api 6.5).
const MAX_MANAGED_ERROR: usize = 1024 * 1024;

/// A debugger was entered: `POST` suspends the time limit of what runs now.
const DEBUGGER_PATH: &str = "/_caloric/debugger";

/// The protocol's header names, parsed once.
struct Names {
    request_id: HeaderName,
    invocation_id: HeaderName,
    deadline_ms: HeaderName,
    function_arn: HeaderName,
    trace_id: HeaderName,
    client_context: HeaderName,
    cognito_identity: HeaderName,
    tenant_id: HeaderName,
    error_type: HeaderName,
    error_body: HeaderName,
    response_mode: HeaderName,
    caloric_deadline_ms: HeaderName,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    // The names are constants of ours and a test parses each of them; none can be refused.
    let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).unwrap_or(CONTENT_TYPE);
    Names {
        request_id: name(protocol::AWS_REQUEST_ID),
        invocation_id: name(protocol::INVOCATION_ID),
        deadline_ms: name(protocol::DEADLINE_MS),
        function_arn: name(protocol::INVOKED_FUNCTION_ARN),
        trace_id: name(protocol::TRACE_ID),
        client_context: name(protocol::CLIENT_CONTEXT),
        cognito_identity: name(protocol::COGNITO_IDENTITY),
        tenant_id: name(protocol::TENANT_ID),
        error_type: name(protocol::FUNCTION_ERROR_TYPE),
        error_body: name(protocol::FUNCTION_ERROR_BODY),
        response_mode: name(protocol::RESPONSE_MODE),
        caloric_deadline_ms: name(protocol::CALORIC_DEADLINE_MS),
    }
});

/// Serve one connection of the runtime until it is closed.
pub async fn serve(stream: TcpStream, shared: Arc<Shared>, owner: ConnectionOwner) {
    let mut builder = http1::Builder::new();
    builder
        // The buffer has room for more than the largest head, so that a larger one is seen for what it is: 431.
        .max_header_size(protocol::MAX_REQUEST_HEAD)
        .max_buf_size(2 * protocol::MAX_REQUEST_HEAD)
        .title_case_headers(true);
    let answer = |request, client| route(request, client, Arc::clone(&shared), owner.clone());
    http_connection::serve(stream, &mut builder, answer).await;
}

async fn route(
    request: Request<Incoming>,
    client: Client,
    shared: Arc<Shared>,
    owner: ConnectionOwner,
) -> Answered {
    // A page could take invocations away from the runtime. Who has been let in once needs not be looked at again.
    if !owner.is_known() && is_from_web_page(request.headers(), shared.is_on_loopback()) {
        discard(request.into_body()).await;
        return error(StatusCode::FORBIDDEN, "Forbidden", "The Runtime API does not answer web pages");
    }
    let path = request.uri().path();
    if path.starts_with(protocol::RUNTIME_PREFIX) {
        owner.set(Owner::Runtime);
    }
    match path {
        protocol::NEXT_PATH => match *request.method() {
            Method::GET => next(&client, &shared).await,
            _ => method_not_allowed(request, "GET").await,
        },
        protocol::INIT_ERROR_PATH => match *request.method() {
            Method::POST => init_error(request, &shared).await,
            _ => method_not_allowed(request, "POST").await,
        },
        protocol::RESTORE_NEXT_PATH if shared.snap_start() => match *request.method() {
            Method::GET => restore_next(&client, &shared).await,
            _ => method_not_allowed(request, "GET").await,
        },
        protocol::RESTORE_ERROR_PATH if shared.snap_start() => match *request.method() {
            Method::POST => restore_error(request, &shared).await,
            _ => method_not_allowed(request, "POST").await,
        },
        protocol::PING_PATH => match *request.method() {
            Method::GET => text(StatusCode::OK, "pong"),
            _ => method_not_allowed(request, "GET").await,
        },
        DEBUGGER_PATH => match *request.method() {
            Method::POST => {
                shared.with(StateMachine::pause_timeout);
                accepted()
            }
            _ => method_not_allowed(request, "POST").await,
        },
        _ => match path.strip_prefix(protocol::INVOCATION_PREFIX).and_then(|rest| rest.split_once('/')) {
            Some((request_id, kind @ ("response" | "error"))) if !request_id.is_empty() => {
                if request.method() != Method::POST {
                    return method_not_allowed(request, "POST").await;
                }
                let request_id = request_id.to_owned();
                let state = if kind == "response" {
                    RuntimeState::InvocationResponse
                } else {
                    RuntimeState::InvocationErrorResponse
                };
                answer(request, &request_id, state, &shared).await
            }
            // Also the restore routes, where SnapStart is off.
            _ => extension_route(request, &client, &shared, &owner).await,
        },
    }
}

async fn extension_route(
    request: Request<Incoming>,
    client: &Client,
    shared: &Shared,
    owner: &ConnectionOwner,
) -> Answered {
    let path = request.uri().path();
    if extensions::routes::is_ours(path) {
        return extensions::routes::route(request, client, shared, owner).await;
    }
    match telemetry::routes::api_of(path) {
        Some(api) => telemetry::routes::route(request, api, shared, owner).await,
        None => not_found(request).await,
    }
}

// ---- GET /runtime/invocation/next ------------------------------------------------------------------------------

async fn next(client: &Client, shared: &Shared) -> Answered {
    match LongPoll::new(shared, client, StateMachine::poll_next).await {
        Some(Ok(delivery)) => {
            shared.handed_out();
            event(delivery, shared)
        }
        Some(Err(refusal)) => refused(refusal),
        None => nobody_there(),
    }
}

/// `GET /runtime/restore/next`: the same wait, for nothing but its end.
async fn restore_next(client: &Client, shared: &Shared) -> Answered {
    match LongPoll::new(shared, client, StateMachine::poll_restore).await {
        Some(Ok(())) => Response::new(Full::default()),
        Some(Err(refusal)) => refused(refusal),
        None => nobody_there(),
    }
}

/// An answer that nobody will read.
fn nobody_there() -> Answered {
    error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal Server Error")
}

/// How a poller looks whether its time has come.
type Look<T> = fn(&mut StateMachine, u64, &Waker, Instant) -> NextPoll<T>;

/// Waits until this poller is told something; `None` if the poller goes away.
struct LongPoll<'a, T> {
    shared: &'a Shared,
    client: &'a Client,
    poller: u64,
    registered: bool,
    look: Look<T>,
}

impl<'a, T> LongPoll<'a, T> {
    fn new(shared: &'a Shared, client: &'a Client, look: Look<T>) -> Self {
        Self { shared, client, poller: shared.next_poller(), registered: false, look }
    }
}

impl<T> Future for LongPoll<'_, T> {
    type Output = Option<Result<T, Refusal>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (poller, look) = (self.poller, self.look);
        // Who has waited, and hung up meanwhile, is to get nothing: it would be lost.
        if self.registered && self.client.poll_hung_up(context).is_ready() {
            return Poll::Ready(None);
        }
        match self.shared.with(|machine| look(machine, poller, context.waker(), self.shared.now())) {
            NextPoll::Deliver(delivery) => {
                self.registered = false;
                Poll::Ready(Some(Ok(delivery)))
            }
            NextPoll::Refused(refusal) => {
                self.registered = false;
                Poll::Ready(Some(Err(refusal)))
            }
            NextPoll::Pending => {
                self.registered = true;
                self.client.poll_hung_up(context).map(|()| None)
            }
        }
    }
}

impl<T> Drop for LongPoll<'_, T> {
    fn drop(&mut self) {
        if self.registered {
            self.shared.with(|lifecycle| lifecycle.drop_poller(self.poller, self.shared.now()));
        }
    }
}

fn event(delivery: Box<Delivery>, shared: &Shared) -> Answered {
    let names = &*NAMES;
    let mut response = Response::new(Full::new(delivery.event));
    let headers = response.headers_mut();
    headers.reserve(10);
    headers.append(&names.request_id, delivery.request_id);
    headers.append(&names.invocation_id, delivery.invocation_id);
    headers.append(&names.deadline_ms, HeaderValue::from(delivery.deadline_ms));
    let function_arn = delivery.invoked_function_arn.unwrap_or_else(|| shared.function_arn.clone());
    headers.append(&names.function_arn, function_arn);
    headers.append(&names.trace_id, delivery.trace_id);
    if let Some(client_context) = delivery.client_context {
        headers.append(&names.client_context, client_context);
    }
    if let Some(cognito_identity) = delivery.cognito_identity {
        headers.append(&names.cognito_identity, cognito_identity);
    }
    if let Some(tenant_id) = delivery.tenant_id {
        headers.append(&names.tenant_id, tenant_id);
    }
    if shared.tells_time() {
        let deadline_ms = clock::shown_unix_ms(delivery.times_out);
        headers.append(&names.caloric_deadline_ms, HeaderValue::from(deadline_ms));
    }
    headers.append(CONTENT_TYPE, delivery.content_type);
    response
}

// ---- POST /runtime/invocation/<id>/response and /error ---------------------------------------------------------

async fn answer(
    request: Request<Incoming>,
    request_id: &str,
    state: RuntimeState,
    shared: &Shared,
) -> Answered {
    let names = &*NAMES;
    let (head, body) = request.into_parts();
    let invocation_id = head.headers.get(&names.invocation_id).map(HeaderValue::as_bytes);
    let attempt = match shared
        .with(|lifecycle| lifecycle.begin_answer(request_id, invocation_id, state, shared.now()))
    {
        Ok(attempt) => attempt,
        Err(refusal) => {
            discard(body).await;
            return refused(refusal);
        }
    };
    let upload = Upload { shared, request_id, attempt, open: true };
    let mode = head.headers.get(&names.response_mode).map_or(&[][..], HeaderValue::as_bytes);
    if state == RuntimeState::InvocationResponse && !matches!(mode, b"" | b"streaming") {
        discard(body).await;
        let message = format!("Invalid value in header {}", protocol::RESPONSE_MODE);
        let document = ErrorDocument::of_request("Runtime.InvalidResponseModeHeader", request_id, &message);
        return match upload.complete(Posted::Failed(document)).await {
            Ok(()) => error(
                StatusCode::BAD_REQUEST,
                "InvalidFunctionResponseMode",
                "Invalid function response mode",
            ),
            Err(refusal) => refused(refusal),
        };
    }
    if mode == b"streaming"
        && let Some(pieces) = shared.with(|lifecycle| lifecycle.take_pieces(attempt))
    {
        return stream(body, &head.headers, pieces, upload).await;
    }
    // If the upload breaks off, the guard is dropped on the way out, here or with this whole future.
    let limit = if state == RuntimeState::InvocationResponse {
        protocol::MAX_PAYLOAD_SIZE
    } else {
        error_limit(shared)
    };
    let Some(collected) = collect(body, limit).await else {
        drop(upload);
        return truncated();
    };
    let payload = match collected.payload {
        Payload::Whole(payload) => payload,
        Payload::TooLarge(size) => {
            let document = ErrorDocument::response_too_large(size, limit);
            return upload
                .complete(Posted::Failed(document))
                .await
                .map_or_else(refused, |()| too_large(limit));
        }
    };
    let posted = if state == RuntimeState::InvocationResponse {
        posted_response(payload, &head.headers, collected.trailers.as_ref())
    } else {
        posted_error(payload, &head.headers)
    };
    upload.complete(posted).await.map_or_else(refused, |()| accepted())
}

/// Hand a response on as it comes (spec runtime-api 2.6). The runtime hears that it was accepted at its end.
async fn stream(
    mut body: Incoming,
    headers: &HeaderMap,
    pieces: PieceSender,
    upload: Upload<'_>,
) -> Answered {
    let content_type = headers.get(CONTENT_TYPE).cloned();
    pieces.send(Piece::Head { content_type: content_type.clone().unwrap_or(OCTETS) }).await;
    let mut size = 0;
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        // The guard tells the caller of a stream that breaks off.
        let Ok(frame) = frame else { return truncated() };
        match frame.into_data() {
            Ok(mut data) => {
                let room = MAX_STREAM - size;
                size += data.len() as u64;
                if size > MAX_STREAM {
                    data.truncate(usize::try_from(room).unwrap_or(usize::MAX));
                    pieces.send(Piece::Data(data)).await;
                    let limit = usize::try_from(MAX_STREAM).unwrap_or(usize::MAX);
                    let document = ErrorDocument::response_too_large(size, limit);
                    drop(pieces);
                    return upload
                        .complete(Posted::Failed(document))
                        .await
                        .map_or_else(refused, |()| too_large(limit));
                }
                pieces.send(Piece::Data(data)).await;
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    drop(pieces);
    let posted = match posted_response(Bytes::new(), headers, trailers.as_ref()) {
        Posted::Response { content_type, .. } => Posted::Streamed { content_type },
        error => error,
    };
    upload.complete(posted).await.map_or_else(refused, |()| accepted())
}

/// A response; error trailers make it an error (spec runtime-api 2.2). A mode header is not asked for: Go's runtime
/// sends the trailers without one.
fn posted_response(payload: Bytes, headers: &HeaderMap, trailers: Option<&HeaderMap>) -> Posted {
    let content_type = headers.get(CONTENT_TYPE).cloned();
    let Some(trailers) = trailers else { return Posted::Response { payload, content_type } };
    let text = |name: &HeaderName| trailers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let error_type = text(&NAMES.error_type);
    let error_body = text(&NAMES.error_body);
    if error_type.is_none() && error_body.is_none() {
        return Posted::Response { payload, content_type };
    }
    let payload = match &error_body {
        Some(body) => decode_leniently(body),
        None => ErrorDocument::new(error_type.as_deref().unwrap_or_default(), "").body,
    };
    Posted::Error {
        payload,
        content_type: Some(JSON),
        error_type: error_document::logged_error_type(error_type.as_deref()),
    }
}

/// An error: forwarded as it is, but for the one content type that carries the X-Ray cause in its body
/// (spec runtime-api 1.5).
fn posted_error(payload: Bytes, headers: &HeaderMap) -> Posted {
    let error_type = headers.get(&NAMES.error_type).and_then(|value| value.to_str().ok());
    let error_type = error_document::logged_error_type(error_type);
    let content_type = headers.get(CONTENT_TYPE).cloned();
    if content_type.as_ref().is_some_and(|kind| kind == "application/vnd.aws.lambda.error.cause+json") {
        let (payload, content_type) = match error_document::without_cause(&payload) {
            Some(document) => (document.into(), JSON),
            None => (Bytes::from_static(b"\"Invalid error body\""), OCTETS),
        };
        return Posted::Error { payload, content_type: Some(content_type), error_type };
    }
    Posted::Error { payload, content_type, error_type }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Base64 as it comes: with or without padding, in either alphabet; what is no base64 is taken as it stands.
fn decode_leniently(text: &str) -> Bytes {
    let compact: String = text
        .chars()
        .filter(|character| !character.is_ascii_whitespace() && *character != '=')
        .map(|character| match character {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(&compact)
        .map_or_else(|_| Bytes::copy_from_slice(text.as_bytes()), Bytes::from)
}

/// An answer on its way in. Dropped before its end (the client hung up), the invocation is answered with that.
struct Upload<'a> {
    shared: &'a Shared,
    request_id: &'a str,
    attempt: u64,
    open: bool,
}

impl Upload<'_> {
    async fn complete(mut self, posted: Posted) -> Result<(), Refusal> {
        self.open = false;
        let (outcome, somebody_waits) = self.shared.with(|lifecycle| {
            let outcome = lifecycle.finish_answer(self.attempt, posted, self.shared.now());
            (outcome, !lifecycle.sandbox().effects.answers.is_empty())
        });
        if somebody_waits {
            // The caller's answer leaves before the end of the invocation is seen to, which the runtime's next poll,
            // sent together with its answer, would have us do first.
            give_way().await;
        }
        outcome
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if self.open {
            let message = "The response was truncated: the connection was closed before its end";
            let document = ErrorDocument::of_request("Runtime.TruncatedResponse", self.request_id, message);
            // An attempt that is over by now needs no answer.
            let _ = self.shared.with(|lifecycle| {
                lifecycle.finish_answer(self.attempt, Posted::Failed(document), self.shared.now())
            });
        }
    }
}

/// Let the tasks run that are ready, without a look at the sockets as in tokio's `yield_now`.
async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|context| {
        if given {
            return Poll::Ready(());
        }
        given = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

// ---- POST /runtime/init/error ----------------------------------------------------------------------------------

async fn init_error(request: Request<Incoming>, shared: &Shared) -> Answered {
    failed_start(request, shared, StateMachine::begin_init_error, StateMachine::finish_init_error).await
}

/// `POST /runtime/restore/error`
async fn restore_error(request: Request<Incoming>, shared: &Shared) -> Answered {
    failed_start(request, shared, StateMachine::begin_restore_error, StateMachine::finish_restore_error).await
}

/// An error that belongs to no invocation.
async fn failed_start(
    request: Request<Incoming>,
    shared: &Shared,
    begin: fn(&StateMachine) -> Result<(), Refusal>,
    finish: fn(&mut StateMachine, Bytes, HeaderValue, String, Instant) -> Result<(), Refusal>,
) -> Answered {
    let (head, body) = request.into_parts();
    let checked = shared.with(|machine| {
        machine.greet_new_runtime(shared.now());
        begin(machine)
    });
    if let Err(refusal) = checked {
        discard(body).await;
        return refused(refusal);
    }
    let limit = error_limit(shared);
    let Some(collected) = collect(body, limit).await else {
        return truncated();
    };
    let error_type = head.headers.get(&NAMES.error_type).and_then(|value| value.to_str().ok());
    let error_type = error_document::logged_error_type(error_type);
    let (payload, content_type, reply) = match collected.payload {
        Payload::Whole(payload) => {
            let content_type = if error_document::is_json(&payload) { JSON } else { OCTETS };
            (payload, content_type, accepted())
        }
        Payload::TooLarge(size) => {
            let document = ErrorDocument::response_too_large(size, limit);
            (document.body, JSON, too_large(limit))
        }
    };
    shared
        .with(|machine| finish(machine, payload, content_type, error_type, shared.now()))
        .map_or_else(refused, |()| reply)
}

// ---- bodies ----------------------------------------------------------------------------------------------------

/// The largest error document, in bytes.
fn error_limit(shared: &Shared) -> usize {
    if shared.is_managed() { MAX_MANAGED_ERROR } else { protocol::MAX_PAYLOAD_SIZE }
}

struct Collected {
    payload: Payload,
    trailers: Option<HeaderMap>,
}

enum Payload {
    Whole(Bytes),
    /// Read to its end and not kept.
    TooLarge(u64),
}

/// A body and its trailers, however they were framed; `None` if it broke off.
async fn collect(mut body: Incoming, limit: usize) -> Option<Collected> {
    let announced = body.size_hint().exact();
    let mut trailers = None;
    let mut whole = BytesMut::new();
    let mut size = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = match frame.ok()?.into_data() {
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        size += frame.len() as u64;
        if size > limit as u64 {
            whole = BytesMut::new();
            continue;
        }
        if announced == Some(frame.len() as u64) {
            // It came in one piece: no copy.
            return Some(Collected { payload: Payload::Whole(frame), trailers });
        }
        if whole.is_empty() {
            let expected = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
            whole.reserve(expected.clamp(frame.len(), limit));
        }
        whole.extend_from_slice(&frame);
    }
    let payload = if size > limit as u64 { Payload::TooLarge(size) } else { Payload::Whole(whole.freeze()) };
    Some(Collected { payload, trailers })
}

/// A body of an API that is sent small documents; the answer if it broke off or is no small document.
pub async fn read_whole(body: Incoming) -> Result<Bytes, Box<Answered>> {
    let limit = protocol::MAX_PAYLOAD_SIZE;
    match collect(body, limit).await.map(|collected| collected.payload) {
        Some(Payload::Whole(payload)) => Ok(payload),
        Some(Payload::TooLarge(_)) => Err(Box::new(too_large(limit))),
        None => Err(Box::new(truncated())),
    }
}

/// Read a refused body, so that its sender comes to read the answer and may go on using the connection.
pub async fn discard(mut body: Incoming) {
    let mut size = 0;
    while let Some(Ok(frame)) = body.frame().await {
        size += frame.data_ref().map_or(0, |data| data.len() as u64);
        if size > DISCARD_LIMIT {
            return;
        }
    }
}

// ---- answers ---------------------------------------------------------------------------------------------------

/// 202.
pub fn accepted() -> Answered {
    json(StatusCode::ACCEPTED, Bytes::from_static(b"{\"status\":\"OK\"}\n"))
}

/// The answer to a body that broke off.
fn truncated() -> Answered {
    error(StatusCode::BAD_REQUEST, "TruncatedHTTPRequest", "HTTP request detected as truncated")
}

fn too_large(limit: usize) -> Answered {
    let message = format!("Exceeded maximum allowed payload size ({limit} bytes).");
    error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message)
}

fn refused(refusal: Refusal) -> Answered {
    match refusal {
        Refusal::InvalidRequestId => error(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID"),
        // What the platform says to an answer for another attempt is not known; newer clients expect 410, as for one
        // that comes too late, and 400 would be the alternative (spec runtime-api 6.5).
        Refusal::InvokeTimeout | Refusal::OtherAttempt => {
            error(StatusCode::GONE, "InvokeTimeout", "Invoke timeout")
        }
        Refusal::TooManyIdleRuntimes => {
            let message = "More requests for an invocation than AWS_LAMBDA_MAX_CONCURRENCY allows";
            error(StatusCode::INTERNAL_SERVER_ERROR, "Runtime.TooManyIdleRuntimes", message)
        }
        Refusal::InvalidTransition { from, to } => {
            let message = format!(
                "State transition from {} to {} failed for runtime. Error: State transition is not allowed",
                from.name(),
                to.name()
            );
            error(StatusCode::FORBIDDEN, "InvalidStateTransition", &message)
        }
    }
}

/// The platform's `ErrorResponse`, with the line end Go's encoder writes.
pub fn error(status: StatusCode, error_type: &str, message: &str) -> Answered {
    let mut body = String::from("{\"errorMessage\":");
    error_document::push_json_string(&mut body, message);
    body.push_str(",\"errorType\":");
    error_document::push_json_string(&mut body, error_type);
    body.push_str("}\n");
    json(status, body.into())
}

/// A JSON document.
pub fn json(status: StatusCode, body: Bytes) -> Answered {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Nothing is there. What comes with the request is read all the same: hyper closes a connection on which something was
/// left unread, and a runtime may go on with it.
async fn not_found(request: Request<Incoming>) -> Answered {
    discard(request.into_body()).await;
    let mut response = text(StatusCode::NOT_FOUND, "404 page not found\n");
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The path has another method. What comes with the request is read, as above.
pub async fn method_not_allowed(request: Request<Incoming>, allowed: &'static str) -> Answered {
    discard(request.into_body()).await;
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn text(status: StatusCode, body: &'static str) -> Answered {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_name_is_a_header_name() {
        assert_eq!(NAMES.request_id, "lambda-runtime-aws-request-id");
        assert_eq!(NAMES.invocation_id, "lambda-runtime-invocation-id");
        assert_eq!(NAMES.deadline_ms, "lambda-runtime-deadline-ms");
        assert_eq!(NAMES.function_arn, "lambda-runtime-invoked-function-arn");
        assert_eq!(NAMES.trace_id, "lambda-runtime-trace-id");
        assert_eq!(NAMES.client_context, "lambda-runtime-client-context");
        assert_eq!(NAMES.cognito_identity, "lambda-runtime-cognito-identity");
        assert_eq!(NAMES.tenant_id, "lambda-runtime-aws-tenant-id");
        assert_eq!(NAMES.error_type, "lambda-runtime-function-error-type");
        assert_eq!(NAMES.error_body, "lambda-runtime-function-error-body");
        assert_eq!(NAMES.response_mode, "lambda-runtime-function-response-mode");
        assert_eq!(NAMES.caloric_deadline_ms, "caloric-deadline-ms");
    }

    #[test]
    fn trailer_bodies_are_decoded_leniently() {
        for text in ["eyJhIjoxfQ==", "eyJhIjoxfQ", " eyJh IjoxfQ== "] {
            assert_eq!(decode_leniently(text), "{\"a\":1}", "{text}");
        }
        assert_eq!(decode_leniently("-_-_"), decode_leniently("+/+/"));
        assert_eq!(decode_leniently("not base64!"), "not base64!");
    }
}
