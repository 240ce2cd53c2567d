//! The Lambda service on one port: invocations of what is published, and the control plane for everything else.
//!
//! A synchronous or streaming invoke of a published version or alias goes to its pool. All other requests, and invokes of
//! what is not published here, go to the backend.

mod backend;
mod names;
mod routes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::concurrency::{Account, AccountFigures, FunctionFigures};
use crate::environment::{listen, next_connection};
use crate::error::EndpointError;
use crate::error_document::json_problem;
use crate::guard::Guard;
use crate::http_connection::{self, Client};
use crate::invoke_path::{
    Answered, InvocationType, InvokeBody, Operation, addressed, document, failure, invocation_request,
    invocation_type, read, read_event, run, too_large_because, wants_tail,
};
use crate::pool::Pool;
use crate::runtime_thread;
use backend::{Answering, Backend, Failure, Outgoing, outgoing_head, strip_hop_by_hop};
use names::{FunctionName, Location};
use routes::Routes;

/// Largest request of the control plane, in bytes (spec lambda-service 0.6).
const MAX_REQUEST: u64 = 70_167_211;

/// With this header the backend leaves an invoke to the front after all.
const RUN: HeaderName = HeaderName::from_static("x-caloric-invoke");

/// Events from this size on are looked at on another thread.
const LARGE_EVENT: usize = 256 * 1024;

/// Where a front listens, and for whom.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// The Unix socket of the control plane.
    pub backend: PathBuf,
    /// The functions' region.
    pub region: String,
    /// The functions' account.
    pub account_id: String,
    /// The account's concurrency.
    pub concurrency: usize,
    /// Names by which the port may be called, besides those of the loopback.
    pub allowed_hosts: Vec<String>,
    /// Invocations are run without asking the backend.
    pub hot_path: bool,
}

/// The service's port, until it is closed or dropped.
pub struct ServiceFront {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    routes: Routes,
    backend: Arc<Backend>,
    guard: Guard,
    hot_path: bool,
}

type FrontBody = Either<InvokeBody, Answering>;

