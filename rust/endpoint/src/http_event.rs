//! The event that a function URL makes of an HTTP request: payload format 2.0 (spec lambda-service 4.3).
//!
//! What no source tells is chosen here: `+` in a query is a blank; a body without a content type is base64, as is a text
//! that is not UTF-8; addresses are added to an `x-forwarded-for` that the client sent; a chunked body is told by its length.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TRANSFER_ENCODING, USER_AGENT};
use hyper::http::request::Parts;

use crate::error_document::push_json_string;
use crate::telemetry::date_of;

/// What is known of a request beside itself.
pub struct Circumstances<'a> {
    /// The invocation's id, which is the request's.
    pub request_id: &'a str,
    /// The invocation's trace.
    pub trace_id: &'a str,
    pub at: SystemTime,
    /// Who sent it.
    pub client: SocketAddr,
    /// Where it was received.
    pub server: SocketAddr,
}

/// The event as JSON text.
pub fn event_of(head: &Parts, body: &[u8], circumstances: &Circumstances<'_>) -> String {
    let headers = joined_headers(head, body.len(), circumstances);
    let query = head.uri.query().unwrap_or_default();
    let raw_path = match head.uri.path() {
        path if path.starts_with('/') => path,
        // `OPTIONS *`
        _ => "/",
    };
    let mut event = JsonObject::new();
    event.text("version", "2.0");
    event.text("routeKey", "$default");
    event.text("rawPath", raw_path);
    event.text("rawQueryString", query);
    // What there is none of is left out, as in recorded events.
    if let Some(cookies) = headers.get(COOKIE.as_str()) {
        event.raw("cookies", &array(cookies.split("; ").filter(|cookie| !cookie.is_empty())));
    }
    event.raw("headers", &object(&headers));
    let parameters = query_parameters(query);
    if !parameters.is_empty() {
        event.raw("queryStringParameters", &object(&parameters));
    }
    event.raw("requestContext", &request_context(head, raw_path, &headers, circumstances));
    let text = std::str::from_utf8(body)
        .ok()
        .filter(|_| headers.get(CONTENT_TYPE.as_str()).is_some_and(|t| is_text(t)));
    match text {
        _ if body.is_empty() => event.raw("isBase64Encoded", "false"),
        Some(text) => {
            event.text("body", text);
            event.raw("isBase64Encoded", "false");
        }
        None => {
            event.text("body", &STANDARD.encode(body));
            event.raw("isBase64Encoded", "true");
        }
    }
    event.end()
}

fn request_context(
    head: &Parts,
    raw_path: &str,
    headers: &BTreeMap<String, String>,
    circumstances: &Circumstances<'_>,
) -> String {
    let host = headers.get(HOST.as_str()).map_or("", |host| without_port(host));
    // Of a function URL it is the URL's id.
    let prefix = if host.parse::<std::net::IpAddr>().is_ok() {
        host
    } else {
        host.split_once('.').map_or(host, |(first, _)| first)
    };
    let mut http = JsonObject::new();
    http.text("method", head.method.as_str());
    http.text("path", &percent_decoded(raw_path));
    http.text("protocol", &format!("{:?}", head.version));
    http.text("sourceIp", &circumstances.client.ip().to_string());
    http.text("userAgent", headers.get(USER_AGENT.as_str()).map_or("", String::as_str));
    let since = circumstances.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut context = JsonObject::new();
    context.text("accountId", "anonymous");
    context.text("apiId", prefix);
    context.text("domainName", host);
    context.text("domainPrefix", prefix);
    context.raw("http", &http.end());
    context.text("requestId", circumstances.request_id);
    context.text("routeKey", "$default");
    context.text("stage", "$default");
    context.text("time", &log_time(since.as_secs()));
    context.raw("timeEpoch", &since.as_millis().to_string());
    context.end()
}

/// The headers by their lower-case names, and those that the service adds.
fn joined_headers(head: &Parts, body: usize, circumstances: &Circumstances<'_>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for name in head.headers.keys().filter(|name| **name != CONNECTION && **name != TRANSFER_ENCODING) {
        let values: Vec<_> = head
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let separator = if *name == COOKIE { "; " } else { "," };
        headers.insert(name.as_str().to_owned(), values.join(separator));
    }
    if head.headers.contains_key(TRANSFER_ENCODING) {
        headers.insert(CONTENT_LENGTH.to_string(), body.to_string());
    }
    headers.entry(HOST.to_string()).or_insert_with(|| circumstances.server.to_string());
    let client = circumstances.client.ip().to_string();
    headers
        .entry("x-forwarded-for".to_owned())
        .and_modify(|earlier| *earlier = format!("{earlier}, {client}"))
        .or_insert(client);
    headers.insert("x-forwarded-port".to_owned(), circumstances.server.port().to_string());
    headers.insert("x-forwarded-proto".to_owned(), "http".to_owned());
    // Of a trace that the client did not send, the event has the root only.
    let root = circumstances.trace_id.split(';').next().unwrap_or_default();
    headers
        .entry("x-amzn-trace-id".to_owned())
        .and_modify(|sent| {
            if sent.is_empty() {
                root.clone_into(sent);
            }
        })
        .or_insert_with(|| root.to_owned());
    headers
}

