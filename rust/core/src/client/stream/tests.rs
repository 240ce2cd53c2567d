use super::*;
use crate::Answer;
use crate::client::AnswerKind;
use crate::client::tests::{ACCEPTED, GET, INVOCATION, SECOND, client, status};
use crate::memory::{Event, Memory, NoWait, Script};

const HEAD: &str = "POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\
    User-Agent: caloric/test\r\nContent-Type: text/plain\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n\
    Transfer-Encoding: chunked\r\n\
    Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n";

const STREAM: StreamHead<'_> =
    StreamHead { request_id: "id-1", invocation_id: None, content_type: "text/plain" };

/// A connection that delivers an invocation, looks `quiet` times as if nothing had come, and then goes on with `then`.
fn script(quiet: usize, then: impl IntoIterator<Item = Event>) -> Script {
    let mut script = Script::bytes(INVOCATION);
    for _ in 0..quiet {
        script = script.then(Event::Nothing);
    }
    then.into_iter().fold(script, Script::then)
}

fn bytes(bytes: &[u8]) -> Event {
    Event::Bytes(bytes.to_vec())
}

fn streaming(scripts: impl IntoIterator<Item = Script>) -> (Client<Memory>, impl Fn() -> Vec<String>) {
    let (mut client, sent) = client(scripts);
    client.next_invocation(&mut NoWait).unwrap();
    client.release_event();
    client.begin_stream(&STREAM);
    (client, sent)
}

#[test]
fn every_piece_leaves_as_it_comes_and_the_first_one_with_the_head() {
    let (mut client, sent) = streaming([script(3, [bytes(ACCEPTED), bytes(SECOND)])]);
    assert_eq!(sent(), [GET], "nothing before the first piece");
    assert_eq!(client.send_chunk(b"Hello", &mut NoWait).unwrap(), Flow::Open);
    assert_eq!(sent(), [format!("{GET}{HEAD}5\r\nHello\r\n")]);
    assert_eq!(client.send_chunk(b", twenty bytes here.", &mut NoWait).unwrap(), Flow::Open);
    assert!(sent()[0].ends_with("\r\n14\r\n, twenty bytes here.\r\n"));
    assert_eq!(client.end_stream(None, &mut NoWait).unwrap(), Posted::Accepted);
    assert!(sent()[0].ends_with("here.\r\n0\r\n\r\n"));
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    assert_eq!(sent().len(), 1, "on the same connection");
}

#[test]
fn an_empty_piece_does_not_end_the_stream() {
    let (mut client, sent) = streaming([script(4, [bytes(ACCEPTED)])]);
    assert_eq!(client.send_chunk(b"", &mut NoWait).unwrap(), Flow::Open);
    assert_eq!(sent(), [format!("{GET}{HEAD}")], "it sends the head");
    assert_eq!(client.send_chunk(b"", &mut NoWait).unwrap(), Flow::Open);
    assert_eq!(client.send_chunk(b"a", &mut NoWait).unwrap(), Flow::Open);
    assert_eq!(client.end_stream(None, &mut NoWait).unwrap(), Posted::Accepted);
    assert_eq!(sent(), [format!("{GET}{HEAD}1\r\na\r\n0\r\n\r\n")]);
}

#[test]
fn a_stream_without_a_piece_is_an_empty_response() {
    let (mut client, sent) = streaming([script(1, [bytes(ACCEPTED)])]);
    assert_eq!(client.end_stream(None, &mut NoWait).unwrap(), Posted::Accepted);
    assert_eq!(sent(), [format!("{GET}{HEAD}0\r\n\r\n")]);
}

#[test]
fn an_error_in_the_middle_is_told_in_the_trailers() {
    let (mut client, sent) = streaming([script(2, [bytes(ACCEPTED)])]);
    assert_eq!(client.send_chunk(b"half", &mut NoWait).unwrap(), Flow::Open);
    let error = StreamError { error_type: "ValueError\r\nX: 1", document: "e30=" };
    assert_eq!(client.end_stream(Some(&error), &mut NoWait).unwrap(), Posted::Accepted);
    let end = "4\r\nhalf\r\n0\r\nLambda-Runtime-Function-Error-Type: ValueError  X: 1\r\n\
               Lambda-Runtime-Function-Error-Body: e30=\r\n\r\n";
    assert!(sent()[0].ends_with(end));
}

#[test]
fn before_the_first_piece_an_error_can_be_posted_instead() {
    let (mut client, sent) = streaming([script(0, [bytes(ACCEPTED), bytes(SECOND)])]);
    let kind = AnswerKind::Error { error_type: "ValueError", xray_cause: "" };
    let error = Answer { request_id: "id-1", invocation_id: None, body: b"{}", kind };
    assert_eq!(client.post(&error, true, &mut NoWait).unwrap(), Posted::Accepted);
    assert!(!sent()[0].contains("chunked"));
    assert!(sent()[0].contains("POST /2018-06-01/runtime/invocation/id-1/error"));
    assert_eq!(client.send_chunk(b"late", &mut NoWait).unwrap(), Flow::Over);
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
}

#[test]
fn a_stream_on_a_connection_that_was_closed_meanwhile_gets_a_new_one() {
    for end in [Event::Close, Event::Reset] {
        let second = Script::default().then(Event::Nothing).then(bytes(ACCEPTED));
        let (mut client, sent) = streaming([script(0, [end]), second]);
        assert_eq!(client.send_chunk(b"Hello", &mut NoWait).unwrap(), Flow::Open);
        assert_eq!(client.end_stream(None, &mut NoWait).unwrap(), Posted::Accepted);
        assert_eq!(sent()[0], GET);
        assert_eq!(sent()[1], format!("{HEAD}5\r\nHello\r\n0\r\n\r\n"));
    }
}

