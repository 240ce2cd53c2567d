//! The Runtime API byte by byte: a runtime made of a socket, so that what it sends is what the test says.

#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping, in its helpers too")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use caloric_endpoint::{
    EndpointError, EnvironmentConfig, ExecutionEnvironment, InvocationRequest, InvokeResult, VirtualClock,
};

const LIMIT: usize = 6 * 1024 * 1024 + 100;
const NEXT: &str = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n";

/// One response: the status, the head as text, the body.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One connection.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn new(environment: &ExecutionEnvironment) -> Self {
        let stream = TcpStream::connect(environment.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 256 * 1024];
        let length = self.stream.read(&mut chunk).unwrap();
        self.buffer.extend_from_slice(&chunk[..length]);
        length > 0
    }

    /// The next response; every one of ours has a length.
    fn receive(&mut self) -> Answer {
        let end = loop {
            match self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end,
                None => assert!(self.fill(), "the connection was closed"),
            }
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
        let mut answer = Answer { status: head[9..12].parse().unwrap(), head, body: Vec::new() };
        let length: usize = answer.header("content-length").expect("a length").parse().unwrap();
        while self.buffer.len() < end + 4 + length {
            assert!(self.fill(), "the connection was closed in a body");
        }
        answer.body = self.buffer[end + 4..end + 4 + length].to_vec();
        self.buffer.drain(..end + 4 + length);
        answer
    }

    fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.receive()
    }

    fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    fn silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut byte = [0];
        let silent =
            matches!(self.stream.read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        silent
    }
}

fn environment() -> ExecutionEnvironment {
    ExecutionEnvironment::new(EnvironmentConfig::default()).unwrap()
}

fn invoke_with(environment: &ExecutionEnvironment, request: InvocationRequest) -> Receiver<InvokeResult> {
    let (sender, receiver) = mpsc::channel();
    environment.submit(request, move |result| sender.send(result).unwrap()).unwrap();
    receiver
}

fn invoke(environment: &ExecutionEnvironment, event: &'static str) -> Receiver<InvokeResult> {
    let request = InvocationRequest {
        event: event.into(),
        request_id: Some("the-id".to_owned()),
        ..InvocationRequest::default()
    };
    invoke_with(environment, request)
}

fn result(receiver: &Receiver<InvokeResult>) -> InvokeResult {
    receiver.recv_timeout(Duration::from_secs(10)).expect("the invocation was finished")
}

