use super::*;
use crate::http1::MAX_RESPONSE_HEAD;
use crate::memory::{Event, Memory, NoWait, Script};

pub(super) const INVOCATION: &[u8] = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id-1\r\nLambda-Runtime-Deadline-Ms: 1700000000123\r\n\
Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
pub(super) const SECOND: &[u8] = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id-2\r\nLambda-Runtime-Deadline-Ms: 1700000000999\r\n\
Content-Length: 4\r\n\r\nnull";
pub(super) const ACCEPTED: &[u8] =
    b"HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n";
pub(super) const GET: &str = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: caloric/test\r\n\r\n";

pub(super) fn client(
    scripts: impl IntoIterator<Item = Script>,
) -> (Client<Memory>, impl Fn() -> Vec<String>) {
    let memory = Memory::new(scripts);
    let sent = memory.sent();
    let sent = move || {
        sent.borrow().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect::<Vec<_>>()
    };
    (Client::new(memory, "caloric/test"), sent)
}

fn result<'a>(request_id: &'a str, body: &'a [u8]) -> Answer<'a> {
    let kind = AnswerKind::Response { content_type: "application/json" };
    Answer { request_id, invocation_id: None, body, kind }
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(super) fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes()
}

#[test]
fn an_invocation_is_answered_and_the_next_one_asked_for_in_one_write() {
    let (mut client, sent) = client([Script::answers(&[INVOCATION, ACCEPTED, SECOND])]);
    let invocation = client.next_invocation(&mut NoWait).unwrap();
    assert_eq!(invocation.request_id, "id-1");
    assert_eq!(invocation.deadline_ms().unwrap(), 1_700_000_000_123);
    assert_eq!(client.event(), b"{\"a\":1}");
    client.release_event();
    assert_eq!(client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap(), Posted::Accepted);
    let post = "POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\
                User-Agent: caloric/test\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n42";
    assert_eq!(sent(), [format!("{GET}{post}{GET}")], "GET left with the answer");
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    assert_eq!(client.event(), b"null");
    assert_eq!(sent(), [format!("{GET}{post}{GET}")], "and was not sent again");
}

#[test]
fn two_responses_split_at_any_byte_are_the_same_two_responses() {
    let bytes = joined(&[ACCEPTED, SECOND]);
    for at in 0..bytes.len() {
        let script = Script::bytes(INVOCATION)
            .then(Event::Bytes(bytes[..at].to_vec()))
            .then(Event::Bytes(bytes[at..].to_vec()));
        let script =
            Script { events: script.events.into_iter().filter(|event| !is_empty(event)).collect(), ..script };
        let (mut client, _) = client([script]);
        client.next_invocation(&mut NoWait).unwrap();
        assert_eq!(client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap(), Posted::Accepted);
        assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2", "split at {at}");
        assert_eq!(client.event(), b"null");
    }
}

/// An empty read would be a close.
fn is_empty(event: &Event) -> bool {
    matches!(event, Event::Bytes(bytes) if bytes.is_empty())
}

#[test]
fn without_pipelining_the_next_invocation_is_asked_for_after_the_answer_was_accepted() {
    let (mut client, sent) = client([Script::answers(&[INVOCATION, ACCEPTED, SECOND])]);
    client.set_pipelining(false);
    client.next_invocation(&mut NoWait).unwrap();
    assert_eq!(client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap(), Posted::Accepted);
    assert!(sent()[0].ends_with("42"));
    client.next_invocation(&mut NoWait).unwrap();
    assert!(sent()[0].ends_with(GET));
}

#[test]
fn a_pipelined_get_that_the_server_dropped_is_asked_again_on_a_new_connection() {
    let closing = b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let (mut client, sent) =
        client([Script::answers(&[INVOCATION, closing]).then(Event::Close), Script::bytes(SECOND)]);
    client.next_invocation(&mut NoWait).unwrap();
    assert_eq!(client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap(), Posted::Accepted);
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    assert_eq!(sent()[1], GET);
    assert!(!client.pipelining(), "a server that closes gets no pipelined request again");
}