impl ServiceFront {
    /// Listen.
    ///
    /// Fails with [`EndpointError::Bind`] if that is not possible.
    pub fn new(config: ServiceConfig) -> Result<Self, EndpointError> {
        let handle = runtime_thread::handle()?;
        let (listener, address) = listen(&handle, &config.host, config.port)?;
        let location = Location { region: config.region, account_id: config.account_id };
        let shared = Arc::new(Shared {
            routes: Routes::new(location, Account::new(config.concurrency)),
            backend: Arc::new(Backend::new(config.backend)),
            guard: Guard::new(&config.host, &config.allowed_hosts),
            hot_path: config.hot_path,
        });
        let task = handle.spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, task: Mutex::new(Some(task)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Let invocations of this version run in `pool`; the one before takes no more.
    ///
    /// Fails with [`EndpointError::InvalidHeader`] for a name that cannot be part of an ARN, and with
    /// [`EndpointError::Retired`].
    pub fn publish(&self, function_name: &str, version: &str, pool: &Pool) -> Result<(), EndpointError> {
        let before = self.shared.routes.publish(function_name, version, pool.clone())?;
        // Who has found it before it was replaced is passed on.
        if let Some(before) = before.filter(|before| !before.is(pool)) {
            before.retire(Some(pool.clone()));
        }
        Ok(())
    }

    /// Let a version, or the whole function, be invoked no more.
    pub fn withdraw(&self, function_name: &str, version: Option<&str>) {
        for pool in self.shared.routes.withdraw(function_name, version) {
            pool.retire(None);
        }
    }

    /// Let an alias lead to versions by weight; to none: remove it.
    pub fn route(
        &self,
        function_name: &str,
        alias: &str,
        weights: &[(String, f64)],
    ) -> Result<(), EndpointError> {
        self.shared.routes.route(function_name, alias, weights)
    }

    /// Reserve concurrency for a function.
    pub fn reserve(&self, function_name: &str, concurrency: Option<usize>) -> Result<(), EndpointError> {
        self.shared.routes.reserve(function_name, concurrency)
    }

    /// The account's concurrency.
    pub fn account_figures(&self) -> AccountFigures {
        self.shared.routes.account_figures()
    }

    /// A function's concurrency.
    pub fn function_figures(&self, function_name: &str) -> FunctionFigures {
        self.shared.routes.function_figures(function_name)
    }

    /// Stop listening and drop every connection; invocations that run go on. Idempotent.
    pub fn close(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Drop for ServiceFront {
    fn drop(&mut self) {
        self.close();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = next_connection(&listener) => {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Who is gone already needs no answer.
    let Ok(peer) = stream.peer_addr() else { return };
    let peer = HeaderValue::try_from(peer.ip().to_string()).unwrap_or(HeaderValue::from_static("unknown"));
    let answer = |request, client| {
        let (shared, peer) = (Arc::clone(&shared), peer.clone());
        async move { shared.answer(request, client, peer).await }
    };
    http_connection::serve(stream, &mut http1::Builder::new(), answer).await;
}

fn whole(answered: Answered) -> Response<FrontBody> {
    answered.map(|body| Either::Left(Either::Left(body)))
}

impl Shared {
    async fn answer(
        &self,
        request: Request<Incoming>,
        client: Client,
        peer: HeaderValue,
    ) -> Response<FrontBody> {
        let (head, body) = request.into_parts();
        if let Err(refusal) = self.guard.check(&head) {
            // Or hyper would close the connection before the answer is read.
            read(body, 0).await;
            return whole(*refusal);
        }
        if head.method == Method::POST
            && let Some((operation, name)) = addressed(head.uri.path())
        {
            // What is no invocation type is the backend's to refuse, and so is what is no name.
            let kind = invocation_type(&head.headers).unwrap_or(InvocationType::DryRun);
            let name = self.routes.location().read(name, head.uri.query());
            let event = match read_event(kind, body).await {
                Ok(event) => event,
                Err(refusal) => return whole(*refusal),
            };
            return match name.filter(|_| kind == InvocationType::RequestResponse) {
                Some(name) => self.invoke(head, event, operation, &name, client, peer).await,
                None => self.forward(head, Outgoing::whole(event), client, &peer).await,
            };
        }
        let limit = MAX_REQUEST;
        if body.size_hint().lower() > limit {
            let refusal = request_too_large(&head);
            read(body, 0).await;
            return whole(refusal);
        }
        self.forward(head, Outgoing::streamed(body, limit), client, &peer).await
    }

    /// Run a function, here if it is published, else if the backend says so.
    async fn invoke(
        &self,
        head: Parts,
        event: Bytes,
        operation: Operation,
        name: &FunctionName,
        client: Client,
        peer: HeaderValue,
    ) -> Response<FrontBody> {
        let mut target = if self.hot_path { self.routes.resolve(name) } else { None };
        if target.is_none() {
            match self.ask_for_leave(&head, &event, client, &peer).await {
                Leave::Given => target = self.routes.resolve(name),
                Leave::Answered(response) => return response,
            }
        }
        let Some(target) = target else { return whole(self.not_found(name)) };
        if let Some(refusal) = not_json(&event).await {
            return whole(*refusal);
        }
        let mut request = match invocation_request(&head.headers, event) {
            Ok(request) => request,
            Err(refusal) => return whole(*refusal),
        };
        request.invoked_function_arn = Some(target.invoked_function_arn);
        run(&target.pool, operation, request, wants_tail(&head.headers)).await.map(Either::Left)
    }

    /// Ask the backend about an invoke. The event is kept, in case it is to be run here.
    async fn ask_for_leave(&self, head: &Parts, event: &Bytes, client: Client, peer: &HeaderValue) -> Leave {
        let copy = outgoing_head(head.clone(), peer);
        let request = Request::from_parts(copy, Outgoing::whole(event.clone()));
        match self.backend.ask(request, &client).await {
            Ok(response) if response.headers().get(RUN).is_some_and(|value| value == "run") => {
                response.into_body().skip().await;
                Leave::Given
            }
            Ok(response) => Leave::Answered(passed_on(response, client)),
            Err(failure) => Leave::Answered(whole(self.not_answered(head, &failure))),
        }
    }

    /// Let the backend answer.
    async fn forward(
        &self,
        head: Parts,
        body: Outgoing,
        client: Client,
        peer: &HeaderValue,
    ) -> Response<FrontBody> {
        let asked = outgoing_head(head.clone(), peer);
        match self.backend.ask(Request::from_parts(asked, body), &client).await {
            Ok(response) => passed_on(response, client),
            Err(failure) => whole(self.not_answered(&head, &failure)),
        }
    }

    fn not_answered(&self, head: &Parts, problem: &Failure) -> Answered {
        let path = self.backend.path();
        let message = match problem {
            Failure::Unreachable(reason) => {
                format!("The control plane at {path} cannot be reached: {reason}")
            }
            Failure::BrokenOff(reason) => {
                format!("The control plane at {path} ended the connection before it had answered ({reason})")
            }
            Failure::TooLarge => return request_too_large(head),
            // Nobody is left to read an answer.
            Failure::ClientGone => return Response::new(Full::default()),
        };
        failure(StatusCode::BAD_GATEWAY, "ServiceException", &document(Some("Service"), "Message", &message))
    }

    fn not_found(&self, name: &FunctionName) -> Answered {
        let qualifier = name.qualifier.as_deref().unwrap_or("$LATEST");
        let arn = self.routes.location().arn(&name.name, Some(qualifier));
        failure(
            StatusCode::NOT_FOUND,
            "ResourceNotFoundException",
            &document(Some("User"), "Message", &format!("Function not found: {arn}")),
        )
    }
}

/// What the backend says of an invoke.
enum Leave {
    /// The front is to run it.
    Given,
    /// This.
    Answered(Response<FrontBody>),
}

fn passed_on(mut response: Response<backend::Answer>, client: Client) -> Response<FrontBody> {
    strip_hop_by_hop(response.headers_mut());
    response.map(|answer| Either::Right(answer.for_client(client)))
}

/// The answer to an event that is no JSON.
async fn not_json(event: &Bytes) -> Option<Box<Answered>> {
    // An empty event becomes an object.
    if event.is_empty() {
        return None;
    }
    let problem = if event.len() < LARGE_EVENT {
        json_problem(event)
    } else {
        let event = event.clone();
        tokio::task::spawn_blocking(move || json_problem(&event)).await.unwrap_or_default()
    };
    let message = problem?;
    Some(Box::new(failure(
        StatusCode::BAD_REQUEST,
        "InvalidRequestContentException",
        &document(Some("User"), "message", &message),
    )))
}

/// The answer to a request of the control plane that is too large.
fn request_too_large(head: &Parts) -> Answered {
    let path = head.uri.path().trim_end_matches('/');
    let operation = match (&head.method, path) {
        (&Method::POST, path) if path.ends_with("/functions") => " for the CreateFunction operation",
        (&Method::PUT, path) if path.ends_with("/code") => " for the UpdateFunctionCode operation",
        (&Method::POST, path) if path.contains("/layers/") => " for the PublishLayerVersion operation",
        _ => "",
    };
    too_large_because(&format!("Request must be smaller than {MAX_REQUEST} bytes{operation}"))
}
