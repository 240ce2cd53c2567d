//! The HTTP response that a function URL makes of a result (spec lambda-service 4.4), or of a stream's prelude (4.7).
//!
//! What no source tells is chosen here: numbers and booleans may be header values; a result without a body has an empty
//! one; a status below 200 and bad base64 make a result unusable; a result that is not JSON is the body as it is; headers
//! that belong to the connection are the service's affair.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use caloric_core::protocol::HTTP_INTEGRATION;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Response, StatusCode};
use jiter::{Jiter, Peek};

use crate::error_document::is_json;
use crate::invocation::JSON;

/// Where a stream's prelude ends at the latest, its zero bytes included.
pub const MAX_PRELUDE: usize = 16 * 1024;
const PRELUDE_END: [u8; 8] = [0; 8];

/// A stream's type where none was declared.
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Whether a response of this type begins with a prelude.
pub fn has_prelude(content_type: &HeaderValue) -> bool {
    let media = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    media.trim_ascii().eq_ignore_ascii_case(HTTP_INTEGRATION.as_bytes())
}

/// The response to a result. `None` if it is unusable.
pub fn of_result(payload: &Bytes, content_type: &HeaderValue) -> Option<Response<Bytes>> {
    if has_prelude(content_type) {
        // A stream, for a caller who does not stream.
        let Prelude::Whole { head, body } = Prelude::read(payload) else { return None };
        return Some(head.map(|()| body));
    }
    if !is_json(payload) {
        return Some(with_type(payload.clone(), content_type.clone()));
    }
    let members = members(payload);
    if members.iter().any(|(name, _)| name == "statusCode") {
        return of_members(&members);
    }
    let mut parser = Jiter::new(payload);
    let body = match parser.peek().ok()? {
        Peek::String => Bytes::from(parser.next_str().ok()?.to_owned()),
        _ => compact(payload),
    };
    Some(with_type(body, JSON))
}

/// The response to a result on a URL that streams: its bytes, whatever they are.
pub fn of_unstreamed(payload: &Bytes, content_type: &HeaderValue) -> Option<Response<Bytes>> {
    if has_prelude(content_type) {
        return of_result(payload, content_type);
    }
    Some(with_type(payload.clone(), content_type.clone()))
}

/// What the bytes at the beginning of a stream tell.
pub enum Prelude {
    /// More bytes are needed.
    Open,
    /// What follows it is the body.
    Whole { head: Response<()>, body: Bytes },
    /// It is none.
    Unusable,
}

impl Prelude {
    /// Look into the bytes there are.
    pub fn read(bytes: &Bytes) -> Self {
        let searched = &bytes[..bytes.len().min(MAX_PRELUDE)];
        let Some(length) = searched.windows(PRELUDE_END.len()).position(|window| window == PRELUDE_END)
        else {
            return if bytes.len() < MAX_PRELUDE { Self::Open } else { Self::Unusable };
        };
        let document = &bytes[..length];
        let head = if is_json(document) { head(&members(document), BINARY) } else { None };
        match head {
            Some(head) => Self::Whole { head, body: bytes.slice(length + PRELUDE_END.len()..) },
            None => Self::Unusable,
        }
    }
}

/// 200, and the body.
fn with_type(body: Bytes, content_type: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The names and values of an object's members; the values are JSON. None of what is no object.
fn members(document: &[u8]) -> Vec<(String, &[u8])> {
    fn read(document: &[u8]) -> Option<Vec<(String, &[u8])>> {
        let mut parser = Jiter::new(document);
        let mut members = Vec::new();
        let mut key = parser.next_object().ok()?.map(str::to_owned);
        while let Some(name) = key {
            let peek = parser.peek().ok()?;
            let start = parser.current_index();
            parser.known_skip(peek).ok()?;
            members.push((name, parser.slice_to_current(start)));
            key = parser.next_key().ok()?.map(str::to_owned);
        }
        Some(members)
    }
    read(document).unwrap_or_default()
}

/// A member that is there and not null. Of equal names the last counts.
fn member<'a>(members: &[(String, &'a [u8])], name: &str) -> Option<&'a [u8]> {
    let (_, value) = members.iter().rev().find(|(found, _)| found == name)?;
    (*value != b"null").then_some(*value)
}