#[test]
fn a_pipelined_get_is_asked_again_when_the_server_closes_without_announcing_it() {
    let (mut client, sent) =
        client([Script::answers(&[INVOCATION, ACCEPTED]).then(Event::Close), Script::bytes(SECOND)]);
    client.next_invocation(&mut NoWait).unwrap();
    assert_eq!(client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap(), Posted::Accepted);
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    assert_eq!(sent()[1], GET);
}

#[test]
fn a_pipelined_get_that_is_refused_is_asked_again_alone_and_pipelining_ends() {
    let (mut client, sent) =
        client([Script::answers(&[INVOCATION, ACCEPTED, &status("403 Forbidden"), SECOND])]);
    client.next_invocation(&mut NoWait).unwrap();
    assert_eq!(client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap(), Posted::Accepted);
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    assert!(!client.pipelining());
    assert!(sent()[0].ends_with(&format!("42{GET}{GET}")));
}

#[test]
fn a_403_to_a_get_of_its_own_is_an_error() {
    let (mut client, _) = client([Script::bytes(&status("403 Forbidden"))]);
    let error = client.next_invocation(&mut NoWait).unwrap_err();
    assert!(matches!(error, Error::Refused { call: Call::NextInvocation, refusal } if refusal.status == 403));
}

#[test]
fn the_first_invocation_can_be_asked_for_ahead_and_a_403_to_that_is_an_error() {
    let (mut client, sent) = client([Script::bytes(INVOCATION)]);
    client.request_next(&mut NoWait).unwrap();
    client.request_next(&mut NoWait).unwrap();
    assert_eq!(sent(), [GET], "once");
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-1");
    assert_eq!(sent(), [GET]);
    let (mut client, sent) = self::client([Script::bytes(&status("403 Forbidden"))]);
    client.request_next(&mut NoWait).unwrap();
    assert!(matches!(client.next_invocation(&mut NoWait), Err(Error::Refused { .. })));
    assert_eq!(sent(), [GET]);
}

#[test]
fn an_answer_can_be_begun_before_it_is_posted_whatever_the_connection_takes() {
    let whole = {
        let (mut client, sent) = client([Script::answers(&[INVOCATION, ACCEPTED])]);
        client.next_invocation(&mut NoWait).unwrap();
        assert_eq!(client.post(&result("id-1", b"forty-two"), true, &mut NoWait).unwrap(), Posted::Accepted);
        sent()[0].clone()
    };
    for pause in GET.len()..whole.len() {
        let script = Script { pause_after: Some(pause), ..Script::answers(&[INVOCATION, ACCEPTED, SECOND]) };
        let (mut client, sent) = client([script]);
        client.next_invocation(&mut NoWait).unwrap();
        client.begin_post(&result("id-1", b"forty-two"), true);
        assert_eq!(sent()[0], whole[..pause], "what fits is sent");
        assert_eq!(client.post(&result("id-1", b"forty-two"), true, &mut NoWait).unwrap(), Posted::Accepted);
        assert_eq!(sent()[0], whole, "and the rest once");
        assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    }
}

#[test]
fn an_answer_that_was_begun_on_a_dead_connection_is_sent_whole_on_a_new_one() {
    let first = Script { broken_after: Some(GET.len() + 40), ..Script::bytes(INVOCATION) }.then(Event::Close);
    let (mut client, sent) = client([first, Script::answers(&[ACCEPTED, SECOND])]);
    client.next_invocation(&mut NoWait).unwrap();
    client.begin_post(&result("id-1", b"42"), true);
    assert_eq!(client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap(), Posted::Accepted);
    assert!(sent()[1].starts_with("POST ") && sent()[1].ends_with("\r\n\r\n42"), "{:?}", sent()[1]);
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
}

#[test]
fn a_kept_alive_connection_that_was_closed_while_idle_is_replaced() {
    for event in [Event::Close, Event::Reset] {
        let first = Script::answers(&[INVOCATION, ACCEPTED]).then(event);
        let (mut client, sent) = client([first, Script::bytes(SECOND)]);
        client.next_invocation(&mut NoWait).unwrap();
        assert_eq!(client.post(&result("id-1", b"42"), false, &mut NoWait).unwrap(), Posted::Accepted);
        assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
        assert_eq!(sent()[1], GET);
    }
}

