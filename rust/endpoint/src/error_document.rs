//! The error JSON that the platform writes itself, and the JSON strings in it.
//!
//! What a runtime posts is never rewritten; these documents are for what happens to it (spec lambda-service 1.4).

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use jiter::Jiter;

/// An error as an invoker sees it: the type by itself for the log, and the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorDocument {
    /// `Category.Reason`.
    pub error_type: String,
    /// `{"errorType":…,"errorMessage":…}`.
    pub body: Bytes,
}

impl ErrorDocument {
    /// A failure of this invocation, with the request id in the message as AWS writes it.
    pub fn of_request(error_type: &str, request_id: &str, message: &str) -> Self {
        Self::new(error_type, &format!("RequestId: {request_id} Error: {message}"))
    }

    /// The function's time was up. The one place for this text: until about 2024 AWS wrote
    /// `{"errorMessage":"<ISO time> <id> Task timed out after 3.00 seconds"}`, without a type.
    pub fn timeout(request_id: &str, limit: Duration) -> Self {
        let message = format!("Task timed out after {:.2} seconds", limit.as_secs_f64());
        Self::of_request(SANDBOX_TIMEDOUT, request_id, &message)
    }

    /// Initialisation did not end in time.
    pub fn init_timeout(request_id: &str, limit: Duration) -> Self {
        let message = format!("Task timed out after {:.2} seconds in the Init phase", limit.as_secs_f64());
        Self::of_request(SANDBOX_TIMEDOUT, request_id, &message)
    }

    /// A posted answer was larger than the platform takes (spec runtime-api 1.4).
    pub fn response_too_large(size: u64, limit: usize) -> Self {
        let message = format!(
            "Response payload size ({size} bytes) exceeded maximum allowed payload size ({limit} bytes)."
        );
        let mut body = String::from("{\"errorMessage\":");
        push_json_string(&mut body, &message);
        body.push_str(",\"errorType\":\"Function.ResponseSizeTooLarge\"}");
        Self { error_type: "Function.ResponseSizeTooLarge".to_owned(), body: body.into() }
    }

    /// Any other document.
    pub fn new(error_type: &str, message: &str) -> Self {
        let mut body = String::from("{\"errorType\":");
        push_json_string(&mut body, error_type);
        body.push_str(",\"errorMessage\":");
        push_json_string(&mut body, message);
        body.push('}');
        Self { error_type: error_type.to_owned(), body: body.into() }
    }
}

/// The runtime process ended in the middle.
pub const RUNTIME_EXIT_ERROR: &str = "Runtime.ExitError";
/// More memory was used than the function is configured to have.
pub const RUNTIME_OUT_OF_MEMORY: &str = "Runtime.OutOfMemory";
/// An extension's process ended in the middle, without having reported an error.
pub const EXTENSION_CRASH: &str = "Extension.Crash";
/// An extension's executable could not be started.
pub const EXTENSION_LAUNCH_ERROR: &str = "Extension.LaunchError";
/// A time limit passed.
pub const SANDBOX_TIMEDOUT: &str = "Sandbox.Timedout";

/// Append `text` as a JSON string the way Go's encoder writes it: HTML characters and the two line separators of
/// JavaScript are escaped as well (spec runtime-api 1.7).
pub fn push_json_string(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{0}'..='\u{1f}' => {
                // Writing to a String cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(character));
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

/// The type the platform logs for the value a runtime sent in `Lambda-Runtime-Function-Error-Type`
/// (spec runtime-api 1.5): the value itself if it holds `Runtime.Xx` or `Function.Xx` anywhere, else a default.
pub fn logged_error_type(header: Option<&str>) -> String {
    match header {
        Some(value) if names_a_category(value) => value.to_owned(),
        Some(value) if value.starts_with("Function.") => "Function.Unknown".to_owned(),
        _ => "Runtime.Unknown".to_owned(),
    }
}

/// Whether `(Runtime|Function)\.[A-Z][a-zA-Z]+` matches somewhere in the value.
fn names_a_category(value: &str) -> bool {
    ["Runtime.", "Function."].iter().any(|category| {
        value.match_indices(category).any(|(start, _)| {
            let reason = &value.as_bytes()[start + category.len()..];
            reason.first().is_some_and(u8::is_ascii_uppercase)
                && reason.get(1).is_some_and(u8::is_ascii_alphabetic)
        })
    })
}

/// Whether the bytes are one JSON document.
pub fn is_json(document: &[u8]) -> bool {
    let mut parser = Jiter::new(document);
    parser.next_skip().is_ok() && parser.finish().is_ok()
}

/// Why bytes are no JSON document, in the service's words (spec lambda-service 1.5); `None` if they are one.
pub fn json_problem(document: &[u8]) -> Option<String> {
    let mut parser = Jiter::new(document);
    // What is skipped is not looked at as text.
    let position = match (parser.next_skip().and_then(|()| parser.finish()), std::str::from_utf8(document)) {
        (Ok(()), Ok(_)) => return None,
        (Ok(()), Err(error)) => error.valid_up_to(),
        (Err(error), _) => error.index.min(document.len()),
    };
    let found = document.get(position).copied().filter(u8::is_ascii);
    let what = match found.map(char::from) {
        _ if position == document.len() => "Unexpected end-of-input".to_owned(),
        Some(character) => format!(
            "Unexpected character ('{character}' (code {})): expected a valid value (JSON String, Number, Array, Object \
             or token 'null', 'true' or 'false')",
            u32::from(character)
        ),
        None => format!("Invalid UTF-8 start byte 0x{:x}", document[position]),
    };
    let before = &document[..position];
    let line = before.split(|byte| *byte == b'\n').count();
    let column = position - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1) + 1;
    Some(format!(
        "Could not parse request body into json: Could not parse payload into json: {what}\n at [Source: REDACTED \
         (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {line}, column: {column}]"
    ))
}

