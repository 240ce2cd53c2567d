//! What an extension is told, and what it asks to be told.

use bytes::Bytes;
use jiter::JsonValue;

use super::Refusal;
use crate::error_document::push_json_string;

/// Why an environment ends. In lower case, as the service sends it (spec extensions-telemetry 1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownReason {
    /// Nobody needs it any more.
    Spindown,
    /// An invocation, or init, ran out of time.
    Timeout,
    /// Something died or reported that it cannot go on.
    Failure,
}

impl ShutdownReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Spindown, Self::Timeout, Self::Failure];

    /// The value of `shutdownReason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spindown => "spindown",
            Self::Timeout => "timeout",
            Self::Failure => "failure",
        }
    }
}

/// An event as it is sent. It is written once, whoever gets it.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// The JSON document.
    pub body: Bytes,
}

impl Event {
    /// The runtime got an invocation; `deadline_ms` is the Unix time at which the function's time is up.
    pub fn invoke(request_id: &str, function_arn: &str, trace_id: &str, deadline_ms: u64) -> Self {
        let mut body = format!("{{\"eventType\":\"INVOKE\",\"deadlineMs\":{deadline_ms},\"requestId\":");
        push_json_string(&mut body, request_id);
        body.push_str(",\"invokedFunctionArn\":");
        push_json_string(&mut body, function_arn);
        if !trace_id.is_empty() {
            body.push_str(",\"tracing\":{\"type\":\"X-Amzn-Trace-Id\",\"value\":");
            push_json_string(&mut body, trace_id);
            body.push('}');
        }
        body.push('}');
        Self { body: body.into() }
    }

    /// The environment ends; at `deadline_ms` (Unix time) the process is killed.
    pub fn shutdown(reason: ShutdownReason, deadline_ms: u64) -> Self {
        let reason = reason.as_str();
        let body = format!(
            "{{\"eventType\":\"SHUTDOWN\",\"deadlineMs\":{deadline_ms},\"shutdownReason\":\"{reason}\"}}"
        );
        Self { body: body.into() }
    }
}

/// The events that a registration asks for.
pub(super) fn requested(body: &[u8]) -> Result<Vec<String>, Refusal> {
    if body.is_empty() {
        // The words of Go's decoder.
        return Err(Refusal::Format("unexpected end of JSON input".to_owned()));
    }
    let document = JsonValue::parse(body, false).map_err(|error| Refusal::Format(error.description(body)))?;
    let members = match document {
        JsonValue::Object(members) => members,
        // As in Go: nothing is asked for.
        JsonValue::Null => return Ok(Vec::new()),
        _ => return Err(Refusal::Format("the body is not a JSON object".to_owned())),
    };
    // Go's decoder ignores the case of names, and the last of several wins.
    let member =
        |name| members.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    if let Some(keys) = member("configurationKeys").filter(|value| **value != JsonValue::Null) {
        let JsonValue::Array(keys) = keys else {
            return Err(Refusal::Format("configurationKeys is not an array".to_owned()));
        };
        if !keys.is_empty() {
            let message = "configurationKeys are deprecated; use environment variables instead";
            return Err(Refusal::Format(message.to_owned()));
        }
    }
    match member("events") {
        None | Some(JsonValue::Null) => Ok(Vec::new()),
        Some(JsonValue::Array(events)) => events
            .iter()
            .map(|event| match event {
                JsonValue::Str(name) => Ok(name.clone().into_owned()),
                _ => Err(Refusal::Format("events holds something that is not a string".to_owned())),
            })
            .collect(),
        Some(_) => Err(Refusal::Format("events is not an array".to_owned())),
    }
}