#[test]
fn an_answer_is_sent_again_when_the_kept_connection_was_closed_while_the_handler_ran() {
    let (mut client, sent) =
        client([Script::bytes(INVOCATION).then(Event::Close), Script::answers(&[ACCEPTED, SECOND])]);
    client.next_invocation(&mut NoWait).unwrap();
    assert_eq!(client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap(), Posted::Accepted);
    assert!(sent()[1].ends_with("\r\n\r\n42"), "alone, without the pipelined request");
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
}

#[test]
fn a_resent_answer_that_is_refused_was_accepted_the_first_time() {
    for line in ["400 Bad Request", "403 Forbidden"] {
        let (mut client, _) =
            client([Script::bytes(INVOCATION).then(Event::Close), Script::answers(&[&status(line), SECOND])]);
        client.next_invocation(&mut NoWait).unwrap();
        assert_eq!(client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap(), Posted::Accepted);
        assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    }
}

#[test]
fn an_answer_that_is_never_acknowledged_is_an_error_after_one_resend() {
    let (mut client, sent) =
        client([Script::bytes(INVOCATION).then(Event::Close), Script::default().then(Event::Close)]);
    client.next_invocation(&mut NoWait).unwrap();
    let error = client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap_err();
    assert!(matches!(error, Error::NoAnswer { call: Call::InvocationResponse }), "{error}");
    assert_eq!(sent().len(), 2);
}

#[test]
fn a_refused_answer_is_dropped_and_the_next_invocation_served() {
    for line in ["400 Bad Request", "403 Forbidden", "410 Gone", "413 Request Entity Too Large"] {
        let (mut client, _) = client([Script::answers(&[INVOCATION, &status(line), SECOND])]);
        client.next_invocation(&mut NoWait).unwrap();
        let posted = client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap();
        assert!(matches!(posted, Posted::Refused(refusal) if line.starts_with(&refusal.status.to_string())));
        assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    }
}

#[test]
fn the_same_invocation_after_a_refused_answer_is_answered_again_and_not_returned() {
    let script = [INVOCATION, &status("403 Forbidden"), INVOCATION, ACCEPTED, SECOND];
    let (mut client, sent) = client([Script::answers(&script)]);
    client.next_invocation(&mut NoWait).unwrap();
    let posted = client.post(&result("id-1", b"\"once\""), false, &mut NoWait).unwrap();
    assert!(matches!(posted, Posted::Refused(_)));
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    assert_eq!(client.event(), b"null");
    assert_eq!(sent()[0].matches("\"once\"").count(), 2);
}

#[test]
fn a_second_refusal_of_the_same_answer_is_an_error() {
    let script = [INVOCATION, &status("400 Bad Request"), INVOCATION, &status("400 Bad Request")];
    let (mut client, _) = client([Script::answers(&script)]);
    client.next_invocation(&mut NoWait).unwrap();
    assert!(matches!(client.post(&result("id-1", b"1"), true, &mut NoWait), Ok(Posted::Refused(_))));
    let error = client.next_invocation(&mut NoWait).unwrap_err();
    assert!(
        matches!(&error, Error::Refused { call: Call::InvocationResponse, refusal } if refusal.status == 400)
    );
}

#[test]
fn the_same_request_id_with_another_invocation_id_is_a_retry_and_runs() {
    let attempt = |id: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id-1\r\nLambda-Runtime-Invocation-Id: {id}\r\n\
             Content-Length: 2\r\n\r\n{{}}"
        )
        .into_bytes()
    };
    let script: [&[u8]; 3] = [&attempt("try-1"), &status("410 Gone"), &attempt("try-2")];
    let (mut client, sent) = client([Script::answers(&script)]);
    let invocation = client.next_invocation(&mut NoWait).unwrap();
    let answer = Answer { invocation_id: invocation.invocation_id.as_deref(), ..result("id-1", b"1") };
    assert!(matches!(client.post(&answer, true, &mut NoWait), Ok(Posted::Refused(_))));
    assert!(sent()[0].contains("\r\nLambda-Runtime-Invocation-Id: try-1\r\n"));
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().invocation_id.as_deref(), Some("try-2"));
}

