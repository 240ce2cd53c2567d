//! The Extensions, Telemetry and Logs APIs byte by byte: an extension made of a socket.

#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping, in its helpers too")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use caloric_endpoint::{EnvironmentConfig, ExecutionEnvironment, InvocationRequest, InvokeResult};

const NEXT: &str = "/2018-06-01/runtime/invocation/next";
const REGISTER: &str = "/2020-01-01/extension/register";
const EVENT_NEXT: &str = "/2020-01-01/extension/event/next";
const INIT_ERROR: &str = "/2020-01-01/extension/init/error";
const EXIT_ERROR: &str = "/2020-01-01/extension/exit/error";
const TELEMETRY: &str = "/2022-07-01/telemetry";
const LOGS: &str = "/2020-08-15/logs";

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    fn error(&self) -> (u16, &str) {
        (self.status, self.body.as_str())
    }
}

/// One connection, one request at a time.
struct Client {
    stream: TcpStream,
}

impl Client {
    fn new(environment: &ExecutionEnvironment) -> Self {
        let stream = TcpStream::connect(environment.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream }
    }

    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            request = request + name + ": " + value + "\r\n";
        }
        self.stream.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
    }

    fn receive(&mut self) -> Answer {
        let mut bytes = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let length = self.stream.read(&mut chunk).unwrap();
            assert!(length > 0, "the connection was closed");
            bytes.extend_from_slice(&chunk[..length]);
            let text = String::from_utf8(bytes.clone()).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let status = head[9..12].parse().unwrap();
            let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
            if body.len() == answer.header("Content-Length").expect("a length").parse::<usize>().unwrap() {
                return answer;
            }
        }
    }

    fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send(method, path, headers, body);
        self.receive()
    }
}

fn environment() -> ExecutionEnvironment {
    let config = EnvironmentConfig {
        function_name: "orders".to_owned(),
        handler: "app.handler".to_owned(),
        account_id: "111122223333".to_owned(),
        ..EnvironmentConfig::default()
    };
    ExecutionEnvironment::new(config).unwrap()
}

fn ask(
    environment: &ExecutionEnvironment,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    Client::new(environment).ask(method, path, headers, body)
}

/// An internal extension: its identifier.
fn register(environment: &ExecutionEnvironment, events: &str) -> String {
    let answer = ask(environment, "POST", REGISTER, &[("Lambda-Extension-Name", "internal")], events);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.header("Lambda-Extension-Identifier").unwrap().to_owned()
}

fn invoke(environment: &ExecutionEnvironment) -> mpsc::Receiver<InvokeResult> {
    let (sender, receiver) = mpsc::channel();
    let request = InvocationRequest {
        request_id: Some("the-id".to_owned()),
        trace_id: Some("Root=1-a".to_owned()),
        ..InvocationRequest::default()
    };
    // Not every test waits for the result.
    environment.submit(request, move |result| drop(sender.send(result))).unwrap();
    receiver
}

fn document(error_type: &str, message: &str) -> String {
    format!("{{\"errorMessage\":\"{message}\",\"errorType\":\"{error_type}\"}}\n")
}

fn subscription(port: u16) -> String {
    format!(
        r#"{{"schemaVersion":"2022-12-13","types":["platform","function"],"buffering":{{"timeoutMs":25}},"destination":{{"protocol":"HTTP","URI":"http://sandbox.localdomain:{port}/t"}}}}"#
    )
}

