//! Who may call what when: every state with every call, the gates, the catalogue of errors.

use std::task::Waker;

use super::ExtensionState as S;
use super::*;

const BOTH: &[u8] = br#"{"events":["INVOKE","SHUTDOWN"]}"#;
const INVOKE: &[u8] = br#"{"events":["INVOKE"]}"#;
const NOTHING: &[u8] = b"{}";

fn extensions(external: &[&str]) -> Extensions {
    Extensions::new(external.iter().map(|name| (*name).to_owned()).collect(), false)
}

fn poll(extensions: &mut Extensions, id: Uuid, poller: u64) -> EventPoll {
    extensions.poll_event(id, poller, Waker::noop())
}

fn is_pending(extensions: &mut Extensions, id: Uuid, poller: u64) -> bool {
    matches!(poll(extensions, id, poller), EventPoll::Pending)
}

fn delivered(extensions: &mut Extensions, id: Uuid, poller: u64) -> String {
    match self::poll(extensions, id, poller) {
        EventPoll::Deliver(event) => String::from_utf8(event.body.to_vec()).unwrap(),
        other => panic!("no event: {other:?}"),
    }
}

fn refused(polled: EventPoll) -> Refusal {
    match polled {
        EventPoll::Refused(refusal) => refusal,
        other => panic!("accepted: {other:?}"),
    }
}

fn invoke(extensions: &mut Extensions) -> Vec<String> {
    let event = Event::invoke("id", "arn", "", 7);
    extensions.invoke(event, &mut Vec::new()).into_iter().map(str::to_owned).collect()
}

fn shut_down(extensions: &mut Extensions) -> Vec<String> {
    extensions.shut_down(Event::shutdown(ShutdownReason::Spindown, 9), &mut Vec::new())
}

fn state(extensions: &Extensions, name: &str) -> S {
    extensions.iter().find(|extension| extension.name() == name).unwrap().state()
}

/// The external extension `ext`, subscribed to both events, in a given state.
fn in_state(wanted: S) -> (Extensions, Uuid) {
    let mut extensions = extensions(&["ext"]);
    if wanted == S::LaunchError {
        extensions.launch_failed("ext", "PermissionDenied");
        return (extensions, Uuid::nil());
    }
    if wanted == S::Started {
        return (extensions, Uuid::nil());
    }
    let id = extensions.register("ext", BOTH).unwrap();
    match wanted {
        S::InitError => extensions.report_error(id, ReportedError::Init, "Extension.Bad").unwrap(),
        S::ExitError => extensions.report_error(id, ReportedError::Exit, "Extension.Bad").unwrap(),
        S::Ready => assert!(is_pending(&mut extensions, id, 1)),
        S::Running | S::Exited | S::ShutdownFailed => {
            assert!(is_pending(&mut extensions, id, 1));
            shut_down(&mut extensions);
            delivered(&mut extensions, id, 1);
            match wanted {
                S::Exited => extensions.ended_in_shutdown("ext", Exit::Status(0)),
                S::ShutdownFailed => extensions.ended_in_shutdown("ext", Exit::Status(1)),
                _ => {}
            }
        }
        _ => {}
    }
    assert_eq!(state(&extensions, "ext"), wanted);
    (extensions, id)
}

const REGISTERED_STATES: [S; 7] =
    [S::Registered, S::Ready, S::Running, S::InitError, S::ExitError, S::Exited, S::ShutdownFailed];

fn transition(from: S, to: S, extension: &dyn std::fmt::Display) -> Refusal {
    Refusal::Transition { from, to, extension: format!("{extension}") }
}

// ---- the table ------------------------------------------------------------------------------------------------------

#[test]
fn register_is_for_those_that_were_just_launched() {
    for from in [S::LaunchError].into_iter().chain(REGISTERED_STATES) {
        let (mut extensions, _) = in_state(from);
        assert_eq!(
            extensions.register("ext", BOTH),
            Err(transition(from, S::Registered, &"ext")),
            "{from:?}"
        );
    }
    assert!(in_state(S::Started).0.register("ext", BOTH).is_ok());
}

#[test]
fn the_next_event_is_for_those_that_are_not_waiting_and_have_not_failed() {
    for from in REGISTERED_STATES {
        let (mut extensions, id) = in_state(from);
        let polled = poll(&mut extensions, id, 2);
        if matches!(from, S::Registered | S::Running) {
            assert!(matches!(polled, EventPoll::Pending), "{from:?}");
            assert_eq!(state(&extensions, "ext"), S::Ready);
        } else {
            assert_eq!(refused(polled), transition(from, S::Ready, &id));
            assert_eq!(state(&extensions, "ext"), from);
        }
    }
}