#[test]
fn the_same_invocation_after_an_accepted_answer_is_a_retry_and_runs() {
    let (mut client, _) = client([Script::answers(&[INVOCATION, ACCEPTED, INVOCATION])]);
    client.next_invocation(&mut NoWait).unwrap();
    assert_eq!(client.post(&result("id-1", b"1"), true, &mut NoWait).unwrap(), Posted::Accepted);
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-1");
}

#[test]
fn a_server_error_ends_the_conversation() {
    let failed = status("500 Internal Server Error");
    let (mut client, _) = client([Script::answers(&[INVOCATION, &failed])]);
    client.next_invocation(&mut NoWait).unwrap();
    let error = client.post(&result("id-1", b"1"), true, &mut NoWait).unwrap_err();
    assert!(matches!(error, Error::ServerError { refusal, .. } if refusal.status == 500));
}

#[test]
fn statuses_that_next_never_has_are_errors() {
    for (line, code) in [("204 No Content", 204), ("302 Found", 302), ("202 Accepted", 202)] {
        let (mut client, _) = client([Script::bytes(&status(line))]);
        let error = client.next_invocation(&mut NoWait).unwrap_err();
        assert!(matches!(error, Error::UnexpectedStatus { refusal, .. } if refusal.status == code));
    }
}

#[test]
fn an_answer_that_came_before_the_connection_broke_counts() {
    let too_large = b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\n\r\n";
    let first = Script { broken_after: Some(GET.len() + 200), ..Script::bytes(INVOCATION) }
        .then(Event::Bytes(too_large.to_vec()));
    let (mut client, sent) = client([first, Script::bytes(SECOND)]);
    client.next_invocation(&mut NoWait).unwrap();
    let posted = client.post(&result("id-1", &[b'x'; 4096]), true, &mut NoWait).unwrap();
    assert!(matches!(posted, Posted::Refused(refusal) if refusal.status == 413));
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    assert_eq!(sent()[1], GET, "the broken connection was not used again");
}

#[test]
fn nobody_listening_is_an_error_that_names_the_address() {
    let (mut client, _) = client([Script::refused()]);
    let error = client.next_invocation(&mut NoWait).unwrap_err();
    assert!(matches!(&error, Error::Connect { address, .. } if address == "127.0.0.1:9001"));
    assert!(error.to_string().contains("127.0.0.1:9001"));
}

#[test]
fn a_new_connection_that_closes_without_an_answer_is_an_error_at_once() {
    let (mut client, sent) = client([Script::default().then(Event::Close)]);
    let error = client.next_invocation(&mut NoWait).unwrap_err();
    assert!(matches!(error, Error::NoAnswer { call: Call::NextInvocation }));
    assert_eq!(sent().len(), 1);
}

type Check = fn(&Error) -> bool;

#[test]
fn each_kind_of_nonsense_is_an_error_of_its_own() {
    let long = [b"HTTP/1.1 200 OK\r\nX-A: ".as_slice(), &vec![b'x'; 70_000]].concat();
    let without_id = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let cases: [(&[u8], Check); 5] = [
        (&long, |error| matches!(error, Error::HeadTooLarge { limit: MAX_RESPONSE_HEAD, .. })),
        (
            b"220 smtp.example ESMTP\r\n",
            |error| matches!(error, Error::NotHttp { start, .. } if start.starts_with("220 smtp")),
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"a\"", |error| {
            matches!(error, Error::EndedEarly { received: 4, expected: Some(10), .. })
        }),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", |error| {
            matches!(error, Error::BodyTooLarge { .. })
        }),
        (without_id, |error| matches!(error, Error::MissingRequestId)),
    ];
    for (bytes, check) in cases {
        let (mut client, _) = client([Script::bytes(bytes).then(Event::Close)]);
        let error = client.next_invocation(&mut NoWait).unwrap_err();
        assert!(check(&error), "{error:?}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn a_missing_or_malformed_deadline_is_told_when_it_is_asked_for() {
    let invocation = |deadline: &str| {
        let bytes = format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id-1\r\n{deadline}Content-Length: 0\r\n\r\n"
        );
        client([Script::bytes(bytes.as_bytes())]).0.next_invocation(&mut NoWait).unwrap()
    };
    assert!(
        matches!(invocation("").deadline_ms(), Err(Error::MissingDeadline { request_id }) if request_id == "id-1")
    );
    assert!(matches!(
        invocation("Lambda-Runtime-Deadline-Ms: soon\r\n").deadline_ms(),
        Err(Error::InvalidDeadline { value, .. }) if value == "soon"
    ));
    assert_eq!(invocation("lambda-runtime-deadline-ms: 17\r\n").deadline_ms().unwrap(), 17);
    let virtual_clock = "Caloric-Deadline-Ms: 18\r\nLambda-Runtime-Deadline-Ms: 17\r\n";
    assert_eq!(invocation(virtual_clock).deadline_ms().unwrap(), 18);
}