#[test]
fn registration_answers_with_an_identifier_and_the_function() {
    let environment = environment();
    let name = ("Lambda-Extension-Name", "one");
    let answer = ask(&environment, "POST", REGISTER, &[name], "{}");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Lambda-Extension-Identifier").unwrap().len(), 36);
    let body = r#""functionName":"orders","functionVersion":"$LATEST","handler":"app.handler"}"#;
    assert_eq!(answer.body, format!("{{{body}"));
    let features = ("Lambda-Extension-Accept-Feature", "other, accountId ,more");
    let answer = ask(&environment, "POST", REGISTER, &[("Lambda-Extension-Name", "two"), features], "{}");
    assert_eq!(answer.body, format!(r#"{{"accountId":"111122223333",{body}"#));
}

#[test]
fn a_registration_that_is_not_accepted_is_a_403_with_the_reason() {
    let environment = environment();
    register(&environment, "{}");
    for (name, body, error_type, message) in [
        ("", "{}", "Extension.InvalidExtensionName", "Empty extension name"),
        ("x", "", "InvalidRequestFormat", "unexpected end of JSON input"),
        ("x", r#"{"events":["BOOM"]}"#, "Extension.InvalidEventType", "BOOM: ErrorInvalidEventType"),
        (
            "x",
            r#"{"events":["SHUTDOWN"]}"#,
            "Extension.InvalidEventType",
            "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension",
        ),
        ("internal", "{}", "Extension.InvalidExtensionState", "Extension with this name already registered"),
    ] {
        let answer = ask(&environment, "POST", REGISTER, &[("Lambda-Extension-Name", name)], body);
        assert_eq!(answer.error(), (403, document(error_type, message).as_str()));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
    }
    Client::new(&environment).send("GET", NEXT, &[], "");
    // The runtime's request is on another connection: wait until it has taken effect.
    let late = loop {
        let late = ask(&environment, "POST", REGISTER, &[("Lambda-Extension-Name", "")], "{}");
        assert_eq!(late.status, 403);
        let late = ask(&environment, "POST", REGISTER, &[("Lambda-Extension-Name", "late")], "{}");
        if late.status == 403 {
            break late;
        }
    };
    let closed = document("Extension.RegistrationClosed", "Extension registration closed already");
    let expected =
        [closed, document("Extension.InvalidExtensionState", "Extension with this name already registered")];
    assert!(expected.contains(&late.body), "{}", late.body);
}

#[test]
fn every_call_needs_the_identifier_of_a_registered_extension() {
    let environment = environment();
    let stranger = "00000000-0000-4000-8000-000000000001";
    let missing =
        document("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header");
    let invalid = document("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier");
    for (method, path, unknown) in [
        ("GET", EVENT_NEXT, format!("Unknown extension {stranger}")),
        ("PUT", TELEMETRY, format!("Unknown extension {stranger}")),
        ("PUT", LOGS, format!("Unknown extension {stranger}")),
        ("POST", INIT_ERROR, "Unknown Lambda-Extension-Identifier".to_owned()),
        ("POST", EXIT_ERROR, "Unknown Lambda-Extension-Identifier".to_owned()),
    ] {
        let kind = ("Lambda-Extension-Function-Error-Type", "A.B");
        let with = |id| ask(&environment, method, path, &[("Lambda-Extension-Identifier", id), kind], "{}");
        assert_eq!(ask(&environment, method, path, &[], "{}").error(), (403, missing.as_str()), "{path}");
        assert_eq!(with("no uuid").error(), (403, invalid.as_str()), "{path}");
        let unknown = document("Extension.UnknownExtensionIdentifier", &unknown);
        assert_eq!(with(stranger).error(), (403, unknown.as_str()), "{path}");
    }
}

#[test]
fn an_identifier_may_come_back_in_another_spelling() {
    let environment = environment();
    let id = register(&environment, "{}").to_uppercase();
    let kind = ("Lambda-Extension-Function-Error-Type", "A.B");
    let answer = ask(&environment, "POST", EXIT_ERROR, &[("lambda-extension-identifier", &id), kind], "");
    assert_eq!(answer.error(), (202, "{\"status\":\"OK\"}\n"));
}

#[test]
fn an_error_needs_a_type() {
    let environment = environment();
    let id = register(&environment, "{}");
    for path in [INIT_ERROR, EXIT_ERROR] {
        let answer = ask(&environment, "POST", path, &[("Lambda-Extension-Identifier", &id)], "{}");
        let expected = document("Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found");
        assert_eq!(answer.error(), (403, expected.as_str()));
        let stranger = "00000000-0000-4000-8000-000000000001";
        let answer = ask(&environment, "POST", path, &[("Lambda-Extension-Identifier", stranger)], "{}");
        assert_eq!(
            answer.error(),
            (403, expected.as_str()),
            "it is missed before the identifier is looked up"
        );
    }
}

#[test]
fn an_extension_gets_the_invocation_and_a_second_request_is_refused() {
    let environment = environment();
    let id = register(&environment, r#"{"events":["INVOKE"]}"#);
    let identifier = [("Lambda-Extension-Identifier", id.as_str())];
    let mut runtime = Client::new(&environment);
    runtime.send("GET", NEXT, &[], "");
    let mut extension = Client::new(&environment);
    extension.send("GET", EVENT_NEXT, &identifier, "");
    let invocation = invoke(&environment);
    assert_eq!(runtime.receive().header("Lambda-Runtime-Aws-Request-Id"), Some("the-id"));
    let event = extension.receive();
    assert_eq!((event.status, event.header("Content-Type")), (200, Some("application/json")));
    assert_eq!(event.header("Lambda-Extension-Event-Identifier").unwrap().len(), 36);
    assert!(event.body.starts_with(r#"{"eventType":"INVOKE","deadlineMs":1"#), "{}", event.body);
    assert!(event.body.ends_with(
        r#","requestId":"the-id","invokedFunctionArn":"arn:aws:lambda:us-east-1:111122223333:function:orders","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1-a"}}"#
    ), "{}", event.body);
    runtime.ask("POST", "/2018-06-01/runtime/invocation/the-id/response", &[], "42");
    runtime.send("GET", NEXT, &[], "");
    assert!(invocation.recv_timeout(Duration::from_millis(50)).is_err(), "the extension is at work");
    extension.send("GET", EVENT_NEXT, &identifier, "");
    assert_eq!(invocation.recv_timeout(Duration::from_secs(10)).unwrap().answer.payload, "42");
    let refused = ask(&environment, "GET", EVENT_NEXT, &identifier, "");
    let message = format!(
        "State transition from Ready to Ready failed for extension {id}. Error: State transition is not allowed"
    );
    assert_eq!(refused.error(), (403, document("Extension.InvalidExtensionState", &message).as_str()));
}

#[test]
fn other_methods_are_not_allowed() {
    let environment = environment();
    for (method, path, allowed) in [
        ("GET", REGISTER, "POST"),
        ("POST", EVENT_NEXT, "GET"),
        ("GET", INIT_ERROR, "POST"),
        ("PUT", EXIT_ERROR, "POST"),
        ("POST", TELEMETRY, "PUT"),
        ("GET", LOGS, "PUT"),
    ] {
        let answer = ask(&environment, method, path, &[], "");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some(allowed)), "{method} {path}");
    }
}

#[test]
fn subscriptions_are_answered_as_documented() {
    let environment = environment();
    let id = register(&environment, "{}");
    let put = |path: &str, body: &str| {
        ask(&environment, "PUT", path, &[("Lambda-Extension-Identifier", id.as_str())], body)
    };
    let missing = put(TELEMETRY, r#"{"schemaVersion":"2022-12-13","types":["platform"]}"#);
    assert_eq!(missing.error(), (400, document("ValidationError", "destination is required").as_str()));
    assert_eq!(put(LOGS, "{}").status, 400);
    assert_eq!(put("/2022-07-01/telemetry/", &subscription(4243)).error(), (200, "\"OK\""));
    assert_eq!(put(TELEMETRY, &subscription(4243)).error(), (200, "\"OK\""), "the same again");
    assert_eq!(put(TELEMETRY, &subscription(4244)).status, 400);
    assert_eq!(
        put(LOGS, r#"{"types":["platform"],"destination":{"protocol":"TCP","port":4243}}"#).status,
        400
    );
    let mut runtime = Client::new(&environment);
    runtime.send("GET", NEXT, &[], "");
    Client::new(&environment).send("GET", EVENT_NEXT, &[("Lambda-Extension-Identifier", &id)], "");
    let invocation = invoke(&environment);
    runtime.receive();
    let late = document("Telemetry.SubscriptionClosed", "Telemetry API subscription is closed");
    assert_eq!(put(TELEMETRY, &subscription(4243)).error(), (403, late.as_str()));
    drop(invocation);
}

/// The next connection, which must come soon.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    for _ in 0..1000 {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            return stream;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody connects");
}

/// The types of the events in a batch that was sent to `listener`.
fn batch(listener: &TcpListener) -> Vec<String> {
    let mut stream = accept(listener);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut text = String::new();
    while !text.ends_with(']') {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0, "the batch broke off: {text}");
        text.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    text.split(r#""type":""#).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn a_subscriber_gets_everything_and_the_last_batch_when_the_environment_is_closed() {
    let environment = environment();
    let id = register(&environment, "{}");
    let identifier = [("Lambda-Extension-Identifier", id.as_str())];
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    let body = subscription(sink.local_addr().unwrap().port());
    assert_eq!(ask(&environment, "PUT", TELEMETRY, &identifier, &body).status, 200);
    assert_eq!(batch(&sink), ["platform.telemetrySubscription"]);
    let mut extension = Client::new(&environment);
    extension.send("GET", EVENT_NEXT, &identifier, "");
    let mut runtime = Client::new(&environment);
    runtime.send("GET", NEXT, &[], "");
    let mut types = Vec::new();
    while types.len() < 3 {
        types.extend(batch(&sink));
    }
    assert_eq!(types, ["platform.initRuntimeDone", "platform.extension", "platform.initReport"]);
    let _invocation = invoke(&environment);
    runtime.receive();
    assert_eq!(batch(&sink), ["platform.start"]);
    let closing = environment.clone();
    let closed = std::thread::spawn(move || closing.close());
    assert_eq!(batch(&sink).last().unwrap(), "platform.report");
    closed.join().unwrap();
}

#[test]
fn a_sink_that_hangs_or_is_dead_holds_nobody_up() {
    let environment = environment();
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (name, port) in [("a", hanging.local_addr().unwrap().port()), ("b", dead)] {
        let answer = ask(&environment, "POST", REGISTER, &[("Lambda-Extension-Name", name)], "{}");
        let id = answer.header("Lambda-Extension-Identifier").unwrap();
        let identifier = [("Lambda-Extension-Identifier", id)];
        assert_eq!(ask(&environment, "PUT", TELEMETRY, &identifier, &subscription(port)).status, 200);
        Client::new(&environment).send("GET", EVENT_NEXT, &identifier, "");
    }
    let mut runtime = Client::new(&environment);
    for _ in 0..100 {
        runtime.send("GET", NEXT, &[], "");
        let invocation = invoke(&environment);
        runtime.receive();
        runtime.ask("POST", "/2018-06-01/runtime/invocation/the-id/response", &[], "42");
        drop(invocation);
    }
    environment.close();
}

#[test]
fn extensions_that_are_not_possible_are_refused() {
    let with = |names: &[&str]| {
        let extensions = names.iter().map(|name| (*name).to_owned()).collect();
        ExecutionEnvironment::new(EnvironmentConfig { extensions, ..EnvironmentConfig::default() })
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(with(&["a", "b"]), None);
    assert_eq!(with(&["a", "b", "a"]).unwrap(), "two extensions are called 'a'");
    assert_eq!(with(&["a/b"]).unwrap(), "'a/b' is no file name, as an extension's must be");
    let many = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];
    assert_eq!(with(&many).unwrap(), "11 extensions, where a function can have 10");
}

// ---- HTTP -----------------------------------------------------------------------------------------------------------

/// What comes back for bytes that are sent as they are, up to the end of the connection or `expected` answers.
fn raw(environment: &ExecutionEnvironment, request: &str, expected: usize) -> (String, Client) {
    let mut client = Client::new(environment);
    client.stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    while text.matches("HTTP/1.").count() < expected || !(text.ends_with('}') || text.ends_with('\n')) {
        let mut chunk = [0; 4096];
        let length = client.stream.read(&mut chunk).unwrap();
        assert!(length > 0, "the connection was closed: {text}");
        text.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
    }
    (text, client)
}

#[test]
fn bodies_may_come_in_chunks() {
    let environment = environment();
    let head = "Host: x\r\nTransfer-Encoding: chunked\r\nLambda-Extension-Name: one\r\n";
    let body = "7\r\n{\"event\r\n0e\r\ns\":[\"BOOM\"]}  \r\n0\r\n\r\n";
    let (text, _) = raw(&environment, &format!("POST {REGISTER} HTTP/1.1\r\n{head}\r\n{body}"), 1);
    assert!(text.starts_with("HTTP/1.1 403 ") && text.contains("BOOM: ErrorInvalidEventType"), "{text}");
    let body = "2\r\n{}\r\n0\r\n\r\n";
    let (text, _) = raw(&environment, &format!("POST {REGISTER} HTTP/1.1\r\n{head}\r\n{body}"), 1);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with('}'), "{text}");
}

#[test]
fn an_older_client_is_served_and_left() {
    let environment = environment();
    let request =
        format!("POST {REGISTER} HTTP/1.0\r\nLambda-Extension-Name: one\r\nContent-Length: 2\r\n\r\n{{}}");
    let (text, mut client) = raw(&environment, &request, 1);
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
    assert_eq!(client.stream.read(&mut [0; 16]).unwrap(), 0, "it did not ask for more");
}

#[test]
fn several_calls_share_a_connection_even_if_they_come_at_once() {
    let environment = environment();
    let register = format!(
        "POST {REGISTER} HTTP/1.1\r\nHost: x\r\nLambda-Extension-Name: one\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    let (text, mut client) = raw(&environment, &format!("{register}{register}"), 2);
    assert!(text.contains("HTTP/1.1 200 ") && text.contains("HTTP/1.1 403 "), "{text}");
    let id = text.split("Lambda-Extension-Identifier: ").nth(1).unwrap()[..36].to_owned();
    assert!(!text.contains("Connection: close"), "{text}");
    let identifier = [("Lambda-Extension-Identifier", id.as_str())];
    let kind = ("Lambda-Extension-Function-Error-Type", "Extension.Bad");
    let reported = client.ask("POST", EXIT_ERROR, &[identifier[0], kind], "what is in it does not matter");
    assert_eq!(reported.error(), (202, "{\"status\":\"OK\"}\n"));
    let refused = client.ask("GET", EVENT_NEXT, &identifier, "");
    assert!(refused.body.contains("State transition from ExitError to Ready failed for extension"));
    let refused = client.ask("POST", INIT_ERROR, &[identifier[0], kind], "");
    assert!(refused.body.contains("State transition from ExitError to InitError failed for extension"));
    assert_eq!((refused.status, refused.header("Content-Type")), (403, Some("application/json")));
}

#[test]
fn other_paths_are_not_found() {
    let environment = environment();
    for path in [
        "/2020-01-01/extension",
        "/2020-01-01/extension/",
        "/2020-01-01/extension/register/",
        "/2020-01-01/extension/event",
        "/2020-01-01/extension/shutdown",
        "/2020-01-02/extension/register",
        "/2022-07-01/telemetry/x",
        "/2020-08-16/logs",
    ] {
        for method in ["GET", "POST", "PUT"] {
            let answer = ask(&environment, method, path, &[], "{}");
            assert_eq!(answer.error(), (404, "404 page not found\n"), "{method} {path}");
        }
    }
}

#[test]
fn where_extensions_are_off_nothing_is_found() {
    let config = EnvironmentConfig { extensions_off: true, ..EnvironmentConfig::default() };
    let environment = ExecutionEnvironment::new(config).unwrap();
    for (method, path) in [
        ("POST", REGISTER),
        ("GET", EVENT_NEXT),
        ("POST", INIT_ERROR),
        ("POST", EXIT_ERROR),
        ("PUT", TELEMETRY),
        ("PUT", LOGS),
    ] {
        let headers = [("Lambda-Extension-Name", "one"), ("Lambda-Extension-Identifier", "no uuid")];
        assert_eq!(ask(&environment, method, path, &headers, "{}").error(), (404, ""), "{path}");
    }
    let mut runtime = Client::new(&environment);
    runtime.send("GET", NEXT, &[], "");
    let invocation = invoke(&environment);
    runtime.receive();
    runtime.ask("POST", "/2018-06-01/runtime/invocation/the-id/response", &[], "42");
    runtime.send("GET", NEXT, &[], "");
    assert_eq!(invocation.recv_timeout(Duration::from_secs(10)).unwrap().answer.payload, "42");
}

#[test]
fn ten_extensions_can_register() {
    let environment = environment();
    for number in 0..10 {
        let name = number.to_string();
        let answer = ask(&environment, "POST", REGISTER, &[("Lambda-Extension-Name", &name)], "{}");
        assert_eq!(answer.status, 200);
    }
    let answer = ask(&environment, "POST", REGISTER, &[("Lambda-Extension-Name", "one more")], "{}");
    let expected = document("Extension.TooManyExtensions", "Extension limit (10) reached");
    assert_eq!(answer.error(), (403, expected.as_str()));
}

#[test]
fn what_is_too_large_is_said_to_be() {
    let environment = environment();
    let id = register(&environment, "{}");
    let large = " ".repeat(6 * 1024 * 1024 + 200) + "{}";
    for (method, path, header) in [
        ("POST", REGISTER, ("Lambda-Extension-Name", "large")),
        ("PUT", TELEMETRY, ("Lambda-Extension-Identifier", id.as_str())),
    ] {
        let answer = ask(&environment, method, path, &[header], &large);
        assert_eq!(answer.status, 413, "{path}");
        assert!(answer.body.contains("RequestEntityTooLarge"), "{}", answer.body);
    }
}

#[test]
fn a_sink_that_hangs_does_not_keep_the_last_batch_from_another() {
    let environment = environment();
    let sinks = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    for (name, sink) in ["hangs", "works"].into_iter().zip(&sinks) {
        let answer = ask(&environment, "POST", REGISTER, &[("Lambda-Extension-Name", name)], "{}");
        let identifier =
            [("Lambda-Extension-Identifier", answer.header("Lambda-Extension-Identifier").unwrap())];
        // Longer than the test: only the end of the environment sends it.
        let body = subscription(sink.local_addr().unwrap().port()).replace(":25}", ":30000}");
        assert_eq!(ask(&environment, "PUT", TELEMETRY, &identifier, &body).status, 200);
    }
    let closing = environment.clone();
    let closed = std::thread::spawn(move || closing.close());
    assert_eq!(batch(&sinks[1]), ["platform.telemetrySubscription"; 2]);
    closed.join().unwrap();
}
