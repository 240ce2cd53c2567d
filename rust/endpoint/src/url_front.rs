//! A function URL: every path is the function's (spec lambda-service 4.3 to 4.7).

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Version};
use tokio::sync::{mpsc, oneshot};

use crate::error::EndpointError;
use crate::http_event::{Circumstances, event_of};
use crate::http_response::{Prelude, has_prelude, of_result, of_unstreamed};
use crate::identifiers;
use crate::invocation::{InvocationRequest, Waiter};
use crate::invoke_path::{MAX_EVENT, REQUEST_ID, Read, TRACE_ID, header, read, refused, request_too_large};
use crate::pool::Pool;
use crate::stream_front::{Beginning, Streamed};

/// How a function URL answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvokeMode {
    /// When the result is complete: its members are the response's (`BUFFERED`).
    Buffered,
    /// While it comes (`RESPONSE_STREAM`).
    ResponseStream,
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub client: SocketAddr,
    pub server: SocketAddr,
}

/// Run the function for a request.
pub async fn answer(
    request: Request<Incoming>,
    pool: &Pool,
    mode: InvokeMode,
    ends: Ends,
) -> Response<UrlBody> {
    let (head, body) = request.into_parts();
    let request_id = identifiers::request_id();
    let trace_id = head
        .headers
        .get(TRACE_ID)
        .map(|sent| String::from_utf8_lossy(sent.as_bytes()).into_owned())
        .filter(|sent| !sent.is_empty())
        .unwrap_or_else(identifiers::trace_id);
    let mut response = match read(body, MAX_EVENT).await {
        Read::Whole(body) => {
            let at = SystemTime::now();
            let circumstances = Circumstances {
                request_id: &request_id,
                trace_id: &trace_id,
                at,
                client: ends.client,
                server: ends.server,
            };
            let event = event_of(&head, &body, &circumstances);
            // It is the event that may not be larger: base64 counts.
            if event.len() > MAX_EVENT {
                request_too_large().map(Either::Left)
            } else {
                let request = InvocationRequest {
                    event: event.into(),
                    request_id: Some(request_id.clone()),
                    trace_id: Some(trace_id.clone()),
                    ..Default::default()
                };
                match invoke(pool, mode, request).await {
                    Ok(response) => response,
                    Err(error) => refused(&error).map(Either::Left),
                }
            }
        }
        Read::TooLarge(_) => request_too_large().map(Either::Left),
        // Nobody is left to read an answer.
        Read::BrokenOff => Response::new(Either::Left(Full::default())),
    };
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, header(&request_id));
    headers.insert(TRACE_ID, header(&trace_of(&trace_id)));
    keep_alive(&head, headers);
    response
}

async fn invoke(
    pool: &Pool,
    mode: InvokeMode,
    request: InvocationRequest,
) -> Result<Response<UrlBody>, EndpointError> {
    match mode {
        InvokeMode::Buffered => buffered(pool, request).await,
        InvokeMode::ResponseStream => streamed(pool, request).await,
    }
}

async fn buffered(pool: &Pool, request: InvocationRequest) -> Result<Response<UrlBody>, EndpointError> {
    let (sender, receiver) = oneshot::channel();
    // A caller that hung up has dropped the receiver.
    let waiter = Waiter::Answer(Box::new(move |answer| {
        let _ = sender.send(answer);
    }));
    pool.submit(request, waiter)?;
    let answer = receiver.await.map_err(|_| EndpointError::Closed)?;
    let response = if answer.is_error { None } else { of_result(&answer.payload, &answer.content_type) };
    Ok(response.map_or_else(bad_gateway, whole))
}