/// `[::1]:8080` and `localhost:8080` without the port, and without the brackets.
fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Whether a body of this type is handed over as text. The list is as long as it is known to be: forms are
/// not in it.
fn is_text(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.starts_with("text/")
        || media.ends_with("+json")
        || media.ends_with("+xml")
        || matches!(
            media.as_str(),
            "application/json" | "application/xml" | "application/javascript" | "application/x-javascript"
        )
}

/// The parameters by name, decoded; the values of a name that comes again are joined.
fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| percent_decoded(&text.replace('+', " "));
        let value = decoded(value);
        parameters
            .entry(decoded(name))
            .and_modify(|earlier: &mut String| {
                earlier.push(',');
                earlier.push_str(&value);
            })
            .or_insert(value);
    }
    parameters
}

/// The text with its valid escapes decoded; the others stay as they are.
fn percent_decoded(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escape = match (bytes[index], digit(bytes.get(index + 1)), digit(bytes.get(index + 2))) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        decoded.push(escape.unwrap_or(bytes[index]));
        index += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// `15/Sep/2026:11:53:23 +0000`, as web servers log it.
fn log_time(seconds: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day) = date_of(seconds / 86_400);
    let month = usize::try_from(month).ok().and_then(|month| MONTHS.get(month - 1)).unwrap_or(&"");
    let second = seconds % 86_400;
    format!(
        "{day:02}/{month}/{year:04}:{:02}:{:02}:{:02} +0000",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A JSON object on its way.
struct JsonObject(String);

impl JsonObject {
    fn new() -> Self {
        Self(String::from("{"))
    }

    fn raw(&mut self, name: &str, json: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        push_json_string(&mut self.0, name);
        self.0.push(':');
        self.0.push_str(json);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.raw(name, "");
        push_json_string(&mut self.0, value);
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn object(members: &BTreeMap<String, String>) -> String {
    let mut json = JsonObject::new();
    for (name, value) in members {
        json.text(name, value);
    }
    json.end()
}

fn array<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let mut json = String::from("[");
    for item in items {
        if json.len() > 1 {
            json.push(',');
        }
        push_json_string(&mut json, item);
    }
    json.push(']');
    json
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::Request;
    use hyper::http::request::Builder;

    use super::*;

    const HOST_NAME: &str = "k7m2q4x8w1z5t9b3c6v0n4h2j8r5d1fa.lambda-url.eu-west-1.on.aws";

    fn event(request: Builder, body: &[u8]) -> String {
        let (head, ()) = request.body(()).unwrap().into_parts();
        let circumstances = Circumstances {
            request_id: "0c6f1f6e-6c07-4b0e-9d3c-0f3f6b1f4a55",
            trace_id: "Root=1-6aa931b3-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=0",
            at: UNIX_EPOCH + Duration::from_millis(1_789_473_203_648),
            client: "203.0.113.9:54321".parse().unwrap(),
            server: "127.0.0.1:8080".parse().unwrap(),
        };
        event_of(&head, body, &circumstances)
    }

    fn get(target: &str) -> Builder {
        Request::builder().uri(target).header("host", "localhost:8080")
    }

    #[test]
    fn a_request_becomes_the_recorded_event() {
        let request = Request::builder()
            .method("POST")
            .uri("/a%20b/items?x=1&x=2&q=%2Fz")
            .header("Host", HOST_NAME)
            .header("User-Agent", "curl/8.9")
            .header("Accept", "*/*")
            .header("Content-Type", "application/json")
            .header("Content-Length", "9")
            .header("Connection", "keep-alive")
            .header("X-Multi", "one")
            .header("X-Multi", "two")
            .header("Cookie", "sid=abc; theme=dark");
        let expected = format!(
            concat!(
                r#"{{"version":"2.0","routeKey":"$default","rawPath":"/a%20b/items","#,
                r#""rawQueryString":"x=1\u0026x=2\u0026q=%2Fz","cookies":["sid=abc","theme=dark"],"#,
                r#""headers":{{"accept":"*/*","content-length":"9","content-type":"application/json","#,
                r#""cookie":"sid=abc; theme=dark","host":"{host}","user-agent":"curl/8.9","#,
                r#""x-amzn-trace-id":"Root=1-6aa931b3-0123456789abcdef01234567","#,
                r#""x-forwarded-for":"203.0.113.9","x-forwarded-port":"8080","x-forwarded-proto":"http","#,
                r#""x-multi":"one,two"}},"queryStringParameters":{{"q":"/z","x":"1,2"}},"#,
                r#""requestContext":{{"accountId":"anonymous","apiId":"k7m2q4x8w1z5t9b3c6v0n4h2j8r5d1fa","#,
                r#""domainName":"{host}","domainPrefix":"k7m2q4x8w1z5t9b3c6v0n4h2j8r5d1fa","#,
                r#""http":{{"method":"POST","path":"/a b/items","protocol":"HTTP/1.1","#,
                r#""sourceIp":"203.0.113.9","userAgent":"curl/8.9"}},"#,
                r#""requestId":"0c6f1f6e-6c07-4b0e-9d3c-0f3f6b1f4a55","routeKey":"$default","#,
                r#""stage":"$default","time":"15/Sep/2026:11:53:23 +0000","timeEpoch":1789473203648}},"#,
                r#""body":"{{\"id\":17}}","isBase64Encoded":false}}"#
            ),
            host = HOST_NAME
        );
        assert_eq!(event(request, br#"{"id":17}"#), expected);
    }

    #[test]
    fn what_there_is_none_of_is_left_out() {
        let event = event(get("/"), b"");
        for absent in ["\"cookies\"", "\"queryStringParameters\"", "\"body\"", "\"pathParameters\""] {
            assert!(!event.contains(absent), "{event}");
        }
        assert!(
            event.contains(r#""rawQueryString":"""#) && event.ends_with(r#""isBase64Encoded":false}"#),
            "{event}"
        );
        assert!(event.contains(r#""domainName":"localhost","domainPrefix":"localhost""#), "{event}");
    }

    #[test]
    fn texts_are_text_and_all_else_is_base64() {
        let body =
            |content_type: &str, body: &[u8]| event(get("/").header("content-type", content_type), body);
        for text in ["text/plain", "Application/JSON; charset=utf-8", "application/ld+json", "image/svg+xml"]
        {
            assert!(body(text, b"a=1").ends_with(r#""body":"a=1","isBase64Encoded":false}"#), "{text}");
        }
        for other in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png"] {
            assert!(body(other, b"a=1").ends_with(r#""body":"YT0x","isBase64Encoded":true}"#), "{other}");
        }
        assert!(event(get("/"), b"a=1").ends_with(r#""body":"YT0x","isBase64Encoded":true}"#));
        assert!(body("text/plain", b"\xff").ends_with(r#""body":"/w==","isBase64Encoded":true}"#));
    }

    #[test]
    fn a_query_is_decoded_name_by_name() {
        let parameters = query_parameters("a=1&b&&c=%26+x&a=%zz&d=%C3%A9=");
        let pairs: Vec<_> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1,%zz"), ("b", ""), ("c", "& x"), ("d", "é=")]);
    }

    #[test]
    fn an_escape_that_is_none_stays_in_the_path() {
        assert!(event(get("/pa2%Fth/1"), b"").contains(r#""path":"/pa2%Fth/1""#));
        assert!(event(get("/%"), b"").contains(r#""path":"/%""#));
    }

    #[test]
    fn a_chunked_body_is_told_by_its_length() {
        let event = event(get("/").header("transfer-encoding", "chunked"), b"abc");
        assert!(event.contains(r#""content-length":"3""#) && !event.contains("transfer-encoding"), "{event}");
    }

    #[test]
    fn who_forwarded_and_traced_before_is_kept() {
        let request = get("/")
            .header("x-forwarded-for", "198.51.100.1")
            .header("x-amzn-trace-id", "Root=1-a-b;Sampled=1");
        let event = event(request, b"");
        assert!(event.contains(r#""x-forwarded-for":"198.51.100.1, 203.0.113.9""#), "{event}");
        assert!(event.contains(r#""x-amzn-trace-id":"Root=1-a-b;Sampled=1""#), "{event}");
    }

    #[test]
    fn hosts_lose_their_ports() {
        for (host, name) in [("[::1]:80", "::1"), ("127.0.0.1:80", "127.0.0.1"), ("a.b", "a.b")] {
            assert_eq!(without_port(host), name);
        }
    }
}
