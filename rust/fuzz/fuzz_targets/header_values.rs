//! No header value, whatever a handler's error message or a trace holds, adds a line to a request or ends its head; and
//! whatever the headers of an invocation hold, it is either an error or answered with one request that is well formed
//! and carries its ids.
#![no_main]

use arbitrary::Arbitrary;
use caloric_core::http1::RequestHead;
use caloric_core::memory::{Memory, NoWait, Script};
use caloric_core::{Answer, AnswerKind, Client, Error};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Values of headers that we write.
    values: Vec<&'a str>,
    /// Values of headers that the Runtime API writes.
    request_id: &'a [u8],
    invocation_id: &'a [u8],
    deadline: &'a [u8],
    content_type: &'a [u8],
    error_type: &'a str,
    cause: &'a str,
    body: &'a [u8],
}

fuzz_target!(|input: Input| {
    let mut wire = Vec::new();
    let mut head = RequestHead::new(&mut wire, "POST", &["/2018-06-01/runtime/", "invocation/1/response"]);
    for value in &input.values {
        head = head.header("Name", value);
    }
    head.end();
    let headers = parse(&wire, "/2018-06-01/runtime/invocation/1/response").0;
    assert_eq!(headers.len(), input.values.len());
    for ((_, received), value) in headers.iter().zip(&input.values) {
        assert_eq!(received, &as_received(value));
    }
    serve_one(&input);
});

/// Take an invocation with these headers, and answer it with an error.
fn serve_one(input: &Input) {
    let mut response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n".to_vec();
    for (name, value) in [
        ("Lambda-Runtime-Aws-Request-Id", input.request_id),
        ("Lambda-Runtime-Invocation-Id", input.invocation_id),
        ("Lambda-Runtime-Deadline-Ms", input.deadline),
        ("Content-Type", input.content_type),
    ] {
        // A line end would be another header, or none: that is what the target `response` is for.
        let value: Vec<u8> = value.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        response.extend_from_slice(name.as_bytes());
        response.extend_from_slice(b": ");
        response.extend_from_slice(&value);
        response.extend_from_slice(b"\r\n");
    }
    response.extend_from_slice(b"\r\n{}");
    let memory =
        Memory::new([Script::answers(&[&response, b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"])]);
    let sent = memory.sent();
    let mut client = Client::new(memory, "caloric/fuzz");
    let invocation = match client.next_invocation(&mut NoWait) {
        Ok(invocation) => invocation,
        Err(Error::MissingRequestId | Error::InvalidRequestId { .. } | Error::NotHttp { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let _ = invocation.deadline_ms();
    assert_eq!(client.event(), b"{}");
    let answer = Answer {
        request_id: &invocation.request_id,
        invocation_id: invocation.invocation_id.as_deref(),
        body: input.body,
        kind: AnswerKind::Error { error_type: input.error_type, xray_cause: input.cause },
    };
    let already_sent = sent.borrow()[0].len();
    client.post(&answer, false, &mut NoWait).map(drop).expect("it is accepted");
    let sent = &sent.borrow()[0][already_sent..];
    let path = format!("/2018-06-01/runtime/invocation/{}/error", invocation.request_id);
    let (headers, body) = parse(sent, &path);
    assert_eq!(body, input.body);
    let value = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    assert_eq!(value("Content-Length"), Some(input.body.len().to_string().as_str()));
    assert_eq!(value("Lambda-Runtime-Function-Error-Type"), Some(as_received(input.error_type).as_str()));
    let echoed = invocation.invocation_id.as_deref().map(as_received);
    assert_eq!(value("Lambda-Runtime-Invocation-Id"), echoed.as_deref());
}

/// The headers and what is behind them, of the one request in `wire`.
fn parse<'a>(wire: &'a [u8], path: &str) -> (Vec<(String, String)>, &'a [u8]) {
    let mut fields = vec![httparse::EMPTY_HEADER; wire.len() / 4];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = request.parse(wire) else {
        panic!("no request: {:?}", String::from_utf8_lossy(wire));
    };
    assert_eq!((request.method, request.path), (Some("POST"), Some(path)));
    let headers = request
        .headers
        .iter()
        .map(|field| (field.name.to_owned(), String::from_utf8(field.value.to_vec()).expect("UTF-8")))
        .collect();
    (headers, &wire[length..])
}

/// A value as it arrives: control characters are blanks, and those at the ends are no part of it.
fn as_received(value: &str) -> String {
    let blanks: String = value.chars().map(|char| if char.is_ascii_control() { ' ' } else { char }).collect();
    blanks.trim_matches(' ').to_owned()
}
