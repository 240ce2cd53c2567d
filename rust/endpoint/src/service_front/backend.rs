//! The control plane behind the front: an HTTP/1.1 server on a Unix socket, to which requests are handed on and from which
//! answers are handed back, both while they come.
//!
//! A side that reads slowly slows the other one down. A client that goes away takes its connection to the backend with
//! it, which is how the backend learns of it.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::http_connection::Client;

/// A connection that was idle for longer is not used again: uvicorn closes idle connections after 5 s, and a request must
/// not meet the end of one.
const IDLE_LIMIT: Duration = Duration::from_secs(2);

/// So many idle connections are kept.
const IDLE_CONNECTIONS: usize = 32;

/// Headers that concern one connection and not what is sent over it.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The backend, with the connections to it that are free.
pub struct Backend {
    path: PathBuf,
    idle: Mutex<VecDeque<(SendRequest<Outgoing>, Instant)>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens on the socket; the reason.
    Unreachable(String),
    /// The connection ended before the answer; the reason.
    BrokenOff(String),
    /// The client is gone.
    ClientGone,
    /// The request was longer than it may be.
    TooLarge,
}

impl Backend {
    pub fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default() }
    }

    /// Where it listens.
    pub fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(SendRequest<Outgoing>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hand a request on and return the answer when its head is there.
    pub async fn ask(
        self: &Arc<Self>,
        request: Request<Outgoing>,
        client: &Client,
    ) -> Result<Response<Answer>, Failure> {
        let sent = request.body().sent.clone();
        tokio::select! {
            biased;
            answered = self.send(request) => {
                let (response, sender) = answered.map_err(|failure| match failure {
                    Failure::BrokenOff(_) if sent.too_large() => Failure::TooLarge,
                    other => other,
                })?;
                Ok(response.map(|body| Answer { body, sent, lease: Some((sender, Arc::clone(self))) }))
            }
            () = std::future::poll_fn(|context| client.poll_hung_up(context)) => Err(Failure::ClientGone),
        }
    }

    async fn send(
        &self,
        mut request: Request<Outgoing>,
    ) -> Result<(Response<Incoming>, SendRequest<Outgoing>), Failure> {
        loop {
            let (mut sender, fresh) = match self.take() {
                Some(sender) => (sender, false),
                None => (self.connect().await?, true),
            };
            if sender.ready().await.is_err() {
                if fresh {
                    return Err(Failure::BrokenOff("it closed the connection".to_owned()));
                }
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message().filter(|_| !fresh) {
                    // Nothing of it was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::BrokenOff(reason(&error.into_error()))),
                },
            }
        }
    }

    fn take(&self) -> Option<SendRequest<Outgoing>> {
        let mut idle = self.idle();
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_LIMIT);
        // The one that was used last lives longest.
        idle.pop_back().map(|(sender, _)| sender)
    }

    fn put(&self, sender: SendRequest<Outgoing>) {
        let mut idle = self.idle();
        if idle.len() == IDLE_CONNECTIONS {
            idle.pop_front();
        }
        idle.push_back((sender, Instant::now()));
    }

    async fn connect(&self) -> Result<SendRequest<Outgoing>, Failure> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|error| Failure::Unreachable(crate::error::reason(&error)))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::BrokenOff(reason(&error)))?;
        // It ends with its sender and the last answer's body, or when the backend closes it.
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn reason(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The head of a request as it is handed on, for the client at `client`.
pub fn outgoing_head(mut head: Parts, client: &HeaderValue) -> Parts {
    head.version = Version::HTTP_11;
    // The target is a path: the authority of an absolute one is the host, which was checked.
    if head.uri.authority().is_some() {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse().unwrap_or_default();
    }
    strip_hop_by_hop(&mut head.headers);
    head.headers.insert(HeaderName::from_static("x-forwarded-for"), client.clone());
    head
}

/// Without what concerns a connection.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// A request's body on its way to the backend.
pub struct Outgoing {
    body: Source,
    sent: Sent,
}

enum Source {
    Whole(Full<Bytes>),
    /// What comes from the client, and how much of it may still come.
    Streamed {
        body: Incoming,
        left: u64,
    },
}

/// How far a request's body is.
#[derive(Clone, Default)]
pub struct Sent(Arc<Progress>);

#[derive(Default)]
struct Progress {
    whole: AtomicBool,
    too_large: AtomicBool,
}

impl Sent {
    fn is_whole(&self) -> bool {
        self.0.whole.load(Ordering::Relaxed)
    }

    /// It was given up because it was longer than it may be.
    pub fn too_large(&self) -> bool {
        self.0.too_large.load(Ordering::Relaxed)
    }
}

impl Outgoing {
    /// A body that is there.
    pub fn whole(body: Bytes) -> Self {
        let sent = Sent::default();
        sent.0.whole.store(true, Ordering::Relaxed);
        Self { body: Source::Whole(Full::new(body)), sent }
    }

    /// A body of at most `limit` bytes that comes from the client.
    pub fn streamed(body: Incoming, limit: u64) -> Self {
        let sent = Sent::default();
        sent.0.whole.store(body.is_end_stream(), Ordering::Relaxed);
        Self { body: Source::Streamed { body, left: limit }, sent }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let (body, left) = match &mut this.body {
            Source::Whole(body) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                return Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})));
            }
            Source::Streamed { body, left } => (body, left),
        };
        let frame = match ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Some(Err(Broken::Client))),
            None => {
                this.sent.0.whole.store(true, Ordering::Relaxed);
                return Poll::Ready(None);
            }
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(rest) = left.checked_sub(length) else {
            this.sent.0.too_large.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(Broken::TooLarge)));
        };
        *left = rest;
        if this.is_end_stream() {
            this.sent.0.whole.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Source::Whole(body) => body.is_end_stream(),
            Source::Streamed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Source::Whole(body) => body.size_hint(),
            Source::Streamed { body, .. } => body.size_hint(),
        }
    }
}