/// A connection that has been handed the invocation `the-id`.
fn running(environment: &ExecutionEnvironment) -> (Client, Receiver<InvokeResult>) {
    let receiver = invoke(environment, "{}");
    let mut client = Client::new(environment);
    assert_eq!(client.ask(NEXT).status, 200);
    (client, receiver)
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn response(headers: &str, body: &str) -> String {
    post("/2018-06-01/runtime/invocation/the-id/response", headers, body)
}

const ACCEPTED: &str = "{\"status\":\"OK\"}\n";

#[test]
fn an_event_comes_with_the_documented_headers() {
    let environment = environment();
    let request = InvocationRequest {
        event: "[1]".into(),
        request_id: Some("the-id".to_owned()),
        trace_id: Some("Root=1-a-b;Parent=c;Sampled=1".to_owned()),
        client_context: Some("{\"client\":{}}".to_owned()),
        cognito_identity: Some("{\"cognitoIdentityId\":\"é\"}".to_owned()),
        tenant_id: Some("blue".to_owned()),
        ..InvocationRequest::default()
    };
    let _receiver = invoke_with(&environment, request);
    let mut client = Client::new(&environment);
    let answer = client.ask(NEXT);
    assert_eq!((answer.status, answer.text()), (200, "[1]"));
    for (name, value) in [
        ("Lambda-Runtime-Aws-Request-Id", "the-id"),
        ("Lambda-Runtime-Trace-Id", "Root=1-a-b;Parent=c;Sampled=1"),
        ("Lambda-Runtime-Client-Context", "{\"client\":{}}"),
        ("Lambda-Runtime-Cognito-Identity", "{\"cognitoIdentityId\":\"é\"}"),
        ("Lambda-Runtime-Aws-Tenant-Id", "blue"),
        (
            "Lambda-Runtime-Invoked-Function-Arn",
            "arn:aws:lambda:us-east-1:012345678912:function:test_function",
        ),
        ("Content-Type", "application/json"),
        ("Content-Length", "3"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
        assert!(
            answer.head.contains(&format!("\r\n{name}: ")),
            "{name} is spelled as the platform spells it"
        );
    }
    let deadline: u128 = answer.header("Lambda-Runtime-Deadline-Ms").unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!((now + 2500..=now + 3000).contains(&deadline), "{deadline}, now {now}");
    assert_eq!(answer.header("Lambda-Runtime-Invocation-Id").unwrap().len(), 36);
}

#[test]
fn optional_headers_are_left_out_not_empty() {
    let environment = environment();
    let _receiver = invoke(&environment, "{}");
    let answer = Client::new(&environment).ask(NEXT);
    for name in ["Client-Context", "Cognito-Identity", "Aws-Tenant-Id"] {
        assert_eq!(answer.header(&format!("Lambda-Runtime-{name}")), None);
    }
    assert!(answer.header("Lambda-Runtime-Trace-Id").unwrap().starts_with("Root=1-"));
}

#[test]
fn an_answer_and_the_next_poll_may_come_in_one_write() {
    let environment = environment();
    let first = invoke(&environment, "{}");
    let second = invoke_with(&environment, InvocationRequest { event: "2".into(), ..Default::default() });
    let mut client = Client::new(&environment);
    client.ask(NEXT);
    client.send(response("Content-Type: text/plain\r\n", "hello") + NEXT);
    // Both answers leave together: one read gets them.
    assert!(client.fill());
    let text = String::from_utf8_lossy(&client.buffer).into_owned();
    assert!(text.contains("202 Accepted") && text.contains("200 OK"), "{text}");
    let accepted = client.receive();
    assert_eq!((accepted.status, accepted.text()), (202, ACCEPTED));
    assert_eq!(accepted.header("Content-Type"), Some("application/json"));
    assert_eq!(client.receive().text(), "2");
    let first = result(&first);
    assert_eq!(first.answer.payload, "hello");
    assert_eq!(first.answer.content_type, "text/plain");
    assert!(second.try_recv().is_err());
}

#[test]
fn the_acceptance_does_not_wait_for_the_next_event() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    client.send(response("", "1") + NEXT);
    assert_eq!(client.receive().status, 202);
    result(&receiver);
    let next = invoke_with(&environment, InvocationRequest { event: "3".into(), ..Default::default() });
    assert_eq!(client.receive().text(), "3");
    assert!(next.try_recv().is_err());
}

#[test]
fn a_stray_line_end_after_a_body_holds_nothing_back() {
    let environment = environment();
    let (mut client, _receiver) = running(&environment);
    assert_eq!(client.ask(response("", "1") + "\r\n").status, 202);
}

#[test]
fn a_client_that_expects_to_be_asked_for_its_body_is_asked() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    client.send(
        "POST /2018-06-01/runtime/invocation/the-id/response HTTP/1.1\r\nExpect: 100-continue\r\n\
         Content-Length: 2\r\n\r\n",
    );
    assert!(client.fill());
    assert_eq!(client.buffer, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.buffer.clear();
    assert_eq!(client.ask("42").status, 202);
    client.send(NEXT);
    assert_eq!(result(&receiver).answer.payload, "42");
}

#[test]
fn chunked_bodies_are_put_together() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    let head = "POST /2018-06-01/runtime/invocation/the-id/response HTTP/1.1\r\nHost: x\r\n\
                Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n";
    for part in [head, "3\r\nabc\r\n", "2;x=y\r\nde\r\n", "0\r\n", "\r\n"] {
        client.send(part);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.receive().status, 202);
    client.send(NEXT);
    assert_eq!(result(&receiver).answer.payload, "abcde");
}

#[test]
fn error_trailers_turn_a_response_into_an_error() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    let answer = client.ask(
        "POST /2018-06-01/runtime/invocation/the-id/response HTTP/1.1\r\nHost: x\r\n\
         Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\
         Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n\
         4\r\nhalf\r\n0\r\nLambda-Runtime-Function-Error-Type: Function.Oops\r\n\
         Lambda-Runtime-Function-Error-Body: eyJlcnJvclR5cGUiOiJFIn0\r\n\r\n",
    );
    assert_eq!(answer.status, 202);
    client.send(NEXT);
    let result = result(&receiver);
    assert!(result.answer.is_error);
    assert_eq!(result.answer.payload, "{\"errorType\":\"E\"}");
    assert_eq!(result.answer.error_type.unwrap(), "Function.Oops");
}

#[test]
fn a_head_of_more_than_a_megabyte_is_read_and_a_larger_one_refused() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    let cause = |size| format!("Lambda-Runtime-Function-XRay-Error-Cause: {}\r\n", "x".repeat(size));
    let path = "/2018-06-01/runtime/invocation/the-id/error";
    assert_eq!(client.ask(post(path, &cause(1_150_000), "{}")).status, 202);
    client.send(NEXT);
    assert!(result(&receiver).answer.is_error);
    let mut client = Client::new(&environment);
    let _ = client.stream.write_all(post(path, &cause(1_400_000), "{}").as_bytes());
    assert_eq!(client.receive().status, 431);
}