#[test]
fn headers_are_found_in_any_case_and_empty_ones_are_absent() {
    let bytes = "HTTP/1.1 200 OK\r\nLAMBDA-RUNTIME-AWS-REQUEST-ID: id-1\r\nlambda-runtime-trace-id: Root=1\r\n\
                 Lambda-Runtime-Client-Context:\r\nLambda-Runtime-Cognito-Identity: {\"a\":\"日本\"}\r\n\
                 Lambda-Runtime-Aws-Tenant-Id: blue\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 0\r\n\r\n";
    let (mut client, _) = client([Script::bytes(bytes.as_bytes())]);
    let invocation = client.next_invocation(&mut NoWait).unwrap();
    assert_eq!(invocation.request_id, "id-1");
    assert_eq!(invocation.trace_id.as_deref(), Some("Root=1"));
    assert_eq!(invocation.client_context, None);
    assert_eq!(invocation.cognito_identity.as_deref(), Some("{\"a\":\"日本\"}"));
    assert_eq!(invocation.tenant_id.as_deref(), Some("blue"));
    assert_eq!(invocation.invoked_function_arn, "");
    assert!(!invocation.is_json(), "only exactly application/json is JSON");
    assert_eq!(invocation.other_content_type.as_deref(), Some("application/json; charset=utf-8"));
}

#[test]
fn an_error_carries_its_type_and_cause() {
    let (mut client, sent) = client([Script::answers(&[INVOCATION, ACCEPTED])]);
    client.next_invocation(&mut NoWait).unwrap();
    let kind = AnswerKind::Error { error_type: "Runtime.MarshalError", xray_cause: "{\"paths\":[]}" };
    let answer = Answer { request_id: "id-1", invocation_id: None, body: b"{}", kind };
    assert_eq!(client.post(&answer, false, &mut NoWait).unwrap(), Posted::Accepted);
    let sent = &sent()[0];
    assert!(sent.contains("POST /2018-06-01/runtime/invocation/id-1/error HTTP/1.1\r\n"));
    assert!(sent.contains("\r\nLambda-Runtime-Function-Error-Type: Runtime.MarshalError\r\n"));
    assert!(sent.contains("\r\nLambda-Runtime-Function-XRay-Error-Cause: {\"paths\":[]}\r\n"));
}

#[test]
fn a_failed_initialisation_is_reported_with_its_type() {
    let (mut client, sent) = client([Script::bytes(ACCEPTED)]);
    let posted = client.post_initialization_error("Runtime.ImportModuleError", b"{}", &mut NoWait).unwrap();
    assert_eq!(posted, Posted::Accepted);
    assert!(sent()[0].starts_with("POST /2018-06-01/runtime/init/error HTTP/1.1\r\n"));
    assert!(sent()[0].contains("\r\nLambda-Runtime-Function-Error-Type: Runtime.ImportModuleError\r\n"));
}

const RESTORE_NEXT: &str = "GET /2018-06-01/runtime/restore/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: caloric/test\r\n\r\n";
const RESTORED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_restore_has_a_connection_of_its_own_and_the_loop_another() {
    let (mut client, sent) = client([Script::bytes(RESTORED), Script::bytes(INVOCATION)]);
    client.restore_next(&mut NoWait).unwrap();
    assert_eq!(sent(), [RESTORE_NEXT]);
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-1");
    assert_eq!(sent(), [RESTORE_NEXT, GET]);
    assert!(client.pipelining(), "what became of that connection says nothing about the next one");
}