/// The three public members of an error document that carries its X-Ray cause in `errorCause`
/// (spec runtime-api 1.5); `None` if it is no JSON object.
pub fn without_cause(document: &[u8]) -> Option<String> {
    let mut parser = Jiter::new(document);
    let mut members = Vec::new();
    let mut key = parser.next_object().ok()?.map(str::to_owned);
    while let Some(name) = key {
        let peek = parser.peek().ok()?;
        let start = parser.current_index();
        parser.known_skip(peek).ok()?;
        if matches!(name.as_str(), "errorMessage" | "errorType" | "stackTrace") {
            let value = std::str::from_utf8(parser.slice_to_current(start)).ok()?;
            members.push(format!("\"{name}\":{}", value.trim()));
        }
        key = parser.next_key().ok()?.map(str::to_owned);
    }
    parser.finish().ok()?;
    Some(format!("{{{}}}", members.join(",")))
}

/// `errorType` of an error document, where it is an object that has one.
pub fn error_type_of(document: &[u8]) -> Option<String> {
    text_member(document, "errorType")
}

/// Likewise `errorMessage`.
pub fn error_message_of(document: &[u8]) -> Option<String> {
    text_member(document, "errorMessage")
}

fn text_member(document: &[u8], member: &str) -> Option<String> {
    let mut parser = Jiter::new(document);
    let mut key = parser.next_object().ok()?.map(str::to_owned);
    while let Some(name) = key {
        if name == member {
            return parser.next_str().ok().map(str::to_owned);
        }
        parser.next_skip().ok()?;
        key = parser.next_key().ok()?.map(str::to_owned);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_the_form_recorded_from_the_service() {
        assert_eq!(
            ErrorDocument::timeout("abc", Duration::from_secs(3)).body,
            r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: abc Error: Task timed out after 3.00 seconds"}"#
        );
        assert_eq!(
            ErrorDocument::of_request(RUNTIME_EXIT_ERROR, "abc", "Runtime exited without providing a reason")
                .body,
            r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: abc Error: Runtime exited without providing a reason"}"#
        );
        assert_eq!(
            ErrorDocument::response_too_large(7_000_000, 6_291_556).body,
            r#"{"errorMessage":"Response payload size (7000000 bytes) exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}"#
        );
    }

    #[test]
    fn json_strings_are_escaped_as_go_escapes_them() {
        let mut json = String::new();
        push_json_string(&mut json, "a\"\\\n\t\u{1}<&>\u{2028}é");
        assert_eq!(json, r#""a\"\\\n\t\u0001\u003c\u0026\u003e\u2028é""#);
    }

    #[test]
    fn the_cause_is_taken_out_of_an_error_document() {
        let document = br#"{"errorMessage": "a\u00e9", "errorCause": {"x": [1, {}]}, "stackTrace": ["s"], "errorType":"E"}"#;
        assert_eq!(
            without_cause(document).unwrap(),
            r#"{"errorMessage":"a\u00e9","stackTrace":["s"],"errorType":"E"}"#
        );
        assert_eq!(without_cause(b"{}").unwrap(), "{}");
        for broken in ["", "[]", "{\"errorType\":", "{} x"] {
            assert_eq!(without_cause(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn the_error_type_is_found_in_a_document() {
        assert_eq!(error_type_of(br#"{"a": {"errorType": "no"}, "errorType": "E"}"#).unwrap(), "E");
        for none in ["", "[]", "{}", r#"{"errorType": 1}"#, "boom"] {
            assert_eq!(error_type_of(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn json_is_told_from_other_bytes() {
        assert!(is_json(b" {\"a\": [1, null]} "));
        assert!(is_json(b"\"text\""));
        assert!(!is_json(b""));
        assert!(!is_json(b"{\"a\": 1} trailing"));
        assert!(!is_json(b"boom"));
    }

    #[test]
    fn the_logged_error_type_is_validated() {
        let logged = |value| logged_error_type(Some(value));
        assert_eq!(logged("Runtime.ImportModuleError"), "Runtime.ImportModuleError");
        assert_eq!(logged("x Function.Ab y"), "x Function.Ab y");
        assert_eq!(logged("Function.lower"), "Function.Unknown");
        assert_eq!(logged("Function.X"), "Function.Unknown");
        assert_eq!(logged("ValueError"), "Runtime.Unknown");
        assert_eq!(logged("Runtime.R2"), "Runtime.Unknown");
        assert_eq!(logged_error_type(None), "Runtime.Unknown");
    }
}
