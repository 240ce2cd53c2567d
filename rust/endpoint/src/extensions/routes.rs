//! The Extensions API's routes (spec extensions-telemetry 1.2 to 1.5).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use caloric_core::protocol;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use uuid::Uuid;

use super::{Event, EventPoll, Refusal, ReportedError};
use crate::environment::{ConnectionOwner, Owner, Shared};
use crate::error_document::push_json_string;
use crate::http_connection::Client;
use crate::identifiers;
use crate::invocation::JSON;
use crate::runtime_api::{Answered, accepted, discard, error, json, method_not_allowed, read_whole};

const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
const EVENT_IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-event-identifier");

/// Answer a request whose path [`is_ours`].
pub async fn route(
    request: Request<Incoming>,
    client: &Client,
    shared: &Shared,
    owner: &ConnectionOwner,
) -> Answered {
    let post = request.method() == Method::POST;
    match request.uri().path() {
        protocol::EXTENSION_REGISTER_PATH if post => register(request, shared, owner).await,
        protocol::EXTENSION_NEXT_PATH if request.method() == Method::GET => {
            next(request.headers(), client, shared, owner).await
        }
        protocol::EXTENSION_INIT_ERROR_PATH if post => {
            report(request, ReportedError::Init, shared, owner).await
        }
        protocol::EXTENSION_EXIT_ERROR_PATH if post => {
            report(request, ReportedError::Exit, shared, owner).await
        }
        protocol::EXTENSION_NEXT_PATH => method_not_allowed(request, "GET").await,
        _ => method_not_allowed(request, "POST").await,
    }
}

/// Whether a path is one of ours.
pub fn is_ours(path: &str) -> bool {
    matches!(
        path,
        protocol::EXTENSION_REGISTER_PATH
            | protocol::EXTENSION_NEXT_PATH
            | protocol::EXTENSION_INIT_ERROR_PATH
            | protocol::EXTENSION_EXIT_ERROR_PATH
    )
}

async fn register(request: Request<Incoming>, shared: &Shared, owner: &ConnectionOwner) -> Answered {
    let (head, body) = request.into_parts();
    let name = text(&head.headers, protocol::EXTENSION_NAME);
    let features = text(&head.headers, protocol::EXTENSION_ACCEPT_FEATURE);
    let body = match read_whole(body).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let registered = shared.with(|machine| {
        machine.with_extensions(|machine| {
            let sandbox = machine.sandbox();
            let id = sandbox.register_extension(&name, &body)?;
            Ok((id, sandbox.is_external(id)))
        })
    });
    let (id, external) = match registered {
        None => return disabled(),
        Some(Err(refusal)) => return refused(&refusal),
        Some(Ok(registered)) => registered,
    };
    owner.set(owner_of(external));
    let config = shared.config();
    let mut body = String::from("{");
    if features.split(',').any(|feature| feature.trim() == "accountId") {
        body.push_str("\"accountId\":");
        push_json_string(&mut body, &config.account_id);
        body.push(',');
    }
    for (start, value) in [
        ("\"functionName\":", &config.function_name),
        (",\"functionVersion\":", &config.function_version),
        (",\"handler\":", &config.handler),
    ] {
        body.push_str(start);
        push_json_string(&mut body, value);
    }
    body.push('}');
    let mut response = json(StatusCode::OK, body.into());
    response.headers_mut().insert(IDENTIFIER, uuid_header(id));
    response
}

async fn next(headers: &HeaderMap, client: &Client, shared: &Shared, owner: &ConnectionOwner) -> Answered {
    let id = match identify(headers, shared, owner) {
        Some(Ok(id)) => id,
        Some(Err(refusal)) => return refused(&refusal),
        None => return disabled(),
    };
    let poll = NextEvent { shared, client, id, poller: shared.next_poller(), parked: false };
    match poll.await {
        Some(Ok(event)) => {
            let mut response = json(StatusCode::OK, event.body.clone());
            response.headers_mut().insert(EVENT_IDENTIFIER, uuid_header(identifiers::uuid()));
            response
        }
        Some(Err(refusal)) => refused(&refusal),
        // Nobody is there to read it.
        None => error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal Server Error"),
    }
}