#[test]
fn a_response_over_the_limit_is_413_and_the_invocation_answered_with_that() {
    for chunked in [false, true] {
        let environment = environment();
        let (mut client, receiver) = running(&environment);
        let body = "x".repeat(LIMIT + 1);
        let path = "/2018-06-01/runtime/invocation/the-id/response";
        if chunked {
            client.send(format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ));
        } else {
            client.send(post(path, "", &body));
        }
        let answer = client.receive();
        assert_eq!(answer.status, 413);
        assert_eq!(
            answer.text(),
            "{\"errorMessage\":\"Exceeded maximum allowed payload size (6291556 bytes).\",\
             \"errorType\":\"RequestEntityTooLarge\"}\n"
        );
        assert_eq!(client.ask(post(&path.replace("response", "error"), "", "{}")).status, 403);
        client.send(NEXT);
        let result = result(&receiver);
        assert_eq!(
            result.answer.payload,
            "{\"errorMessage\":\"Response payload size (6291557 bytes) exceeded maximum allowed payload size \
             (6291556 bytes).\",\"errorType\":\"Function.ResponseSizeTooLarge\"}"
        );
    }
}

#[test]
fn a_response_of_exactly_the_limit_is_accepted() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    assert_eq!(client.ask(response("", &"x".repeat(LIMIT))).status, 202);
    client.send(NEXT);
    assert_eq!(result(&receiver).answer.payload.len(), LIMIT);
}

#[test]
fn an_error_body_over_the_limit_is_413_too() {
    let environment = environment();
    let (mut client, _receiver) = running(&environment);
    let path = "/2018-06-01/runtime/invocation/the-id/error";
    assert_eq!(client.ask(post(path, "", &"x".repeat(LIMIT + 1))).status, 413);
}

#[test]
fn a_client_that_hangs_up_in_its_answer_truncates_it() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    client.send(
        "POST /2018-06-01/runtime/invocation/the-id/response HTTP/1.1\r\nContent-Length: 10\r\n\r\n1234",
    );
    drop(client);
    let mut client = Client::new(&environment);
    // The next poll finishes the invocation, once the lost connection was noticed.
    let deadline = Instant::now() + Duration::from_secs(5);
    client.send(NEXT);
    while client.silent_for(Duration::from_millis(50)) && Instant::now() < deadline {
        if let Ok(result) = receiver.try_recv() {
            assert_eq!(result.failure_type().unwrap(), "Runtime.TruncatedResponse");
            return;
        }
    }
    let answer = client.receive();
    assert_eq!(answer.status, 403, "the poll came before the end of the other connection: {answer:?}");
    client.send(NEXT);
    assert_eq!(result(&receiver).failure_type().unwrap(), "Runtime.TruncatedResponse");
}

#[test]
fn while_an_answer_is_uploaded_nothing_else_is_accepted() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    client
        .send("POST /2018-06-01/runtime/invocation/the-id/response HTTP/1.1\r\nContent-Length: 4\r\n\r\n12");
    let mut other = Client::new(&environment);
    let mut refused = Answer { status: 0, head: String::new(), body: Vec::new() };
    for _ in 0..100 {
        // Until the head of the upload has been read, a poll gets the event again.
        refused = other.ask(NEXT);
        if refused.status == 403 {
            break;
        }
    }
    assert_eq!(
        refused.text(),
        "{\"errorMessage\":\"State transition from InvocationResponse to Ready failed for runtime. Error: State \
         transition is not allowed\",\"errorType\":\"InvalidStateTransition\"}\n"
    );
    assert_eq!(other.ask(response("", "1")).status, 403);
    client.send("34");
    assert_eq!(client.receive().status, 202);
    other.send(NEXT);
    assert_eq!(result(&receiver).answer.payload, "1234");
}

#[test]
fn a_wrong_id_is_400_and_a_second_answer_403() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    let other = client.ask(post("/2018-06-01/runtime/invocation/other/response", "", "1"));
    let invalid = "{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}\n";
    assert_eq!((other.status, other.text()), (400, invalid));
    assert_eq!(client.ask(response("", "1")).status, 202);
    let second = client.ask(response("", "2"));
    assert_eq!(second.status, 403);
    assert!(
        second.text().contains("from RuntimeResponseSentState to InvocationResponse"),
        "{}",
        second.text()
    );
    client.send(NEXT);
    assert_eq!(result(&receiver).answer.payload, "1");
}

#[test]
fn a_foreign_invocation_id_is_410() {
    let environment = environment();
    let (mut client, _receiver) = running(&environment);
    let answer = client.ask(response("Lambda-Runtime-Invocation-Id: foreign\r\n", "1"));
    assert_eq!(answer.status, 410);
    assert_eq!(answer.text(), "{\"errorMessage\":\"Invoke timeout\",\"errorType\":\"InvokeTimeout\"}\n");
}