fn of_members(members: &[(String, &[u8])]) -> Option<Response<Bytes>> {
    let head = head(members, JSON)?;
    let encoded = match member(members, "isBase64Encoded") {
        None | Some(b"false") => false,
        Some(b"true") => true,
        Some(_) => return None,
    };
    let body = match member(members, "body") {
        None => Bytes::new(),
        Some(json) => match text(json) {
            Some(text) if encoded => STANDARD.decode(text).ok()?.into(),
            Some(text) => text.into(),
            // A string that cannot be written, half a surrogate pair say.
            None if json.first() == Some(&b'"') || encoded => return None,
            None => compact(json),
        },
    };
    Some(head.map(|()| body))
}

/// Status, headers and cookies. `None` if they cannot be sent.
fn head(members: &[(String, &[u8])], default_type: HeaderValue) -> Option<Response<()>> {
    let mut response = Response::new(());
    if let Some(json) = member(members, "statusCode") {
        let status: u16 = match text(json) {
            Some(text) => text.parse().ok()?,
            None => std::str::from_utf8(json).ok()?.parse().ok()?,
        };
        *response.status_mut() =
            StatusCode::from_u16(status).ok().filter(|status| (200..=599).contains(&status.as_u16()))?;
    } else if members.iter().any(|(name, _)| name == "statusCode") {
        return None;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, default_type);
    if let Some(json) = member(members, "headers") {
        if json.first() != Some(&b'{') {
            return None;
        }
        for (name, value) in self::members(json) {
            let name = HeaderName::try_from(name).ok()?;
            let value = HeaderValue::try_from(field_value(value)?).ok()?;
            if !is_the_connections(&name) {
                headers.insert(name, value);
            }
        }
    }
    if let Some(json) = member(members, "cookies") {
        push_cookies(headers, json)?;
    }
    Some(response)
}

/// A header's value of a string, a number or a boolean.
fn field_value(json: &[u8]) -> Option<String> {
    match json.first()? {
        b'"' => text(json),
        b'{' | b'[' | b'n' => None,
        _ => String::from_utf8(json.to_vec()).ok(),
    }
}

fn push_cookies(headers: &mut HeaderMap, json: &[u8]) -> Option<()> {
    let mut parser = Jiter::new(json);
    let mut item = parser.next_array().ok()?;
    while item.is_some() {
        let cookie = HeaderValue::try_from(parser.next_str().ok()?).ok()?;
        headers.append(SET_COOKIE, cookie);
        item = parser.array_step().ok()?;
    }
    Some(())
}

fn is_the_connections(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || name == "keep-alive"
}

fn text(json: &[u8]) -> Option<String> {
    Jiter::new(json).next_str().ok().map(str::to_owned)
}