#[test]
fn a_restore_may_be_answered_in_any_form_and_any_pieces() {
    let closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let until_close = b"HTTP/1.0 200 OK\r\n\r\nrestored";
    for answer in [RESTORED, closing, chunked, until_close] {
        for at in 1..answer.len() {
            let script =
                Script::bytes(&answer[..at]).then(Event::Bytes(answer[at..].to_vec())).then(Event::Close);
            let (mut client, _) = client([script, Script::bytes(INVOCATION)]);
            client.restore_next(&mut NoWait).unwrap();
            assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-1", "split at {at}");
            assert!(client.pipelining());
        }
    }
}

#[test]
fn a_restore_that_is_not_answered_with_200_is_an_error() {
    for (line, code) in [
        ("202 Accepted", 202),
        ("204 No Content", 204),
        ("403 Forbidden", 403),
        ("404 Not Found", 404),
        ("500 Oh", 500),
    ] {
        let (mut client, sent) = client([Script::bytes(&status(line))]);
        let error = client.restore_next(&mut NoWait).unwrap_err();
        let (call, refusal) = match &error {
            Error::Refused { call, refusal }
            | Error::ServerError { call, refusal }
            | Error::UnexpectedStatus { call, refusal } => (*call, refusal),
            other => panic!("{other:?}"),
        };
        assert_eq!((call, refusal.status), (Call::RestoreNext, code));
        assert!(error.to_string().starts_with("GET /runtime/restore/next"), "{error}");
        assert_eq!(sent().len(), 1, "not asked again");
    }
}

#[test]
fn a_restore_whose_connection_ends_is_an_error_and_not_asked_for_again() {
    for (event, at) in [(Event::Close, 0), (Event::Reset, 0), (Event::Close, 20)] {
        let script = if at == 0 { Script::default() } else { Script::bytes(&RESTORED[..at]) };
        let (mut client, sent) = client([script.then(event), Script::bytes(RESTORED)]);
        let error = client.restore_next(&mut NoWait).unwrap_err();
        assert!(error.to_string().starts_with("GET /runtime/restore/next: "), "{error}");
        assert_eq!(sent().len(), 1);
    }
    let (mut client, _) = client([Script::refused()]);
    assert!(matches!(client.restore_next(&mut NoWait), Err(Error::Connect { .. })));
    let (mut client, _) = self::client([Script::default()]);
    assert!(matches!(client.restore_next(&mut NoWait), Err(Error::Interrupted)));
}

#[test]
fn a_hook_that_failed_is_reported_on_a_fresh_connection() {
    for at in 1..ACCEPTED.len() {
        let second = Script::bytes(&ACCEPTED[..at]).then(Event::Bytes(ACCEPTED[at..].to_vec()));
        let (mut client, sent) = client([Script::bytes(RESTORED), second]);
        client.restore_next(&mut NoWait).unwrap();
        let posted = client.post_restore_error("Runtime.AfterRestoreError", b"{}", &mut NoWait).unwrap();
        assert_eq!(posted, Posted::Accepted);
        assert_eq!(
            sent()[1],
            "POST /2018-06-01/runtime/restore/error HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: caloric/test\r\n\
             Content-Type: application/json\r\nLambda-Runtime-Function-Error-Type: Runtime.AfterRestoreError\r\n\
             Content-Length: 2\r\n\r\n{}"
        );
    }
}

#[test]
fn a_restore_that_failed_can_be_reported_as_a_failed_initialisation() {
    let (mut client, sent) = client([Script::bytes(&status("500 Oh")), Script::bytes(ACCEPTED)]);
    client.restore_next(&mut NoWait).unwrap_err();
    let posted = client.post_initialization_error("Runtime.BeforeSnapshotError", b"{}", &mut NoWait).unwrap();
    assert_eq!(posted, Posted::Accepted);
    assert!(sent()[1].starts_with("POST /2018-06-01/runtime/init/error HTTP/1.1\r\n"));
}

#[test]
fn a_wait_that_is_given_up_is_an_error_of_its_own() {
    let (mut client, _) = client([Script::default()]);
    assert!(matches!(client.next_invocation(&mut NoWait), Err(Error::Interrupted)));
}