#[test]
fn errors_are_reported_once_and_at_their_time() {
    for (kind, to, legal) in [
        (ReportedError::Init, S::InitError, &[S::Registered, S::InitError][..]),
        (ReportedError::Exit, S::ExitError, &[S::Registered, S::Ready, S::Running, S::ExitError]),
    ] {
        for from in REGISTERED_STATES {
            let (mut extensions, id) = in_state(from);
            let reported = extensions.report_error(id, kind, "Extension.Other");
            if legal.contains(&from) {
                assert_eq!(reported, Ok(()), "{kind:?} in {from:?}");
                assert_eq!(state(&extensions, "ext"), to);
                let expected = if from == to { "Extension.Bad" } else { "Extension.Other" };
                assert_eq!(extensions.find(id).unwrap().error_type(), Some(expected), "the first one counts");
                assert_eq!(extensions.fatal_error("Extension.Crash"), kind.fatal());
            } else {
                assert_eq!(reported, Err(transition(from, to, &id)), "{kind:?} in {from:?}");
                assert_eq!(state(&extensions, "ext"), from);
            }
        }
    }
}

#[test]
fn a_process_that_ends_without_a_report_is_a_crash() {
    assert_eq!(in_state(S::Running).0.fatal_error("Extension.Crash"), "Extension.Crash");
}

#[test]
fn the_first_fatal_error_is_kept() {
    let mut extensions = extensions(&["a", "b"]);
    let (a, b) = (extensions.register("a", NOTHING).unwrap(), extensions.register("b", NOTHING).unwrap());
    extensions.report_error(a, ReportedError::Exit, "A.A").unwrap();
    extensions.report_error(b, ReportedError::Init, "B.B").unwrap();
    assert_eq!(extensions.fatal_error("Extension.Crash"), "Extension.ExitError");
}

#[test]
fn an_end_in_the_shutdown_phase_is_clean_or_not() {
    for (from, exit, to) in [
        (S::Running, Exit::Status(0), S::Exited),
        (S::Running, Exit::Status(1), S::ShutdownFailed),
        (S::Running, Exit::Signal { signal: 9, core_dumped: false }, S::ShutdownFailed),
        (S::Ready, Exit::Status(0), S::Ready),
        (S::Registered, Exit::Status(0), S::Registered),
        (S::InitError, Exit::Status(1), S::InitError),
        (S::ExitError, Exit::Status(1), S::ExitError),
    ] {
        let (mut extensions, _) = in_state(from);
        extensions.ended_in_shutdown("ext", exit);
        assert_eq!(state(&extensions, "ext"), to, "{from:?} {exit:?}");
    }
}

// ---- registration ---------------------------------------------------------------------------------------------------