#[test]
fn a_retry_of_a_request_is_another_attempt_and_takes_only_its_own_answer() {
    let environment = environment();
    let (mut client, first) = running(&environment);
    let again = client.ask(NEXT);
    let id_of = |answer: &Answer| answer.header("Lambda-Runtime-Invocation-Id").unwrap().to_owned();
    let first_id = id_of(&again);
    let echoed = |id: &str, body: &str| response(&format!("Lambda-Runtime-Invocation-Id: {id}\r\n"), body);
    assert_eq!(client.ask(echoed(&first_id, "1")).status, 202);
    client.send(NEXT);
    assert_eq!(result(&first).answer.payload, "1");
    let retry = invoke(&environment, "{}");
    let delivered = client.receive();
    assert_eq!(delivered.header("Lambda-Runtime-Aws-Request-Id"), Some("the-id"));
    let second_id = id_of(&delivered);
    assert_ne!(first_id, second_id);
    assert_eq!(client.ask(echoed(&first_id, "late")).status, 410);
    let error = post(
        "/2018-06-01/runtime/invocation/the-id/error",
        &format!("Lambda-Runtime-Invocation-Id: {first_id}\r\n"),
        "{}",
    );
    assert_eq!(client.ask(error).status, 410);
    assert_eq!(client.ask(echoed(&second_id, "2")).status, 202);
    client.send(NEXT);
    assert_eq!(result(&retry).answer.payload, "2", "the late answers changed nothing");
}

#[test]
fn an_answer_after_the_timeout_is_410_and_polling_goes_on() {
    let environment = environment();
    let request = InvocationRequest {
        request_id: Some("the-id".to_owned()),
        timeout: Some(Duration::from_millis(50)),
        ..InvocationRequest::default()
    };
    let receiver = invoke_with(&environment, request);
    let mut client = Client::new(&environment);
    client.ask(NEXT);
    assert_eq!(result(&receiver).failure_type().unwrap(), "Sandbox.Timedout");
    assert_eq!(client.ask(response("", "1")).status, 410);
    client.send(NEXT);
    let _receiver = invoke_with(&environment, InvocationRequest { event: "2".into(), ..Default::default() });
    assert_eq!(client.receive().text(), "2");
}

#[test]
fn an_unknown_response_mode_is_400_and_fails_the_invocation() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    let answer = client.ask(response("Lambda-Runtime-Function-Response-Mode: Streaming\r\n", "1"));
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.text(),
        "{\"errorMessage\":\"Invalid function response mode\",\"errorType\":\"InvalidFunctionResponseMode\"}\n"
    );
    client.send(NEXT);
    assert_eq!(result(&receiver).failure_type().unwrap(), "Runtime.InvalidResponseModeHeader");
}

#[test]
fn a_connection_goes_on_after_a_request_that_leads_nowhere_though_its_body_comes_late() {
    let environment = environment();
    let mut client = Client::new(&environment);
    for (request, status) in [
        ("POST /2018-06-01/runtime/nothing", 404),
        ("POST /2018-06-01/runtime/restore/error", 404),
        ("POST /2018-06-01/runtime/invocation/next", 405),
        ("PUT /2018-06-01/runtime/invocation/the-id/response", 405),
        ("PUT /2020-01-01/extension/register", 405),
        ("POST /2022-07-01/telemetry", 405),
    ] {
        client.send(format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"));
        assert!(client.silent_for(Duration::from_millis(20)), "{request}");
        assert_eq!(client.ask("{}").status, status, "{request}");
        assert_eq!(client.ask("GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n").text(), "pong");
    }
}

#[test]
fn malformed_error_bodies_are_forwarded_as_they_are() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    let path = "/2018-06-01/runtime/invocation/the-id/error";
    assert_eq!(client.ask(post(path, "Content-Type: text/html\r\n", "{broken")).status, 202);
    client.send(NEXT);
    let result = result(&receiver);
    assert_eq!(result.answer.payload, "{broken");
    assert_eq!(result.answer.content_type, "text/html");
    assert_eq!(result.answer.error_type.unwrap(), "Runtime.Unknown");
}

#[test]
fn the_x_ray_cause_is_taken_out_of_the_body_that_carries_it() {
    for (body, payload, content_type) in [
        ("{\"errorType\":\"E\",\"errorCause\":{}}", "{\"errorType\":\"E\"}", "application/json"),
        ("broken", "\"Invalid error body\"", "application/octet-stream"),
    ] {
        let environment = environment();
        let (mut client, receiver) = running(&environment);
        let kind = "Content-Type: application/vnd.aws.lambda.error.cause+json\r\n";
        client.ask(post("/2018-06-01/runtime/invocation/the-id/error", kind, body));
        client.send(NEXT);
        let result = result(&receiver);
        assert_eq!(result.answer.payload, payload);
        assert_eq!(result.answer.content_type, content_type);
    }
}