/// The document without the blanks between its tokens: the service writes results anew.
fn compact(json: &[u8]) -> Bytes {
    let mut in_string = false;
    let mut escaped = false;
    let kept = json.iter().copied().filter(|&byte| {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            return true;
        }
        in_string = byte == b'"';
        !byte.is_ascii_whitespace()
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(result: &'static str) -> Option<Response<Bytes>> {
        of_result(&Bytes::from_static(result.as_bytes()), &JSON)
    }

    fn body_of(result: &'static str) -> Bytes {
        let response = of(result).unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        response.into_body()
    }

    #[test]
    fn a_result_without_status_is_the_body() {
        assert_eq!(body_of(r#"{"hello": "world"}"#), r#"{"hello":"world"}"#);
        assert_eq!(body_of(r#""hel\"lo""#), "hel\"lo");
        assert_eq!(body_of(r#"["hello", 3, true, " \" \\"]"#), r#"["hello",3,true," \" \\"]"#);
        for plain in ["3", "3.1", "true", "null"] {
            assert_eq!(body_of(plain), plain);
        }
        assert_eq!(body_of(r#"{"statusCode":200,"body":"body123"}"#), "body123");
    }

    #[test]
    fn status_headers_cookies_and_body_are_taken_over() {
        let response = of(
            r#"{"statusCode": "418", "headers": {"Content-Type": "text/html", "X-Number": 3, "X-True": true,
                "Content-Length": "1", "Connection": "close"},
                "cookies": ["a=1; Path=/", "b=2"], "body": "PGI+", "isBase64Encoded": true}"#,
        )
        .unwrap();
        assert_eq!(response.status(), 418);
        let headers = response.headers();
        assert_eq!(headers[CONTENT_TYPE], "text/html");
        assert_eq!(
            (&headers["x-number"], &headers["x-true"]),
            (&"3".parse().unwrap(), &"true".parse().unwrap())
        );
        assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1; Path=/", "b=2"]);
        assert!(!headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(CONNECTION));
        assert_eq!(response.body(), "<b>");
    }

    #[test]
    fn a_body_may_be_json_or_missing() {
        assert_eq!(body_of(r#"{"statusCode": 200, "body": {"a": [1, 2]}}"#), r#"{"a":[1,2]}"#);
        assert_eq!(body_of(r#"{"statusCode": 200}"#), "");
        assert_eq!(body_of(r#"{"statusCode": 200, "body": null, "headers": null, "cookies": null}"#), "");
    }

    #[test]
    fn what_cannot_be_sent_is_unusable() {
        for unusable in [
            r#"{"statusCode": null}"#,
            r#"{"statusCode": "abc"}"#,
            r#"{"statusCode": 99}"#,
            r#"{"statusCode": 101}"#,
            r#"{"statusCode": 600}"#,
            r#"{"statusCode": 200, "headers": []}"#,
            r#"{"statusCode": 200, "headers": {"a b": "c"}}"#,
            r#"{"statusCode": 200, "headers": {"a": "b\r\nc: d"}}"#,
            r#"{"statusCode": 200, "headers": {"a": ["b"]}}"#,
            r#"{"statusCode": 200, "cookies": "a=1"}"#,
            r#"{"statusCode": 200, "cookies": [1]}"#,
            r#"{"statusCode": 200, "body": "%", "isBase64Encoded": true}"#,
            r#"{"statusCode": 200, "body": "x", "isBase64Encoded": "yes"}"#,
        ] {
            assert!(of(unusable).is_none(), "{unusable}");
        }
    }

    #[test]
    fn what_is_not_json_is_the_body_as_it_is() {
        let csv = HeaderValue::from_static("text/csv");
        let response = of_result(&Bytes::from_static(b"a,b"), &csv).unwrap();
        assert_eq!(
            (response.headers()[CONTENT_TYPE].clone(), response.into_body()),
            (csv, Bytes::from_static(b"a,b"))
        );
    }

    #[test]
    fn on_a_streaming_url_a_result_is_not_interpreted() {
        let result = Bytes::from_static(br#"{"statusCode": 404}"#);
        let response = of_unstreamed(&result, &JSON).unwrap();
        assert_eq!((response.status(), response.body()), (StatusCode::OK, &result));
    }

    fn prelude(document: &str, body: &[u8]) -> Bytes {
        [document.as_bytes(), &[0; 8], body].concat().into()
    }

    #[test]
    fn a_prelude_is_status_headers_and_cookies() {
        let bytes = prelude(r#"{"statusCode":201,"headers":{"x-a":"b"},"cookies":["c=d"]}"#, b"\0body");
        let Prelude::Whole { head, body } = Prelude::read(&bytes) else { panic!("no prelude") };
        assert_eq!((head.status(), &head.headers()["x-a"]), (StatusCode::CREATED, &"b".parse().unwrap()));
        assert_eq!(head.headers()[SET_COOKIE], "c=d");
        assert_eq!(head.headers()[CONTENT_TYPE], "application/octet-stream");
        assert_eq!(body, "\0body");
        let whole = of_result(&bytes, &HeaderValue::from_static(HTTP_INTEGRATION)).unwrap();
        assert_eq!((whole.status(), whole.body().as_ref()), (StatusCode::CREATED, &b"\0body"[..]));
    }

    #[test]
    fn a_prelude_comes_in_pieces_and_ends_in_time() {
        let bytes = prelude("{}", b"");
        for length in 0..bytes.len() {
            assert!(matches!(Prelude::read(&bytes.slice(..length)), Prelude::Open), "{length}");
        }
        assert!(matches!(Prelude::read(&bytes), Prelude::Whole { .. }));
        let padded = |length: usize| prelude(&format!("{{}}{}", " ".repeat(length - 10)), b"x");
        assert!(matches!(Prelude::read(&padded(MAX_PRELUDE)), Prelude::Whole { .. }));
        assert!(matches!(Prelude::read(&padded(MAX_PRELUDE + 1)), Prelude::Unusable));
        assert!(matches!(Prelude::read(&prelude("{", b"")), Prelude::Unusable));
        assert!(matches!(Prelude::read(&prelude(r#"{"statusCode":"x"}"#, b"")), Prelude::Unusable));
    }
}