#[test]
fn the_checks_of_a_registration_come_in_their_order() {
    let mut full = extensions(&["ext"]);
    for index in 1..MAX_EXTENSIONS {
        full.register(&format!("internal {index}"), NOTHING).unwrap();
    }
    let too_many = full.register("one more", br#"{"events":["INVOKE"]}"#);
    assert_eq!(too_many, Err(Refusal::TooMany), "internal and external ones count together");
    assert_eq!(full.register("internal 1", NOTHING), Err(Refusal::TooMany));
    assert!(full.register("ext", BOTH).is_ok(), "an external one has its place from the beginning");

    let mut extensions = extensions(&["ext"]);
    extensions.register("internal", NOTHING).unwrap();
    assert_eq!(extensions.register("", b"no JSON"), Err(Refusal::EmptyName));
    assert!(matches!(extensions.register("x", b"no JSON"), Err(Refusal::Format(_))));
    assert_eq!(extensions.register("internal", BOTH), Err(Refusal::ShutdownNotSupported));
    assert_eq!(extensions.register("internal", NOTHING), Err(Refusal::NameTaken));
    extensions.close_registration();
    assert_eq!(extensions.register("internal", NOTHING), Err(Refusal::RegistrationClosed));
    assert_eq!(extensions.register("late", INVOKE), Err(Refusal::RegistrationClosed));
    assert!(extensions.register("ext", BOTH).is_ok(), "the window is for internal ones");
}

#[test]
fn events_are_a_set_of_known_names() {
    let mut extensions = extensions(&["ext"]);
    let unknown = |name: &str| Err(Refusal::UnknownEvent(name.to_owned()));
    assert_eq!(extensions.register("ext", br#"{"events":["invoke"]}"#), unknown("invoke"));
    assert_eq!(extensions.register("ext", br#"{"events":["INVOKE",""]}"#), unknown(""));
    let id = extensions.register("ext", br#"{"Events":["SHUTDOWN","SHUTDOWN"],"more":{}}"#).unwrap();
    let subscribed = extensions.find(id).unwrap().subscribed();
    assert_eq!(subscribed.names().collect::<Vec<_>>(), ["SHUTDOWN"]);
}

#[test]
fn no_events_can_be_asked_for_in_several_ways() {
    let bodies =
        ["null", "{}", r#"{"events":[]}"#, r#"{"events":null}"#, r#"{"configurationKeys":[],"events":[]}"#];
    let mut extensions = extensions(&[]);
    for body in bodies {
        let id = extensions.register(body, body.as_bytes()).unwrap();
        assert_eq!(extensions.find(id).unwrap().subscribed(), Subscribed::default(), "{body}");
    }
}

#[test]
fn a_body_that_cannot_be_understood_is_refused_with_the_reason() {
    let keys = "configurationKeys are deprecated; use environment variables instead";
    for (body, reason) in [
        ("", "unexpected end of JSON input"),
        ("[]", "the body is not a JSON object"),
        (r#"{"events":"INVOKE"}"#, "events is not an array"),
        (r#"{"events":[1]}"#, "events holds something that is not a string"),
        (r#"{"configurationKeys":["a"]}"#, keys),
        (r#"{"ConfigurationKeys":["a"]}"#, keys),
        (r#"{"configurationKeys":"a"}"#, "configurationKeys is not an array"),
    ] {
        let refusal = extensions(&[]).register("x", body.as_bytes());
        assert_eq!(refusal, Err(Refusal::Format(reason.to_owned())), "{body}");
    }
    let Err(Refusal::Format(reason)) = extensions(&[]).register("x", b"{\"events\":") else {
        panic!("accepted")
    };
    assert!(reason.contains("EOF while parsing"), "{reason}");
}

#[test]
fn identifiers_are_void_after_a_reset() {
    let (mut extensions, id) = in_state(S::Ready);
    extensions.report_error(id, ReportedError::Exit, "A.B").unwrap();
    extensions.reset();
    assert!(extensions.find(id).is_none());
    let unknown = Refusal::UnknownExtension(id.to_string());
    assert_eq!(refused(poll(&mut extensions, id, 1)), unknown);
    let reported = extensions.report_error(id, ReportedError::Exit, "A.B");
    assert_eq!(reported, Err(Refusal::UnknownIdentifier));
    assert_eq!(
        extensions.fatal_error("Extension.Crash"),
        "Extension.Crash",
        "nothing was reported in this generation"
    );
    assert_ne!(extensions.register("ext", BOTH).unwrap(), id);
}

// ---- events ---------------------------------------------------------------------------------------------------------

#[test]
fn events_have_the_documented_form() {
    let body = |event: Event| String::from_utf8(event.body.to_vec()).unwrap();
    assert_eq!(
        body(Event::invoke("the-id", "arn:aws:lambda:x", "Root=1-a;Sampled=1", 1_767_225_600_123)),
        r#"{"eventType":"INVOKE","deadlineMs":1767225600123,"requestId":"the-id","invokedFunctionArn":"arn:aws:lambda:x","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1-a;Sampled=1"}}"#
    );
    assert!(!body(Event::invoke("the-id", "arn", "", 1)).contains("tracing"));
    for (reason, text) in [
        (ShutdownReason::Spindown, "spindown"),
        (ShutdownReason::Timeout, "timeout"),
        (ShutdownReason::Failure, "failure"),
    ] {
        assert_eq!(
            body(Event::shutdown(reason, 5)),
            format!(r#"{{"eventType":"SHUTDOWN","deadlineMs":5,"shutdownReason":"{text}"}}"#)
        );
    }
}

#[test]
fn an_invocation_goes_to_those_subscribed_and_to_nobody_else() {
    let mut extensions = extensions(&["both", "neither"]);
    let both = extensions.register("both", BOTH).unwrap();
    let neither = extensions.register("neither", NOTHING).unwrap();
    let internal = extensions.register("internal", INVOKE).unwrap();
    for (poller, id) in [(1, both), (2, neither), (3, internal)] {
        assert!(is_pending(&mut extensions, id, poller));
    }
    extensions.end_init();
    let mut wakers = Vec::new();
    assert!(extensions.invoke(Event::invoke("id", "arn", "", 7), &mut wakers).is_empty());
    assert_eq!(wakers.len(), 2);
    assert!(delivered(&mut extensions, both, 1).contains("INVOKE"));
    assert!(delivered(&mut extensions, internal, 3).contains("INVOKE"));
    assert!(is_pending(&mut extensions, neither, 2));
    assert_eq!(state(&extensions, "neither"), S::Ready);
}

#[test]
fn an_event_that_comes_while_an_extension_works_is_there_at_its_next_poll() {
    let (mut extensions, id) = in_state(S::Ready);
    invoke(&mut extensions);
    delivered(&mut extensions, id, 1);
    assert!(shut_down(&mut extensions).is_empty());
    assert_eq!(state(&extensions, "ext"), S::Running);
    assert!(delivered(&mut extensions, id, 2).contains("SHUTDOWN"));
    assert_eq!(state(&extensions, "ext"), S::Running);
}

#[test]
fn shutdown_reaches_an_extension_that_has_not_polled_yet() {
    let (mut extensions, id) = in_state(S::Registered);
    assert!(shut_down(&mut extensions).is_empty());
    assert!(delivered(&mut extensions, id, 1).contains("SHUTDOWN"));
}

#[test]
fn whoever_is_not_subscribed_to_shutdown_is_named_to_be_killed() {
    let mut extensions = extensions(&["never registered", "deaf", "both"]);
    extensions.register("deaf", INVOKE).unwrap();
    extensions.register("both", BOTH).unwrap();
    extensions.register("internal", INVOKE).unwrap();
    extensions.launch();
    assert_eq!(shut_down(&mut extensions), ["never registered", "deaf"]);
    assert_eq!(extensions.take_launch(), None, "nobody is launched any more");
}

#[test]
fn a_request_looks_again_without_being_a_second_one() {
    let (mut extensions, id) = in_state(S::Ready);
    assert!(is_pending(&mut extensions, id, 1));
    assert_eq!(refused(poll(&mut extensions, id, 2)), transition(S::Ready, S::Ready, &id));
    invoke(&mut extensions);
    assert!(delivered(&mut extensions, id, 1).contains("INVOKE"));
}

#[test]
fn an_abandoned_request_swallows_the_event() {
    let (mut extensions, id) = in_state(S::Ready);
    extensions.abandon_poll(id, 99);
    extensions.abandon_poll(id, 1);
    let again = poll(&mut extensions, id, 2);
    assert_eq!(refused(again), transition(S::Ready, S::Ready, &id), "the platform counts it as waiting");
    assert_eq!(invoke(&mut extensions), ["ext"]);
    assert!(is_pending(&mut extensions, id, 3), "the event went to the request that nobody reads");
    assert!(invoke(&mut extensions).is_empty());
}

#[test]
fn a_request_abandoned_after_its_event_was_released_loses_it_too() {
    let (mut extensions, id) = in_state(S::Ready);
    invoke(&mut extensions);
    extensions.abandon_poll(id, 1);
    assert!(is_pending(&mut extensions, id, 2));
}

// ---- gates ----------------------------------------------------------------------------------------------------------

#[test]
fn the_runtime_waits_for_all_external_extensions_to_register() {
    let mut extensions = extensions(&["a", "b"]);
    assert!(!extensions.all_external_registered());
    extensions.register("a", NOTHING).unwrap();
    extensions.register("internal", NOTHING).unwrap();
    assert!(!extensions.all_external_registered());
    extensions.register("b", NOTHING).unwrap();
    assert!(extensions.all_external_registered());
    assert!(self::extensions(&[]).all_external_registered());
}

#[test]
fn init_waits_for_every_extension_and_an_invocation_for_those_subscribed() {
    let mut extensions = extensions(&["ext"]);
    assert!(!extensions.are_ready());
    let ext = extensions.register("ext", BOTH).unwrap();
    let quiet = extensions.register("quiet", NOTHING).unwrap();
    assert!(is_pending(&mut extensions, ext, 1));
    assert!(!extensions.are_ready(), "one that is subscribed to nothing must poll once, too");
    assert!(is_pending(&mut extensions, quiet, 2));
    assert!(extensions.are_ready() && extensions.are_initialising());
    extensions.end_init();
    assert!(extensions.are_ready() && !extensions.are_initialising());
    invoke(&mut extensions);
    assert!(!extensions.are_ready(), "released and not fetched yet");
    delivered(&mut extensions, ext, 1);
    assert!(!extensions.are_ready());
    assert!(is_pending(&mut extensions, ext, 3));
    assert!(extensions.are_ready());
}

#[test]
fn an_extension_that_reported_an_error_keeps_its_phase_waiting() {
    let (mut extensions, id) = in_state(S::Ready);
    extensions.end_init();
    extensions.report_error(id, ReportedError::Exit, "A.B").unwrap();
    assert!(!extensions.are_ready(), "until its process ends");
}

#[test]
fn each_extension_is_launched_once_and_a_late_report_is_known() {
    let mut extensions = extensions(&["a", "b"]);
    assert!(extensions.has_external());
    assert_eq!(extensions.take_launch(), None, "nothing is launched before init begins");
    extensions.launch();
    assert_eq!(extensions.take_launch().as_deref(), Some("a"));
    assert_eq!(extensions.take_launch().as_deref(), Some("b"));
    assert_eq!(extensions.take_launch(), None);
    assert!(extensions.launched("a"));
    assert!(!extensions.launched("a"));
    extensions.reset();
    assert!(!extensions.launched("b"), "that one was for a generation that is over");
}

#[test]
fn a_launch_that_failed_is_in_the_state() {
    let (extensions, _) = in_state(S::LaunchError);
    let extension = extensions.iter().next().unwrap();
    assert_eq!((extension.state().name(), extension.error_type()), ("LaunchError", Some("PermissionDenied")));
    assert!(!extensions.any_registered());
}

#[test]
fn the_kinds_are_told_apart_by_name() {
    let mut extensions = extensions(&["ext"]);
    extensions.register("internal", INVOKE).unwrap();
    assert!(extensions.registered(false) && !extensions.registered(true));
    assert!(extensions.any_subscribed_to_invoke());
    extensions.register("ext", NOTHING).unwrap();
    assert!(extensions.registered(true));
    extensions.forget();
    assert!(!extensions.any_registered() && extensions.are_ready());
    assert_eq!(extensions.register("internal", INVOKE), Err(Refusal::RegistrationClosed));
}

// ---- the catalogue --------------------------------------------------------------------------------------------------

#[test]
fn refusals_have_the_platforms_words() {
    let transition = transition(S::Ready, S::Ready, &"the-id");
    for (refusal, error_type, message) in [
        (Refusal::EmptyName, "Extension.InvalidExtensionName", "Empty extension name"),
        (Refusal::Format("EOF".to_owned()), "InvalidRequestFormat", "EOF"),
        (Refusal::UnknownEvent("X".to_owned()), "Extension.InvalidEventType", "X: ErrorInvalidEventType"),
        (
            Refusal::ShutdownNotSupported,
            "Extension.InvalidEventType",
            "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension",
        ),
        (
            Refusal::RegistrationClosed,
            "Extension.RegistrationClosed",
            "Extension registration closed already",
        ),
        (Refusal::TooMany, "Extension.TooManyExtensions", "Extension limit (10) reached"),
        (
            Refusal::NameTaken,
            "Extension.InvalidExtensionState",
            "Extension with this name already registered",
        ),
        (
            transition,
            "Extension.InvalidExtensionState",
            "State transition from Ready to Ready failed for extension the-id. Error: State transition is not allowed",
        ),
        (
            Refusal::MissingIdentifier,
            "Extension.MissingExtensionIdentifier",
            "Missing Lambda-Extension-Identifier header",
        ),
        (
            Refusal::InvalidIdentifier,
            "Extension.InvalidExtensionIdentifier",
            "Invalid Lambda-Extension-Identifier",
        ),
        (
            Refusal::UnknownExtension("u".to_owned()),
            "Extension.UnknownExtensionIdentifier",
            "Unknown extension u",
        ),
        (
            Refusal::UnknownIdentifier,
            "Extension.UnknownExtensionIdentifier",
            "Unknown Lambda-Extension-Identifier",
        ),
        (
            Refusal::MissingErrorType,
            "Extension.MissingHeader",
            "Lambda-Extension-Function-Error-Type not found",
        ),
    ] {
        assert_eq!((refusal.error_type(), refusal.message().as_str()), (error_type, message));
    }
}