#[test]
fn an_init_error_is_accepted_once_in_each_init_and_ends_everything() {
    let environment = environment();
    let receiver = invoke(&environment, "{}");
    let mut client = Client::new(&environment);
    let path = "/2018-06-01/runtime/init/error";
    let kind = "Lambda-Runtime-Function-Error-Type: Runtime.NoSuchHandler\r\n";
    // The second one is that of the init within the invocation.
    for body in ["first", "boom"] {
        let accepted = client.ask(post(path, kind, body));
        assert_eq!((accepted.status, accepted.text()), (202, ACCEPTED));
    }
    let result = result(&receiver);
    assert_eq!(result.answer.payload, "boom");
    assert_eq!(result.answer.content_type, "application/octet-stream", "it is no JSON");
    assert_eq!(result.answer.error_type.unwrap(), "Runtime.NoSuchHandler");
    for request in [NEXT.to_owned(), post(path, "", "{}")] {
        let refused = client.ask(request);
        assert_eq!(refused.status, 403);
        assert!(refused.text().contains("from InitError to "), "{}", refused.text());
    }
}

#[test]
fn other_paths_and_methods_are_refused_like_the_platforms_router_does() {
    let environment = environment();
    let mut client = Client::new(&environment);
    let pong = client.ask("GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((pong.status, pong.text()), (200, "pong"));
    for path in [
        "/",
        "/2018-06-01/runtime/restore/next",
        "/2018-06-01/runtime/invocation/x/other",
        "/2018-06-01/runtime/invocation//response",
    ] {
        let missing = client.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!((missing.status, missing.text()), (404, "404 page not found\n"), "{path}");
    }
    for (method, path) in [
        ("POST", "/2018-06-01/runtime/invocation/next"),
        ("GET", "/2018-06-01/runtime/invocation/x/response"),
        ("PUT", "/2018-06-01/runtime/init/error"),
    ] {
        let refused = client.ask(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(refused.status, 405, "{method} {path}");
    }
}

#[test]
fn what_is_no_http_ends_its_own_connection_only() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    for odd in ["GET / HTTP/1.1\r\nthis is no header\r\n\r\n", "\x16\x03\x01\x02 a TLS hello\r\n\r\n"] {
        let mut other = Client::new(&environment);
        assert_eq!(other.ask(odd).status, 400, "{odd:?}");
        assert!(other.is_closed());
    }
    assert_eq!(client.ask(response("", "1")).status, 202);
    client.send(NEXT);
    assert_eq!(result(&receiver).answer.payload, "1");
}

#[test]
fn a_poller_that_hung_up_does_not_swallow_an_event() {
    let environment = environment();
    let mut gone = Client::new(&environment);
    gone.send(NEXT);
    std::thread::sleep(Duration::from_millis(50));
    drop(gone);
    std::thread::sleep(Duration::from_millis(50));
    let _receiver = invoke(&environment, "{}");
    assert_eq!(Client::new(&environment).ask(NEXT).text(), "{}");
}

#[test]
fn a_large_event_arrives_whole() {
    let environment = environment();
    let event = "y".repeat(5_000_000);
    let request = InvocationRequest { event: event.clone().into(), ..InvocationRequest::default() };
    let _receiver = invoke_with(&environment, request);
    let answer = Client::new(&environment).ask(NEXT);
    assert_eq!(answer.header("content-length"), Some("5000000"));
    assert!(answer.body == event.as_bytes());
}

#[test]
fn the_debugger_route_stops_the_clock() {
    let environment = environment();
    let request = InvocationRequest {
        request_id: Some("the-id".to_owned()),
        timeout: Some(Duration::from_millis(100)),
        ..InvocationRequest::default()
    };
    let receiver = invoke_with(&environment, request);
    let mut client = Client::new(&environment);
    client.ask(NEXT);
    assert_eq!(Client::new(&environment).ask(post("/_caloric/debugger", "", "")).status, 202);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client.ask(response("", "1")).status, 202);
    client.send(NEXT);
    assert_eq!(result(&receiver).answer.payload, "1");
}