/// An answer's body on its way to the client. With its end the connection is free for others.
pub struct Answer {
    body: Incoming,
    sent: Sent,
    lease: Option<(SendRequest<Outgoing>, Arc<Backend>)>,
}

impl Answer {
    /// Follow a client that must not go away unnoticed.
    pub fn for_client(self, client: Client) -> Answering {
        Answering { answer: self, client }
    }

    /// It is not wanted. What there is of it is read, if it is short, so that the connection can be used again.
    pub async fn skip(mut self) {
        use http_body_util::BodyExt as _;
        if self.body.size_hint().upper().is_some_and(|upper| upper <= 64 * 1024) {
            while let Some(Ok(_)) = self.body.frame().await {}
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        // One on which the request is still being sent is closed.
        if let Some((sender, backend)) = self.lease.take().filter(|_| self.sent.is_whole()) {
            backend.put(sender);
        }
    }
}

/// The same, for a client.
pub struct Answering {
    answer: Answer,
    client: Client,
}

impl Body for Answering {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        match Pin::new(&mut this.answer.body).poll_frame(context) {
            Poll::Pending => this.client.poll_hung_up(context).map(|()| Some(Err(Broken::Client))),
            Poll::Ready(Some(Ok(frame))) => {
                if this.answer.body.is_end_stream() {
                    this.answer.give_back();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(Broken::Backend))),
            Poll::Ready(None) => {
                this.answer.give_back();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.answer.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // An empty body is dropped without having been asked.
        if self.answer.body.is_end_stream() {
            self.answer.give_back();
        }
    }
}

/// A body that ends before its end.
#[derive(Debug, Clone, Copy)]
pub enum Broken {
    Client,
    Backend,
    TooLarge,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "the client is gone",
            Self::Backend => "the control plane broke its answer off",
            Self::TooLarge => "the request is too large",
        })
    }
}

impl Error for Broken {}