#[test]
fn bytes_that_nobody_asked_for_are_not_taken_for_the_answer_to_the_next_request() {
    // Each answer comes twice. Taken one after the other they would be the answers to the wrong requests.
    let twice = |answer: &[u8]| joined(&[answer, answer]);
    let (mut client, sent) = client([
        Script::bytes(&twice(INVOCATION)),
        Script::bytes(&twice(ACCEPTED)),
        Script::bytes(&twice(SECOND)),
        Script::bytes(ACCEPTED),
    ]);
    client.next_invocation(&mut NoWait).unwrap();
    client.begin_post(&result("id-1", b"42"), true);
    assert_eq!(client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap(), Posted::Accepted);
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    assert_eq!(client.post(&result("id-2", b"43"), true, &mut NoWait).unwrap(), Posted::Accepted);
    let sent = sent();
    assert_eq!(sent.len(), 4);
    assert!(sent[1].ends_with("\r\n\r\n42"), "without a pipelined request: {:?}", sent[1]);
    assert_eq!(sent[2], GET);
}

#[test]
fn an_invocation_in_the_place_of_an_acknowledgement_is_an_error() {
    let (mut client, _) = client([Script::answers(&[INVOCATION, INVOCATION])]);
    client.next_invocation(&mut NoWait).unwrap();
    let error = client.post(&result("id-1", b"42"), true, &mut NoWait).unwrap_err();
    assert!(matches!(error, Error::OutOfStep { call: Call::InvocationResponse }), "{error}");
    assert!(!error.to_string().contains("{\"a\":1}"), "an event does not belong in a log: {error}");
}

#[test]
fn a_request_id_that_would_break_the_path_is_an_error() {
    for id in ["a b", "a\tb", "a HTTP/1.1", "\u{e9}"] {
        let bytes =
            format!("HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {id}\r\nContent-Length: 0\r\n\r\n");
        let (mut client, _) = client([Script::bytes(bytes.as_bytes())]);
        let error = client.next_invocation(&mut NoWait).unwrap_err();
        assert!(matches!(&error, Error::InvalidRequestId { value } if value == id), "{error}");
    }
}

#[test]
fn a_refusal_is_one_line_in_a_log_whatever_its_body_says() {
    let body = "not\r\nnow\t\u{1b}[31m\n";
    let bytes = format!("HTTP/1.1 500 No\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (mut client, _) = client([Script::bytes(bytes.as_bytes())]);
    let error = client.next_invocation(&mut NoWait).unwrap_err();
    assert_eq!(error.to_string(), "GET /runtime/invocation/next: the Runtime API failed: 500 not now [31m");
}

#[test]
fn an_answer_to_half_a_request_is_taken_and_the_connection_given_up() {
    let refused = status("413 Request Entity Too Large");
    let halves = [Event::Bytes(refused[..20].to_vec()), Event::Bytes(refused[20..].to_vec())];
    for end in [None, Some(Event::Close), Some(Event::Reset)] {
        // It takes 300 bytes of the answer and then no more, without closing.
        let mut first = Script { full_after: Some(GET.len() + 300), ..Script::bytes(INVOCATION) };
        first.events.extend(halves.clone());
        first.events.extend(end);
        let (mut client, sent) = client([first, Script::bytes(SECOND)]);
        client.next_invocation(&mut NoWait).unwrap();
        client.begin_post(&result("id-1", &[b'x'; 4096]), true);
        let posted = client.post(&result("id-1", &[b'x'; 4096]), true, &mut NoWait).unwrap();
        assert!(matches!(posted, Posted::Refused(refusal) if refusal.status == 413));
        assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
        assert_eq!(sent()[1], GET);
    }
}

#[test]
fn a_server_that_takes_no_more_and_then_closes_without_an_answer_gets_the_whole_answer_again() {
    for end in [Event::Close, Event::Reset] {
        let first = Script { full_after: Some(GET.len() + 300), ..Script::bytes(INVOCATION) }.then(end);
        let (mut client, sent) = client([first, Script::answers(&[ACCEPTED, SECOND])]);
        client.next_invocation(&mut NoWait).unwrap();
        let body = [b'x'; 4096];
        assert_eq!(client.post(&result("id-1", &body), true, &mut NoWait).unwrap(), Posted::Accepted);
        assert_eq!(sent()[1].matches('x').count(), 4096);
        assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    }
}
