use super::*;
use crate::memory::{Event, Memory, NoWait, Script};

pub(super) const ID: &str = "0f1e2d3c-4b5a-4978-8a6b-5c4d3e2f1a0b";

pub(super) type Scripted = (Result<ExtensionClient<Memory>, ExtensionError>, Box<dyn Fn() -> Vec<String>>);

pub(super) fn register(
    scripts: impl IntoIterator<Item = Script>,
    events: &[EventType],
    account_id: bool,
) -> Scripted {
    let memory = Memory::new(scripts);
    let sent = memory.sent();
    let sent = move || {
        sent.borrow().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect::<Vec<_>>()
    };
    let client =
        ExtensionClient::register(memory, "caloric/test", "watcher", events, account_id, &mut NoWait);
    (client, Box::new(sent))
}

pub(super) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub(super) fn registered() -> Vec<u8> {
    let body = r#"{"accountId":"111122223333","functionName":"orders","functionVersion":"$LATEST","handler":"app.handler"}"#;
    response("200 OK", &format!("Lambda-Extension-Identifier: {ID}\r\n"), body)
}

fn refused(error_type: &str) -> Vec<u8> {
    response("403 Forbidden", "", &format!(r#"{{"errorMessage":"no","errorType":"{error_type}"}}"#))
}

pub(super) fn accepted() -> Vec<u8> {
    response("202 Accepted", "", "{\"status\":\"OK\"}\n")
}

fn get() -> String {
    format!(
        "GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: caloric/test\r\n\
         Lambda-Extension-Identifier: {ID}\r\n\r\n"
    )
}

#[test]
fn a_registration_says_what_the_function_is() {
    let events = [EventType::Invoke, EventType::from("SHUTDOWN")];
    let (client, sent) = register([Script::bytes(&registered())], &events, true);
    let client = client.unwrap();
    assert_eq!(
        *client.registration(),
        Registration {
            identifier: ID.to_owned(),
            function_name: "orders".to_owned(),
            function_version: "$LATEST".to_owned(),
            handler: "app.handler".to_owned(),
            account_id: Some("111122223333".to_owned()),
        }
    );
    let post = "POST /2020-01-01/extension/register HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: caloric/test\r\n\
                Lambda-Extension-Name: watcher\r\nContent-Type: application/json\r\n\
                Lambda-Extension-Accept-Feature: accountId\r\nContent-Length: 32\r\n\r\n\
                {\"events\":[\"INVOKE\",\"SHUTDOWN\"]}";
    assert_eq!(sent(), [post]);
}

#[test]
fn a_registration_for_no_event_has_a_body_all_the_same_and_asks_for_no_feature() {
    let (client, sent) = register([Script::bytes(&registered())], &[], false);
    client.unwrap();
    assert!(sent()[0].ends_with("\r\n\r\n{\"events\":[]}"));
    assert!(!sent()[0].contains("Accept-Feature"));
}

#[test]
fn what_the_platform_does_not_say_of_the_function_is_empty() {
    let bytes = response("200 OK", &format!("lambda-extension-identifier: {ID}\r\n"), "");
    let (client, _) = register([Script::bytes(&bytes)], &[], false);
    let registration = Registration { identifier: ID.to_owned(), ..Registration::default() };
    assert_eq!(*client.unwrap().registration(), registration);
}

#[test]
fn a_registration_without_an_identifier_is_an_error() {
    for headers in ["", "Lambda-Extension-Identifier: \r\n"] {
        let (client, _) = register([Script::bytes(&response("200 OK", headers, "{}"))], &[], false);
        assert!(matches!(client, Err(ExtensionError::MissingIdentifier)));
    }
}

#[test]
fn every_refusal_has_its_reason() {
    for (error_type, expected) in [
        ("Extension.InvalidExtensionName", RefusalReason::InvalidName),
        ("InvalidRequestFormat", RefusalReason::InvalidRequestFormat),
        ("Extension.InvalidEventType", RefusalReason::InvalidEventType),
        ("Extension.RegistrationClosed", RefusalReason::RegistrationClosed),
        ("Extension.TooManyExtensions", RefusalReason::TooManyExtensions),
        ("Extension.InvalidExtensionState", RefusalReason::InvalidState),
        ("Extension.MissingExtensionIdentifier", RefusalReason::MissingIdentifier),
        ("Extension.InvalidExtensionIdentifier", RefusalReason::InvalidIdentifier),
        ("Extension.UnknownExtensionIdentifier", RefusalReason::UnknownIdentifier),
        ("Extension.MissingHeader", RefusalReason::MissingErrorType),
        ("Extension.Unheard", RefusalReason::Other),
    ] {
        let (client, _) = register([Script::bytes(&refused(error_type))], &[], false);
        match client.unwrap_err() {
            ExtensionError::Refused { call: Call::ExtensionRegister, reason, refusal } => {
                assert_eq!(reason, expected, "{error_type}");
                assert_eq!(refusal.status, 403);
            }
            other => panic!("{error_type}: {other}"),
        }
    }
}

#[test]
fn other_answers_to_a_registration_are_told_apart() {
    type Check = fn(&ExtensionError) -> bool;
    let cases: [(&str, Check); 4] = [
        ("404 Not Found", |error| {
            matches!(error, ExtensionError::Disabled { call: Call::ExtensionRegister })
        }),
        ("400 Bad Request", |error| {
            matches!(error, ExtensionError::Refused { reason: RefusalReason::Other, .. })
        }),
        (
            "500 Oops",
            |error| matches!(error, ExtensionError::Conversation(Error::ServerError { refusal, .. }) if refusal.status == 500),
        ),
        ("204 No Content", |error| {
            matches!(error, ExtensionError::Conversation(Error::UnexpectedStatus { .. }))
        }),
    ];
    for (status, is_expected) in cases {
        let (client, _) = register([Script::bytes(&response(status, "", ""))], &[], false);
        let error = client.unwrap_err();
        assert!(is_expected(&error), "{status}: {error:?}");
    }
}

#[test]
fn a_conversation_that_fails_says_how() {
    let (client, _) = register([Script::refused()], &[], false);
    assert!(matches!(client.unwrap_err(), ExtensionError::Conversation(Error::Connect { .. })));
    let closing = Script::default().then(Event::Close);
    let (client, _) = register([closing], &[], false);
    assert!(
        matches!(client.unwrap_err(), ExtensionError::Conversation(Error::NoAnswer { .. })),
        "a new connection is not tried again"
    );
    let (client, _) = register([Script::bytes(b"SSH-2.0-nonsense\r\n\r\n")], &[], false);
    let text = client.unwrap_err().to_string();
    assert!(text.starts_with("POST /extension/register: the answer is no HTTP/1.x response"), "{text}");
}

#[test]
fn events_come_one_after_the_other_over_one_connection() {
    let invoke =
        r#"{"eventType":"INVOKE","deadlineMs":1767225600123,"requestId":"r-1","invokedFunctionArn":"arn"}"#;
    let shutdown = r#"{"eventType":"SHUTDOWN","deadlineMs":1767225602000,"shutdownReason":"spindown"}"#;
    let first = response("200 OK", "Lambda-Extension-Event-Identifier: e-1\r\n", invoke);
    let second = response("200 OK", "", shutdown);
    let third = response("200 OK", "", r#"{"eventType":"REHEARSAL"}"#);
    let (client, sent) = register([Script::answers(&[&registered(), &first, &second, &third])], &[], false);
    let mut client = client.unwrap();
    let event = client.next_event(&mut NoWait).unwrap();
    assert_eq!(event, ExtensionEvent { event_type: EventType::Invoke, event_id: Some("e-1".to_owned()) });
    assert_eq!(client.event(), invoke.as_bytes());
    let event = client.next_event(&mut NoWait).unwrap();
    assert_eq!(event, ExtensionEvent { event_type: EventType::Shutdown, event_id: None });
    assert_eq!(client.event(), shutdown.as_bytes());
    let event = client.next_event(&mut NoWait).unwrap();
    assert_eq!(event.event_type, EventType::Other("REHEARSAL".to_owned()));
    assert_eq!(sent().len(), 1);
    assert!(sent()[0].ends_with(&get().repeat(3)));
}

#[test]
fn a_kept_connection_that_was_closed_is_made_again_once() {
    let event = response("200 OK", "", r#"{"eventType":"INVOKE"}"#);
    let (client, sent) =
        register([Script::bytes(&registered()).then(Event::Close), Script::bytes(&event)], &[], false);
    let mut client = client.unwrap();
    assert_eq!(client.next_event(&mut NoWait).unwrap().event_type, EventType::Invoke);
    assert_eq!(sent()[1], get());

    let closed = Script::default().then(Event::Close);
    let (client, sent) = register([Script::bytes(&registered()).then(Event::Reset), closed], &[], false);
    let error = client.unwrap().next_event(&mut NoWait).unwrap_err();
    assert!(matches!(error, ExtensionError::Conversation(Error::NoAnswer { .. })), "{error:?}");
    assert_eq!(sent().len(), 2);
}

#[test]
fn a_connection_that_the_platform_closes_after_an_answer_is_not_used_again() {
    let closing =
        response("200 OK", &format!("Connection: close\r\nLambda-Extension-Identifier: {ID}\r\n"), "{}");
    let event = response("200 OK", "", r#"{"eventType":"INVOKE"}"#);
    let (client, sent) = register([Script::bytes(&closing), Script::bytes(&event)], &[], false);
    client.unwrap().next_event(&mut NoWait).unwrap();
    assert_eq!(sent().len(), 2);
}

#[test]
fn bytes_that_nobody_asked_for_are_not_taken_for_an_event() {
    let event = response("200 OK", "", r#"{"eventType":"INVOKE"}"#);
    let stray = [registered(), response("200 OK", "", r#"{"eventType":"STRAY"}"#)].concat();
    let (client, _) = register([Script::bytes(&stray), Script::bytes(&event)], &[], false);
    assert_eq!(client.unwrap().next_event(&mut NoWait).unwrap().event_type, EventType::Invoke);
}

#[test]
fn a_poll_that_is_given_up_or_refused_or_makes_no_sense_is_an_error() {
    let (client, _) = register([Script::bytes(&registered())], &[], false);
    let error = client.unwrap().next_event(&mut NoWait).unwrap_err();
    assert!(matches!(error, ExtensionError::Conversation(Error::Interrupted)), "{error:?}");

    let twice = refused("Extension.InvalidExtensionState");
    let (client, _) = register([Script::answers(&[&registered(), &twice])], &[], false);
    let error = client.unwrap().next_event(&mut NoWait).unwrap_err();
    assert!(matches!(
        error,
        ExtensionError::Refused { call: Call::ExtensionNextEvent, reason: RefusalReason::InvalidState, .. }
    ));

    for body in ["", "null", "{}", r#"{"eventType":1}"#] {
        let nonsense = response("200 OK", "", body);
        let (client, _) = register([Script::answers(&[&registered(), &nonsense])], &[], false);
        let error = client.unwrap().next_event(&mut NoWait).unwrap_err();
        assert!(matches!(error, ExtensionError::InvalidEvent { .. }), "{body}: {error:?}");
    }
}

#[test]
fn errors_are_reported_with_their_type() {
    let (client, sent) = register([Script::answers(&[&registered(), &accepted(), &accepted()])], &[], false);
    let mut client = client.unwrap();
    client.post_init_error("Extension.ConfigInvalid", b"{}", &mut NoWait).unwrap();
    client.post_exit_error("Extension.Broken\r\nX-Evil: 1", b"", &mut NoWait).unwrap();
    let sent = sent();
    let init = format!(
        "POST /2020-01-01/extension/init/error HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: caloric/test\r\n\
         Lambda-Extension-Identifier: {ID}\r\nLambda-Extension-Function-Error-Type: Extension.ConfigInvalid\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    assert!(sent[0].contains(&init), "{}", sent[0]);
    assert!(sent[0].contains("POST /2020-01-01/extension/exit/error HTTP/1.1"));
    assert!(sent[0].contains("Error-Type: Extension.Broken  X-Evil: 1\r\n"));
    assert!(sent[0].ends_with("Content-Length: 0\r\n\r\n"));
}

#[test]
fn a_report_that_is_refused_is_an_error() {
    let (client, _) =
        register([Script::answers(&[&registered(), &refused("Extension.MissingHeader")])], &[], false);
    let error = client.unwrap().post_exit_error("", b"", &mut NoWait).unwrap_err();
    assert!(matches!(
        error,
        ExtensionError::Refused {
            call: Call::ExtensionExitError,
            reason: RefusalReason::MissingErrorType,
            ..
        }
    ));
    assert_eq!(
        error.to_string(),
        "POST /extension/exit/error was refused: 403 \
         {\"errorMessage\":\"no\",\"errorType\":\"Extension.MissingHeader\"}"
    );
}