/// Waits for an event to be released to this request; `None` if its client goes away.
struct NextEvent<'a> {
    shared: &'a Shared,
    client: &'a Client,
    id: Uuid,
    poller: u64,
    parked: bool,
}

impl Future for NextEvent<'_> {
    type Output = Option<Result<Arc<Event>, Refusal>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (id, poller) = (self.id, self.poller);
        let looked = self.shared.with(|machine| {
            machine
                .with_extensions(|machine| machine.poll_event(id, poller, context.waker(), self.shared.now()))
        });
        self.parked = false;
        match looked {
            Some(EventPoll::Deliver(event)) => Poll::Ready(Some(Ok(event))),
            Some(EventPoll::Refused(refusal)) => Poll::Ready(Some(Err(refusal))),
            Some(EventPoll::Pending) => {
                self.parked = true;
                self.client.poll_hung_up(context).map(|()| None)
            }
            None => Poll::Ready(None),
        }
    }
}

impl Drop for NextEvent<'_> {
    fn drop(&mut self) {
        if self.parked {
            self.shared.with(|machine| {
                machine.with_extensions(|machine| machine.sandbox().abandon_event_poll(self.id, self.poller))
            });
        }
    }
}

async fn report(
    request: Request<Incoming>,
    kind: ReportedError,
    shared: &Shared,
    owner: &ConnectionOwner,
) -> Answered {
    let (head, body) = request.into_parts();
    // What is in the body is for people; the platform does not look into it.
    discard(body).await;
    let reported = identify(&head.headers, shared, owner).map(|id| {
        let error_type = text(&head.headers, protocol::EXTENSION_ERROR_TYPE);
        if error_type.is_empty() && matches!(id, Ok(_) | Err(Refusal::UnknownExtension(_))) {
            return Err(Refusal::MissingErrorType);
        }
        let id = id?;
        shared
            .with(|machine| {
                machine.with_extensions(|machine| {
                    machine.sandbox().report_extension_error(id, kind, &error_type)
                })
            })
            .unwrap_or(Err(Refusal::UnknownIdentifier))
    });
    match reported {
        None => disabled(),
        Some(Ok(())) => accepted(),
        // The errors have a wording of their own for an identifier that is nobody's.
        Some(Err(Refusal::UnknownExtension(_))) => refused(&Refusal::UnknownIdentifier),
        Some(Err(refusal)) => refused(&refusal),
    }
}

/// The extension that a request comes from; `None` where there are no extensions at all. Its connection is marked, so
/// that the runtime's end does not close an external one's.
pub fn identify(
    headers: &HeaderMap,
    shared: &Shared,
    owner: &ConnectionOwner,
) -> Option<Result<Uuid, Refusal>> {
    shared.with(|machine| {
        machine.with_extensions(|machine| {
            let text = text(headers, protocol::EXTENSION_IDENTIFIER);
            if text.is_empty() {
                return Err(Refusal::MissingIdentifier);
            }
            let id = Uuid::parse_str(&text).map_err(|_| Refusal::InvalidIdentifier)?;
            if !machine.sandbox().is_registered(id) {
                return Err(Refusal::UnknownExtension(id.to_string()));
            }
            owner.set(owner_of(machine.sandbox().is_external(id)));
            Ok(id)
        })
    })
}

fn owner_of(external: bool) -> Owner {
    if external { Owner::Extension } else { Owner::Runtime }
}

/// The answer to a call that is not accepted.
pub fn refused(refusal: &Refusal) -> Answered {
    error(StatusCode::FORBIDDEN, refusal.error_type(), &refusal.message())
}

/// The answer where extensions are switched off.
pub fn disabled() -> Answered {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

fn uuid_header(id: Uuid) -> HeaderValue {
    // A UUID is always a valid header value.
    HeaderValue::try_from(id.hyphenated().to_string()).unwrap_or(JSON)
}