async fn streamed(pool: &Pool, request: InvocationRequest) -> Result<Response<UrlBody>, EndpointError> {
    let mut streamed = Streamed::submit(pool, request, false)?;
    let content_type = match streamed.beginning().await? {
        Beginning::Whole(end) if end.answer.is_error => return Ok(bad_gateway()),
        Beginning::Whole(end) => {
            let response = of_unstreamed(&end.answer.payload, &end.answer.content_type);
            return Ok(response.map_or_else(bad_gateway, whole));
        }
        Beginning::Stream { content_type } => content_type,
    };
    let (head, first) = if has_prelude(&content_type) {
        match prelude(&mut streamed).await {
            Some(begun) => begun,
            None => return Ok(bad_gateway()),
        }
    } else {
        // An error before the first byte is told by the status, which therefore waits for it.
        let first = streamed.next().await;
        if first.is_none() && streamed.end().await?.answer.is_error {
            return Ok(bad_gateway());
        }
        let mut head = Response::new(());
        head.headers_mut().insert(CONTENT_TYPE, content_type);
        match first {
            Some(first) => (head, first),
            None => return Ok(whole(head.map(|()| Bytes::new()))),
        }
    };
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(pass_on(streamed, first, sender));
    Ok(head.map(|()| Either::Right(StreamedBody { pieces, cut_off: false })))
}

/// Read a stream's prelude: the response's head, and what there is of its body. `None` if it is unusable, or an error
/// came in its place.
async fn prelude(streamed: &mut Streamed) -> Option<(Response<()>, Bytes)> {
    let mut bytes = BytesMut::new();
    while let Some(data) = streamed.next().await {
        bytes.extend_from_slice(&data);
        match Prelude::read(&bytes.clone().freeze()) {
            Prelude::Open => {}
            Prelude::Whole { head, body } => return Some((head, body)),
            Prelude::Unusable => return None,
        }
    }
    None
}

/// Hand a stream on until it ends, or its reader is gone: the endpoint forgets the rest then.
async fn pass_on(mut streamed: Streamed, first: Bytes, sender: mpsc::Sender<Result<Bytes, CutOff>>) {
    let mut next = Some(first);
    while let Some(data) = next {
        if !data.is_empty() && sender.send(Ok(data)).await.is_err() {
            return;
        }
        next = streamed.next().await;
    }
    if !streamed.end().await.is_ok_and(|end| !end.answer.is_error) {
        let _ = sender.send(Err(CutOff)).await;
    }
}

fn whole(response: Response<Bytes>) -> Response<UrlBody> {
    response.map(|body| Either::Left(Full::new(body)))
}

/// The answer for a function that failed, or whose response is unusable (spec lambda-service 4.6).
fn bad_gateway() -> Response<UrlBody> {
    let mut response = whole(Response::new(Bytes::from_static(b"Internal Server Error")));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The trace header as function URLs write it back: root and sampling.
fn trace_of(trace_id: &str) -> String {
    let member = |name| trace_id.split(';').find_map(|part| part.trim().strip_prefix(name));
    match member("Root=") {
        Some(root) => format!("Root={root};Sampled={}", member("Sampled=").unwrap_or("0")),
        None => trace_id.to_owned(),
    }
}

/// Say that the connection stays, as the service does, unless it does not.
fn keep_alive(request: &Parts, headers: &mut HeaderMap) {
    let closes = request.headers.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    });
    if request.version == Version::HTTP_11 && !closes {
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
    }
}

/// A response's body, whole or as it comes.
pub type UrlBody = Either<Full<Bytes>, StreamedBody>;

/// A body that is sent while the function makes it.
pub struct StreamedBody {
    pieces: mpsc::Receiver<Result<Bytes, CutOff>>,
    cut_off: bool,
}

impl Body for StreamedBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if self.cut_off {
            return Poll::Ready(Some(Err(CutOff)));
        }
        match ready!(self.pieces.poll_recv(context)) {
            Some(Ok(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Err(CutOff)) => {
                // An error makes hyper forget what it has not written: in its next turn it has.
                self.cut_off = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

/// The function failed in the middle of its response: the connection ends before the body does.
#[derive(Debug, Clone, Copy)]
pub struct CutOff;

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the function failed in the middle of its response")
    }
}

impl Error for CutOff {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_written_back_in_the_form_of_function_urls() {
        assert_eq!(trace_of("Root=1-a-b;Parent=c;Sampled=1"), "Root=1-a-b;Sampled=1");
        assert_eq!(trace_of("Root=1-a-b"), "Root=1-a-b;Sampled=0");
        assert_eq!(trace_of("odd"), "odd");
    }
}