#[test]
fn environments_in_one_process_do_not_mix() {
    let environments: Vec<_> = (0..16).map(|_| environment()).collect();
    let receivers: Vec<_> = environments
        .iter()
        .enumerate()
        .map(|(index, environment)| {
            let event = index.to_string().into();
            invoke_with(environment, InvocationRequest { event, ..InvocationRequest::default() })
        })
        .collect();
    for environment in &environments {
        let mut client = Client::new(environment);
        let event = client.ask(NEXT);
        let id = event.header("Lambda-Runtime-Aws-Request-Id").unwrap().to_owned();
        let path = format!("/2018-06-01/runtime/invocation/{id}/response");
        assert_eq!(client.ask(post(&path, "", event.text())).status, 202);
        client.send(NEXT);
    }
    for (index, receiver) in receivers.iter().enumerate() {
        assert_eq!(result(receiver).answer.payload, index.to_string());
    }
}

#[test]
fn closing_ends_connections_and_frees_the_port() {
    let environment = environment();
    let (mut client, receiver) = running(&environment);
    let address = environment.address();
    environment.close();
    assert_eq!(result(&receiver).failure_type().unwrap(), "Sandbox.Failure");
    assert!(client.is_closed());
    let deadline = Instant::now() + Duration::from_secs(5);
    while std::net::TcpListener::bind(address).is_err() {
        assert!(Instant::now() < deadline, "the port was not freed");
        std::thread::sleep(Duration::from_millis(10));
    }
}

// ---- SnapStart -----------------------------------------------------------------------------------------------------

const RESTORE_NEXT: &str = "GET /2018-06-01/runtime/restore/next HTTP/1.1\r\nHost: x\r\n\r\n";

fn snap_start() -> ExecutionEnvironment {
    ExecutionEnvironment::new(EnvironmentConfig { snap_start: true, ..EnvironmentConfig::default() }).unwrap()
}

fn restore_error(body: &str) -> String {
    let kind = "Lambda-Runtime-Function-Error-Type: Runtime.AfterRestoreError\r\n";
    post("/2018-06-01/runtime/restore/error", kind, body)
}