#[test]
fn an_answer_before_the_end_ends_the_stream_and_the_connection() {
    for (answer, accepted) in [(status("413 Too Large"), false), (ACCEPTED.to_vec(), true)] {
        let (mut client, sent) = streaming([script(2, [bytes(&answer)]), Script::bytes(SECOND)]);
        assert_eq!(client.send_chunk(b"one", &mut NoWait).unwrap(), Flow::Open);
        assert_eq!(client.send_chunk(b"two", &mut NoWait).unwrap(), Flow::Open);
        assert_eq!(client.send_chunk(b"three", &mut NoWait).unwrap(), Flow::Over);
        assert_eq!(client.send_chunk(b"four", &mut NoWait).unwrap(), Flow::Over);
        let posted = client.end_stream(None, &mut NoWait).unwrap();
        assert_eq!(matches!(&posted, Posted::Accepted), accepted);
        if let Posted::Refused(refusal) = posted {
            assert_eq!(refusal.status, 413);
        }
        assert!(sent()[0].ends_with("3\r\ntwo\r\n"), "no more is sent");
        assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
        assert_eq!(sent()[1], GET);
    }
}

#[test]
fn an_answer_to_a_server_that_takes_no_more_ends_the_stream() {
    let full = GET.len() + HEAD.len() + 20;
    let first = script(2, [bytes(&status("413 Too Large"))]);
    let (mut client, _) = streaming([Script { full_after: Some(full), ..first }, Script::bytes(SECOND)]);
    assert_eq!(client.send_chunk(b"one", &mut NoWait).unwrap(), Flow::Open);
    assert_eq!(client.send_chunk(&[b'x'; 1000], &mut NoWait).unwrap(), Flow::Over);
    assert!(
        matches!(client.end_stream(None, &mut NoWait), Ok(Posted::Refused(refusal)) if refusal.status == 413)
    );
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
}

#[test]
fn a_connection_that_breaks_in_the_middle_is_an_error_and_the_next_one_serves() {
    for end in [Event::Close, Event::Reset] {
        let (mut client, _) = streaming([script(1, [end]), Script::bytes(SECOND)]);
        assert_eq!(client.send_chunk(b"one", &mut NoWait).unwrap(), Flow::Open);
        assert_eq!(client.send_chunk(b"two", &mut NoWait).unwrap(), Flow::Over);
        let error = client.end_stream(None, &mut NoWait).unwrap_err();
        assert!(matches!(error, Error::NoAnswer { call: CALL } | Error::Io { call: CALL, .. }));
        assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    }
    let first = Script { broken_after: Some(GET.len() + HEAD.len() + 8), ..script(2, [Event::Close]) };
    let (mut client, _) = streaming([first, Script::bytes(SECOND)]);
    assert_eq!(client.send_chunk(b"one", &mut NoWait).unwrap(), Flow::Open);
    assert_eq!(client.send_chunk(b"two", &mut NoWait).unwrap(), Flow::Over);
    assert!(matches!(client.end_stream(None, &mut NoWait), Err(Error::Io { .. })));
}

#[test]
fn an_answer_that_came_before_the_connection_broke_counts() {
    let first = script(2, [bytes(&status("413 Too Large")), Event::Reset]);
    let first = Script { broken_after: Some(GET.len() + HEAD.len() + 8), ..first };
    let (mut client, _) = streaming([first]);
    assert_eq!(client.send_chunk(b"one", &mut NoWait).unwrap(), Flow::Open);
    assert_eq!(client.send_chunk(b"two", &mut NoWait).unwrap(), Flow::Over);
    assert!(matches!(client.end_stream(None, &mut NoWait), Ok(Posted::Refused(_))));
}

#[test]
fn a_connection_that_takes_little_at_a_time_gets_every_byte_once() {
    let whole = format!("{GET}{HEAD}5\r\nHello\r\n0\r\n\r\n");
    for pause in GET.len()..whole.len() {
        // Looked at once more where it has to wait.
        let first = Script { pause_after: Some(pause), ..script(3, [bytes(ACCEPTED)]) };
        let (mut client, sent) = streaming([first]);
        assert_eq!(client.send_chunk(b"Hello", &mut NoWait).unwrap(), Flow::Open);
        assert_eq!(client.end_stream(None, &mut NoWait).unwrap(), Posted::Accepted, "pause at {pause}");
        assert_eq!(sent(), [whole.as_str()]);
    }
}

#[test]
fn an_abandoned_stream_breaks_the_connection_off_and_one_that_was_only_begun_does_not() {
    let (mut client, sent) = streaming([script(0, [bytes(SECOND)])]);
    client.abandon_stream();
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    assert_eq!(sent(), [format!("{GET}{GET}")]);
    let (mut client, sent) = streaming([script(0, []), Script::bytes(SECOND)]);
    assert_eq!(client.send_chunk(b"one", &mut NoWait).unwrap(), Flow::Open);
    client.abandon_stream();
    assert_eq!(client.next_invocation(&mut NoWait).unwrap().request_id, "id-2");
    assert_eq!(sent()[1], GET);
}

#[test]
fn a_wait_that_is_given_up_breaks_the_stream_off() {
    let first = Script { full_after: Some(GET.len() + 10), ..script(0, [Event::Nothing]) };
    let (mut client, _) = streaming([first]);
    assert!(matches!(client.send_chunk(b"one", &mut NoWait), Err(Error::Interrupted)));
    assert_eq!(client.send_chunk(b"two", &mut NoWait).unwrap(), Flow::Over);
}
