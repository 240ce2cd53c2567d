//! The routes of the Telemetry API and the Logs API (spec extensions-telemetry 2.1 and 2.2).

use bytes::Bytes;
use caloric_core::protocol;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::Api;
use crate::environment::{ConnectionOwner, Shared};
use crate::extensions::routes::{disabled, identify, refused};
use crate::runtime_api::{Answered, discard, error, json, method_not_allowed, read_whole};

/// Which of the two APIs a path belongs to; the documentation also shows a trailing slash.
pub fn api_of(path: &str) -> Option<Api> {
    match path.strip_suffix('/').unwrap_or(path) {
        protocol::TELEMETRY_PATH => Some(Api::Telemetry),
        protocol::LOGS_PATH => Some(Api::Logs),
        _ => None,
    }
}

/// Answer a request to one of them.
pub async fn route(
    request: Request<Incoming>,
    api: Api,
    shared: &Shared,
    owner: &ConnectionOwner,
) -> Answered {
    if request.method() != Method::PUT {
        return method_not_allowed(request, "PUT").await;
    }
    let (head, body) = request.into_parts();
    let id = match identify(&head.headers, shared, owner) {
        Some(Ok(id)) => id,
        Some(Err(refusal)) => {
            discard(body).await;
            return refused(&refusal);
        }
        None => {
            discard(body).await;
            return disabled();
        }
    };
    let body = match read_whole(body).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let subscribed = shared.with(|machine| {
        machine.with_extensions(|machine| machine.sandbox().subscribe(id, api, &body, shared.now()))
    });
    match subscribed {
        None => disabled(),
        Some(Ok(())) => json(StatusCode::OK, Bytes::from_static(b"\"OK\"")),
        Some(Err(refusal)) => error(refusal.status(), refusal.error_type(), &refusal.message()),
    }
}
