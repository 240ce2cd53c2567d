//! The invoke path of the Lambda service, for one function (spec lambda-service 1.1 to 1.6).
//!
//! Any function name in the path reaches the pool's one function. An invocation is run by the environment that is free;
//! who comes when none is waits, in the order of arrival.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::environment::{listen, next_connection};
use crate::error::EndpointError;
use crate::http_connection;
use crate::invocation::Waiter;
use crate::invoke_path::{
    Answered, InvocationType, InvokeBody, Operation, addressed, empty, failure, invocation_request,
    invocation_type, method_not_allowed, read, read_event, refused, run, unknown_type, wants_tail,
};
use crate::pool::Pool;
use crate::runtime_thread;
use crate::url_front::{self, Ends, InvokeMode};

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

async fn route(request: Request<Incoming>, pool: Pool) -> Response<InvokeBody> {
    // There is one function, whatever it is called.
    let operation = addressed(request.uri().path()).map(|(operation, _)| operation);
    match operation {
        Some(operation) if request.method() == Method::POST => invoke(request, operation, &pool).await,
        _ => {
            // Or hyper would close the connection, on which more may come.
            read(request.into_body(), 0).await;
            if operation.is_some() { method_not_allowed() } else { nothing_here() }.map(Either::Left)
        }
    }
}

async fn invoke(request: Request<Incoming>, operation: Operation, pool: &Pool) -> Response<InvokeBody> {
    let (head, body) = request.into_parts();
    let kind = match invocation_type(&head.headers) {
        Ok(kind) => kind,
        Err(failure) => {
            read(body, 0).await;
            return failure.map(Either::Left);
        }
    };
    let request =
        match read_event(kind, body).await.and_then(|event| invocation_request(&head.headers, event)) {
            Ok(request) => request,
            Err(failure) => return failure.map(Either::Left),
        };
    let request_id = request.request_id.clone().unwrap_or_default();
    let answered = match (kind, operation) {
        (InvocationType::RequestResponse, _) => {
            return run(pool, operation, request, wants_tail(&head.headers)).await;
        }
        (InvocationType::DryRun, _) => empty(StatusCode::NO_CONTENT, &request_id),
        (InvocationType::Event, Operation::Invoke) => match pool.submit(request, Waiter::Nobody) {
            Ok(()) => empty(StatusCode::ACCEPTED, &request_id),
            Err(error) => refused(&error),
        },
        (InvocationType::Event, Operation::Stream) => *unknown_type(b"Event", "RequestResponse, DryRun"),
    };
    answered.map(Either::Left)
}

fn nothing_here() -> Answered {
    failure(
        StatusCode::NOT_FOUND,
        "ResourceNotFoundException",
        "{\"Type\":\"User\",\"Message\":\"Nothing is here. Invoke the function with \
         POST /2015-03-31/functions/function/invocations\"}",
    )
}