#[test]
fn the_restore_routes_are_there_with_snapstart_only() {
    let without = environment();
    for request in [RESTORE_NEXT, &restore_error("{}")] {
        let answer = Client::new(&without).ask(request);
        assert_eq!((answer.status, answer.text()), (404, "404 page not found\n"));
    }
    let with = snap_start();
    for (path, allowed) in [("next", "GET"), ("error", "POST")] {
        let answer = Client::new(&with)
            .ask(format!("DELETE /2018-06-01/runtime/restore/{path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)));
    }
}

#[test]
fn a_restore_comes_with_the_first_invocation_and_is_empty() {
    let environment = snap_start();
    let mut client = Client::new(&environment);
    client.send(RESTORE_NEXT);
    assert!(client.silent_for(Duration::from_millis(50)));
    let receiver = invoke(&environment, "{\"a\":1}");
    let answer = client.receive();
    assert_eq!((answer.status, answer.text()), (200, ""));
    assert_eq!(Client::new(&environment).ask(NEXT).text(), "{\"a\":1}");
    assert_eq!(client.ask(response("", "42")).status, 202);
    client.send(NEXT);
    let result = result(&receiver);
    assert_eq!(result.answer.payload, "42");
    assert!(result.restore_duration.is_some());
}

#[test]
fn calls_out_of_order_around_a_restore_are_refused_with_the_states() {
    let refused = |answer: &Answer, from: &str, to: &str| {
        assert_eq!(answer.status, 403);
        let message = format!(
            "{{\"errorMessage\":\"State transition from {from} to {to} failed for runtime. Error: State transition is \
             not allowed\",\"errorType\":\"InvalidStateTransition\"}}\n"
        );
        assert_eq!(answer.text(), message);
    };
    let environment = snap_start();
    let mut other = Client::new(&environment);
    refused(&other.ask(restore_error("{}")), "Started", "RuntimeRestoreErrorState");
    let mut client = Client::new(&environment);
    client.send(RESTORE_NEXT);
    // Another connection: it may be looked at first.
    while other.ask(restore_error("{}")).text().contains(" from Started ") {}
    refused(&other.ask(NEXT), "RestoreReady", "Ready");
    refused(&other.ask(RESTORE_NEXT), "RestoreReady", "Ready");
    refused(&other.ask(restore_error("{}")), "RestoreReady", "RuntimeRestoreErrorState");
    let receiver = invoke(&environment, "{}");
    assert_eq!(client.receive().status, 200);
    refused(&other.ask(RESTORE_NEXT), "Restoring", "Ready");
    let answer = other.ask(restore_error("{\"errorType\":\"ValueError\"}"));
    assert_eq!((answer.status, answer.text()), (202, ACCEPTED));
    let result = result(&receiver);
    assert_eq!(result.answer.payload, "{\"errorType\":\"ValueError\"}");
    assert_eq!(result.error_type.as_deref(), Some("Runtime.AfterRestoreError"));
    refused(&other.ask(NEXT), "RuntimeRestoreErrorState", "Ready");
    refused(&other.ask(restore_error("{}")), "RuntimeRestoreErrorState", "RuntimeRestoreErrorState");
}

// ---- a virtual clock ------------------------------------------------------------------------------------------------

const LONG: Duration = Duration::from_secs(900);

fn with_clock(clock: &VirtualClock) -> ExecutionEnvironment {
    let config =
        EnvironmentConfig { timeout: LONG, clock: Some(clock.clone()), ..EnvironmentConfig::default() };
    ExecutionEnvironment::new(config).unwrap()
}

fn number(answer: &Answer, header: &str) -> u64 {
    answer.header(header).unwrap().parse().unwrap()
}

#[test]
fn environments_on_one_clock_time_out_together_before_the_advance_returns() {
    let clock = VirtualClock::new();
    let environments = [with_clock(&clock), with_clock(&clock)];
    let running: Vec<_> = environments.iter().map(running).collect();
    clock.advance(LONG / 2).unwrap();
    assert!(running.iter().all(|(_, receiver)| receiver.try_recv().is_err()));
    clock.advance(LONG / 2).unwrap();
    for (_, receiver) in &running {
        let result = receiver.try_recv().expect("it is over");
        assert_eq!(result.failure_type().unwrap(), "Sandbox.Timedout");
        assert_eq!(result.duration, LONG);
    }
    assert_eq!(clock.advanced(), LONG);
    assert!(clock.elapsed() >= LONG);
}

#[test]
fn the_timer_goes_by_the_clock() {
    let clock = VirtualClock::new();
    let environment = with_clock(&clock);
    clock.advance(LONG).unwrap();
    let (_client, receiver) = running(&environment);
    // What is left comes by itself.
    clock.advance(LONG.checked_sub(Duration::from_millis(20)).unwrap()).unwrap();
    assert_eq!(result(&receiver).failure_type().unwrap(), "Sandbox.Timedout");
}

#[test]
fn the_deadline_is_real_and_calorics_own_is_the_clocks() {
    let clock = VirtualClock::new();
    let environment = with_clock(&clock);
    clock.advance(LONG).unwrap();
    let file = environment.clock_file().unwrap().expect("it has a clock");
    let told = || std::fs::read_to_string(&file).unwrap().parse::<u64>().unwrap();
    assert_eq!(told(), 900_000_000_000);
    let _receiver = invoke(&environment, "{}");
    let mut client = Client::new(&environment);
    let answer = client.ask(NEXT);
    let (real, shown) =
        (number(&answer, "lambda-runtime-deadline-ms"), number(&answer, "caloric-deadline-ms"));
    let unix_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(u64::try_from(unix_ms).unwrap() + 900_000 >= real && real + 1000 > shown - 900_000);
    assert!((899_000..901_000).contains(&(shown - real)), "{real} {shown}");
    clock.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(told(), 900_001_000_000);
    let again = client.ask(NEXT);
    let once_more = number(&again, "caloric-deadline-ms");
    assert!(
        (shown - 1000..shown + 1000).contains(&once_more),
        "the first delivery counts: {shown} {once_more}"
    );
    environment.close();
    assert!(!file.exists());
    clock.advance(LONG).expect("a closed environment needs no time");
}

#[test]
fn without_a_clock_there_is_no_file_and_no_header() {
    let environment = environment();
    assert!(environment.clock_file().unwrap().is_none());
    let _receiver = invoke(&environment, "{}");
    assert_eq!(Client::new(&environment).ask(NEXT).header("caloric-deadline-ms"), None);
}

#[test]
fn waiting_for_an_invocation_to_be_handed_out_ends_when_it_is() {
    let environment = environment();
    assert!(!environment.wait_until_handed_out(1, Some(Duration::ZERO)));
    let waiting = environment.clone();
    let waiter = std::thread::spawn(move || waiting.wait_until_handed_out(1, None));
    let (_client, _receiver) = running(&environment);
    assert!(waiter.join().unwrap());
    let waiting = environment.clone();
    let waiter = std::thread::spawn(move || waiting.wait_until_handed_out(2, None));
    environment.close();
    assert!(!waiter.join().unwrap());
}

#[test]
fn a_clock_does_not_go_further_than_time_can_be_written() {
    let clock = VirtualClock::new();
    clock.advance(Duration::from_secs(3_000_000_000)).unwrap();
    let refused = clock.advance(Duration::from_secs(3_000_000_000));
    assert!(matches!(refused, Err(EndpointError::TooFar)), "{refused:?}");
    assert!(matches!(clock.advance(Duration::MAX), Err(EndpointError::TooFar)));
    assert_eq!(clock.advanced(), Duration::from_secs(3_000_000_000));
}

// ---- a runtime that is started by hand ------------------------------------------------------------------------------

fn by_hand() -> ExecutionEnvironment {
    let config = EnvironmentConfig { by_hand: true, freeze: false, ..EnvironmentConfig::default() };
    ExecutionEnvironment::new(config).unwrap()
}

const INIT_ERROR: &str =
    "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";

#[test]
fn an_invocation_waits_for_a_runtime_and_none_is_asked_for() {
    let environment = by_hand();
    let receiver = invoke(&environment, "1");
    assert!(!environment.wait_for_start(Some(Duration::from_millis(20))));
    let mut client = Client::new(&environment);
    assert_eq!(client.ask(NEXT).text(), "1");
    client.send(response("", "2"));
    client.send(NEXT);
    let result = result(&receiver);
    assert_eq!((result.answer.payload.as_ref(), result.init_duration), (&b"2"[..], None));
}

#[test]
fn a_runtime_may_come_when_the_last_one_has_gone() {
    let environment = by_hand();
    for _ in 0..3 {
        let mut client = Client::new(&environment);
        client.send(NEXT);
        let receiver = invoke(&environment, "1");
        assert_eq!(client.receive().text(), "1");
        client.send(response("", "2"));
        client.receive();
        // It goes without asking for more.
        drop(client);
        assert_eq!(result(&receiver).answer.payload, "2");
    }
}

#[test]
fn an_invocation_that_a_runtime_left_behind_fails_when_the_next_one_comes() {
    let environment = by_hand();
    let (client, receiver) = running(&environment);
    drop(client);
    let waiting = invoke_with(&environment, InvocationRequest { event: "2".into(), ..Default::default() });
    let mut client = Client::new(&environment);
    // It gets what waits, and not the event that its predecessor had.
    assert_eq!(client.ask(NEXT).text(), "2");
    let result = result(&receiver);
    assert_eq!(result.failure_type().unwrap(), "Runtime.ExitError");
    let message = "RequestId: the-id Error: Runtime closed its connections";
    assert!(String::from_utf8_lossy(&result.answer.payload).contains(message), "{:?}", result.answer.payload);
    assert!(waiting.try_recv().is_err());
}

#[test]
fn a_runtime_that_makes_a_connection_for_each_request_is_one_runtime() {
    let environment = by_hand();
    let (client, receiver) = running(&environment);
    drop(client);
    assert_eq!(Client::new(&environment).ask(response("", "2")).status, 202);
    assert_eq!(result(&receiver).answer.payload, "2");
    let receiver = invoke(&environment, "3");
    assert_eq!(Client::new(&environment).ask(NEXT).text(), "3");
    assert_eq!(Client::new(&environment).ask(response("", "4")).status, 202);
    assert_eq!(result(&receiver).answer.payload, "4");
}

#[test]
fn the_failed_init_of_a_runtime_is_not_held_against_the_next() {
    let environment = by_hand();
    assert_eq!(Client::new(&environment).ask(INIT_ERROR).status, 202);
    let receiver = invoke(&environment, "1");
    // Nor against an invocation that waits.
    assert_eq!(Client::new(&environment).ask(INIT_ERROR).status, 202);
    assert!(receiver.try_recv().is_err());
    let mut client = Client::new(&environment);
    assert_eq!(client.ask(NEXT).text(), "1");
    drop(client);
    // A new one reports a failed init in place of asking for an event.
    assert_eq!(Client::new(&environment).ask(INIT_ERROR).status, 202);
    assert_eq!(result(&receiver).failure_type().unwrap(), "Runtime.ExitError");
}

#[test]
fn a_runtime_that_answers_while_another_connection_is_open_is_no_new_one() {
    let environment = by_hand();
    let (mut first, receiver) = running(&environment);
    let mut second = Client::new(&environment);
    assert_eq!(second.ask(NEXT).text(), "{}", "the same event again, as everywhere");
    assert_eq!(first.ask(response("", "2")).status, 202);
    second.send(NEXT);
    assert_eq!(result(&receiver).answer.payload, "2");
}

#[test]
fn without_limits_a_time_limit_is_only_told() {
    let clock = VirtualClock::new();
    let config =
        EnvironmentConfig { limits: false, clock: Some(clock.clone()), ..EnvironmentConfig::default() };
    let environment = ExecutionEnvironment::new(config).unwrap();
    let (mut client, receiver) = running(&environment);
    clock.advance(LONG).unwrap();
    assert!(receiver.try_recv().is_err());
    assert_eq!(client.ask(response("", "2")).status, 202);
    client.send(NEXT);
    let result = result(&receiver);
    assert_eq!(result.answer.payload, "2");
    assert!(result.duration >= LONG);
}
