//! Properties of the wire format: what is written can be read back, and what is read does not depend on how it arrived.

use caloric_core::http1::{RequestHead, ResponseBuffer};
use caloric_core::memory::{Memory, NoWait, Script};
use caloric_core::{Answer, AnswerKind, Client};
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A response and how its body is cut into chunks; none: it has a length.
#[derive(Debug, Clone)]
struct Sent {
    response: Response,
    chunks: Option<Vec<usize>>,
    interim: bool,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let Response { status, headers, body } = &self.response;
        let mut wire = Vec::new();
        if self.interim {
            wire.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n");
        }
        wire.extend_from_slice(format!("HTTP/1.1 {status} Any Reason\r\n").as_bytes());
        for (name, value) in headers {
            wire.extend_from_slice(format!("{name}:\t {value} \r\n").as_bytes());
        }
        let Some(sizes) = &self.chunks else {
            wire.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            wire.extend_from_slice(body);
            return wire;
        };
        wire.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        let mut rest = body.as_slice();
        for size in sizes.iter().copied().chain(std::iter::once(usize::MAX)) {
            let (chunk, later) = rest.split_at(size.min(rest.len()));
            if !chunk.is_empty() {
                wire.extend_from_slice(format!("{:x};extension\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            rest = later;
        }
        wire.extend_from_slice(b"0\r\nTrailer: ignored\r\n\r\n");
        wire
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let status = prop_oneof![200..=203_u16, 205..=303_u16, 400..=599_u16];
    // Names that mean nothing to the framing.
    let headers = prop::collection::vec(("X-[A-Za-z0-9-]{1,10}", "[!-~]{1,20}"), 0..5);
    let body = prop::collection::vec(any::<u8>(), 0..600);
    let chunks = prop::option::of(prop::collection::vec(1..200_usize, 0..6));
    (status, headers, body, chunks, any::<bool>()).prop_map(|(status, headers, body, chunks, interim)| Sent {
        response: Response { status, headers, body },
        chunks,
        interim,
    })
}

/// What arrives when `wire` is received in pieces of these sizes, over and over.
fn receive(wire: &[u8], sizes: &[usize]) -> Vec<Response> {
    let mut buffer = ResponseBuffer::new();
    let mut responses = Vec::new();
    let mut rest = wire;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let received = buffer.receive(|space| {
            let count = (*size).min(rest.len()).min(space.len());
            space[..count].copy_from_slice(&rest[..count]);
            Ok::<_, ()>(count)
        });
        rest = &rest[received.expect("this read does not fail")..];
        while buffer.advance().expect("well-formed responses") {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
            responses.push(Response {
                status: buffer.status(),
                headers: buffer
                    .headers()
                    .map(|(name, value)| (text(name), text(value)))
                    .filter(|(name, _)| name.starts_with("X-"))
                    .collect(),
                body: buffer.body().to_vec(),
            });
            buffer.consume();
        }
    }
    assert!(!buffer.has_started(), "nothing is left over");
    responses
}

/// A header's value as it arrives: control characters are blanks, and those at the ends are no part of it.
fn as_received(value: &str) -> String {
    let blanks: String = value.chars().map(|char| if char.is_ascii_control() { ' ' } else { char }).collect();
    blanks.trim_matches(' ').to_owned()
}

/// Headers and body of the one request in `wire`.
fn parse_request(wire: &[u8]) -> (String, Vec<(String, String)>, Vec<u8>) {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = request.parse(wire) else { panic!("no request: {wire:?}") };
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|field| (field.name.to_owned(), String::from_utf8(field.value.to_vec()).expect("UTF-8")))
        .collect();
    let path = request.path.expect("a path").to_owned();
    (path, headers, wire[length..].to_vec())
}

proptest! {
    #[test]
    fn responses_are_the_same_however_they_arrive(
        sent in prop::collection::vec(sent(), 1..5),
        sizes in prop::collection::vec(1..300_usize, 1..20),
    ) {
        let wire = sent.iter().flat_map(Sent::bytes).collect::<Vec<_>>();
        let expected: Vec<_> = sent.into_iter().map(|sent| sent.response).collect();
        prop_assert_eq!(&receive(&wire, &sizes), &expected);
        prop_assert_eq!(&receive(&wire, &[1]), &expected);
        prop_assert_eq!(&receive(&wire, &[usize::MAX]), &expected);
    }

    #[test]
    fn a_posted_answer_is_read_back_as_it_was_meant(
        request_id in "[!-~&&[^/]]{1,40}",
        invocation_id in prop::option::of(any::<String>()),
        content_type in any::<String>(),
        body in prop::collection::vec(any::<u8>(), 0..5000),
    ) {
        let memory = Memory::new([Script::bytes(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")]);
        let sent = memory.sent();
        let mut client = Client::new(memory, "caloric/test");
        let answer = Answer {
            request_id: &request_id,
            invocation_id: invocation_id.as_deref(),
            body: &body,
            kind: AnswerKind::Response { content_type: &content_type },
        };
        let posted = client.post(&answer, false, &mut NoWait);
        prop_assert!(posted.is_ok(), "{:?}", posted);
        let (path, headers, received) = parse_request(&sent.borrow()[0]);
        prop_assert_eq!(path, format!("/2018-06-01/runtime/invocation/{request_id}/response"));
        let length = body.len().to_string();
        let mut expected = vec![
            ("Host", "127.0.0.1:9001".to_owned()),
            ("User-Agent", "caloric/test".to_owned()),
            ("Content-Type", as_received(&content_type)),
        ];
        if let Some(id) = &invocation_id {
            expected.push(("Lambda-Runtime-Invocation-Id", as_received(id)));
        }
        expected.push(("Content-Length", length));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        prop_assert_eq!(headers, expected);
        prop_assert_eq!(received, body);
    }

    #[test]
    fn a_posted_error_is_read_back_as_it_was_meant(
        error_type in any::<String>(),
        xray_cause in any::<String>(),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let memory = Memory::new([Script::bytes(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")]);
        let sent = memory.sent();
        let mut client = Client::new(memory, "caloric/test");
        let kind = AnswerKind::Error { error_type: &error_type, xray_cause: &xray_cause };
        let answer = Answer { request_id: "id", invocation_id: None, body: &body, kind };
        let posted = client.post(&answer, false, &mut NoWait);
        prop_assert!(posted.is_ok(), "{:?}", posted);
        let (_, headers, received) = parse_request(&sent.borrow()[0]);
        let value = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        prop_assert_eq!(value("Lambda-Runtime-Function-Error-Type"), Some(as_received(&error_type)));
        let cause = value("Lambda-Runtime-Function-XRay-Error-Cause");
        prop_assert_eq!(cause, (!xray_cause.is_empty()).then(|| as_received(&xray_cause)));
        prop_assert_eq!(received, body);
    }

    #[test]
    fn no_header_value_adds_a_line(values in prop::collection::vec(any::<String>(), 0..20)) {
        let mut wire = Vec::new();
        let mut head = RequestHead::new(&mut wire, "POST", &["/2018-06-01/runtime/", "init/error"]);
        for value in &values {
            head = head.header("Name", value);
        }
        head.end();
        let (_, headers, rest) = parse_request(&wire);
        let expected: Vec<_> = values.iter().map(|value| ("Name".to_owned(), as_received(value))).collect();
        prop_assert_eq!(headers, expected);
        prop_assert!(rest.is_empty());
    }
}

/// What comes of any bytes, received in pieces of these sizes: the responses, and the error that ended them.
fn outcome(wire: &[u8], sizes: &[usize]) -> (Vec<(u16, Vec<u8>)>, Option<String>) {
    let mut buffer = ResponseBuffer::new();
    let mut responses = Vec::new();
    let mut rest = wire;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at((*size).min(rest.len()));
        buffer.push(piece);
        rest = later;
        loop {
            match buffer.advance() {
                Ok(true) => responses.push((buffer.status(), buffer.body().to_vec())),
                Ok(false) => break,
                Err(error) => return (responses, Some(error.to_string())),
            }
            buffer.consume();
        }
    }
    (responses, buffer.close().err().map(|error| error.to_string()))
}

#[test]
fn what_the_fuzzer_kept_is_the_same_however_it_arrives() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/response");
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).expect("the seeds") {
        let bytes = std::fs::read(seed.expect("an entry").path()).expect("a file");
        // The target takes the sizes of the pieces from the first four.
        let Some((sizes, wire)) = bytes.split_first_chunk::<4>() else { continue };
        let at_once = outcome(wire, &[usize::MAX]);
        assert_eq!(outcome(wire, &[1]), at_once);
        assert_eq!(outcome(wire, &sizes.map(|size| usize::from(size) + 1)), at_once);
        count += 1;
    }
    assert!(count > 50, "{count}");
}
