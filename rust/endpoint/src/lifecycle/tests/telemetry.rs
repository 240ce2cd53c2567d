//! What subscribers are told of failures, and the times that events name (spec extensions-telemetry 2.6 and 2.7).

use uuid::Uuid;

use super::extensions::{BOTH, NOTHING, subscribed_runtime, told, with_external};
use super::*;
use crate::extensions::ReportedError;
use crate::lifecycle::current::unix_ms;
use crate::telemetry::{Api, Subscriber};

impl Environment {
    /// Invocation `id` in a runtime and in an external extension, which is subscribed to everything; what was told so
    /// far is forgotten.
    fn subscribed_with_external() -> (Self, Uuid, Arc<Subscriber>, Process, Process) {
        let mut environment = with_external(&["ext"]);
        environment.submit("id");
        let (_, extension) = environment.launch();
        let id = environment.register_extension("ext", BOTH);
        let subscriber = environment.subscribe(id, Api::Telemetry);
        let runtime = environment.start_runtime();
        environment.waits(id);
        environment.delivered();
        environment.gets(id);
        told(&subscriber);
        (environment, id, subscriber, runtime, extension)
    }
}

/// The member `deadlineMs` of an event.
fn deadline_ms(event: &str) -> u64 {
    let (_, rest) = event.split_once(r#""deadlineMs":"#).expect("the event has a deadline");
    rest.split(',').next().unwrap().parse().unwrap()
}

// ---- failures in an invocation --------------------------------------------------------------------------------------

#[test]
fn an_extension_that_dies_ends_the_runtimes_part_of_the_invocation() {
    let (mut environment, _, subscriber, runtime, extension) = Environment::subscribed_with_external();
    environment.pass(Duration::from_millis(5));
    environment.extension_exits(&extension, Exit::Status(7));
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["runtimeDone"], "before anything is shut down");
    let expected = r#""requestId":"id","status":"error","errorType":"Extension.Crash","metrics":{"durationMs":5,"producedBytes":0}}"#;
    assert!(text.contains(expected), "{text}");
    environment.exited(&runtime, Exit::Status(0));
    environment.lifecycle.telemetry_flushed(environment.now);
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["report"]);
    assert!(text.contains(r#""status":"error","errorType":"Extension.Crash","metrics""#), "{text}");
}

#[test]
fn an_invocation_that_is_cut_off_is_the_platforms_failure() {
    let (mut environment, _, subscriber, runtime) = subscribed_runtime(Api::Telemetry);
    told(&subscriber);
    environment.lifecycle.close(environment.now);
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["runtimeDone"]);
    assert!(text.contains(r#""status":"failure","errorType":"Sandbox.Failure""#), "{text}");
    environment.exited(&runtime, Exit::Status(0));
    environment.lifecycle.telemetry_flushed(environment.now);
    assert_eq!(told(&subscriber).0, ["report"], "the runtime is done once");
}

#[test]
fn too_much_memory_is_told_with_its_type() {
    let config = EnvironmentConfig { memory_size_mb: 0, ..EnvironmentConfig::default() };
    let mut environment = Environment::with(config);
    environment.submit("id");
    let runtime = environment.start_runtime();
    let id = environment.register_extension("internal", NOTHING);
    let subscriber = environment.subscribe(id, Api::Telemetry);
    environment.waits(id);
    environment.delivered();
    told(&subscriber);
    environment.pass(Duration::from_millis(200));
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["runtimeDone"]);
    assert!(text.contains(r#""status":"error","errorType":"Runtime.OutOfMemory""#), "{text}");
    environment.exited(&runtime, Exit::Signal { signal: libc::SIGKILL, core_dumped: false });
    environment.lifecycle.telemetry_flushed(environment.now);
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["report"]);
    assert!(text.contains(r#""errorType":"Runtime.OutOfMemory""#), "{text}");
}

#[test]
fn a_runtime_that_was_done_is_not_told_again_when_extensions_take_too_long() {
    let (mut environment, id, subscriber, runtime, extension) = Environment::subscribed_with_external();
    environment.respond("id", "42").unwrap();
    environment.pass(Duration::from_millis(10));
    assert!(matches!(environment.next(), NextPoll::Pending));
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["runtimeDone"], "the report waits for the extension");
    assert!(text.contains(r#""status":"success""#), "{text}");
    environment.pass(TIMEOUT);
    assert!(told(&subscriber).0.is_empty());
    environment.exited(&runtime, Exit::Status(0));
    environment.lifecycle.telemetry_flushed(environment.now);
    environment.gets(id);
    environment.extension_exits(&extension, Exit::Status(0));
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["report"]);
    assert!(text.contains(r#""status":"timeout","metrics":{"durationMs":3000,"#), "{text}");
    assert!(!text.contains("spans"), "nobody knows what they would have taken: {text}");
}

#[test]
fn init_is_in_the_metrics_of_the_first_invocation_only() {
    let (mut environment, _, subscriber, _runtime) = subscribed_runtime(Api::Telemetry);
    for (request_id, init) in [("id", true), ("second", false)] {
        environment.respond(request_id, "1").unwrap();
        environment.next();
        let (_, text) = told(&subscriber);
        assert_eq!(text.contains(r#""initDurationMs":"#), init, "{text}");
        environment.submit("second");
        environment.delivered();
    }
}

#[test]
fn what_a_function_printed_before_its_time_was_up_comes_before_the_end_of_it() {
    use std::io::Write as _;
    let (mut environment, _, subscriber, runtime) = subscribed_runtime(Api::Telemetry);
    told(&subscriber);
    let mut output = std::fs::File::from(environment.lifecycle.sandbox.log.open_pipe().unwrap());
    output.write_all(b"working\n").unwrap();
    environment.pass(TIMEOUT);
    assert_eq!(told(&subscriber).0, ["function", "runtimeDone"]);
    output.write_all(b"last words").unwrap();
    environment.exited(&runtime, Exit::Status(0));
    environment.lifecycle.telemetry_flushed(environment.now);
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["function", "report"]);
    assert!(text.contains(r#""record":"last words""#), "{text}");
}

// ---- failures in init and restore -----------------------------------------------------------------------------------

#[test]
fn an_init_that_takes_too_long_is_a_timeout_of_unknown_cause() {
    let mut environment = Environment::new();
    environment.submit("id");
    let _runtime = environment.start_runtime();
    let id = environment.register_extension("internal", NOTHING);
    let subscriber = environment.subscribe(id, Api::Telemetry);
    told(&subscriber);
    environment.pass(INIT_TIMEOUT);
    let (types, text) = told(&subscriber);
    assert_eq!(types[..3], ["initRuntimeDone", "extension", "initReport"]);
    for expected in [
        r#""status":"timeout","errorType":"Runtime.Unknown"}}"#,
        r#""status":"timeout","errorType":"Runtime.Unknown","metrics":{"durationMs":10000}}"#,
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn what_an_extension_reported_is_the_cause_of_an_init_that_takes_too_long() {
    let mut environment = Environment::new();
    environment.submit("id");
    let _runtime = environment.start_runtime();
    let id = environment.register_extension("internal", NOTHING);
    let subscriber = environment.subscribe(id, Api::Telemetry);
    environment.lifecycle.sandbox.report_extension_error(id, ReportedError::Init, "Extension.Bad").unwrap();
    environment.pass(INIT_TIMEOUT);
    let (_, text) = told(&subscriber);
    let expected = r#""phase":"init","status":"timeout","errorType":"Extension.InitError""#;
    assert_eq!(text.matches(expected).count(), 2, "{text}");
}

#[test]
fn a_runtime_that_never_started_is_not_done() {
    let mut environment = with_external(&["good", "bad"]);
    environment.submit("id");
    let (_, _good) = environment.launch();
    environment.lifecycle.sandbox.take_extension_launch().unwrap();
    let id = environment.register_extension("good", BOTH);
    let subscriber = environment.subscribe(id, Api::Telemetry);
    told(&subscriber);
    environment.lifecycle.extension_start_failed("bad", "UnknownError", "no", environment.now);
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["extension", "extension", "initReport"]);
    assert!(text.contains(r#""name":"bad","state":"LaunchError","events":[],"errorType":"UnknownError""#));
    assert!(text.contains(r#""status":"error","errorType":"Extension.LaunchError","metrics""#), "{text}");
}

#[test]
fn a_restore_that_fails_is_told_with_its_status() {
    for (timeout, expected) in [
        (true, r#""status":"timeout","errorType":"Runtime.Unknown""#),
        (false, r#""status":"error","errorType":"Runtime.AfterRestoreError""#),
    ] {
        let config = EnvironmentConfig { snap_start: true, ..EnvironmentConfig::default() };
        let mut environment = Environment::with(config);
        let _runtime = environment.started();
        let id = environment.register_extension("internal", NOTHING);
        let subscriber = environment.subscribe(id, Api::Telemetry);
        assert!(matches!(environment.restore_next(), NextPoll::Pending));
        environment.waits(id);
        environment.submit("id");
        assert!(matches!(environment.restore_next(), NextPoll::Deliver(())));
        told(&subscriber);
        if timeout {
            environment.pass(Duration::from_secs(10));
        } else {
            environment.restore_error("{}").unwrap();
        }
        let (types, text) = told(&subscriber);
        assert_eq!(types, ["restoreRuntimeDone", "restoreReport"]);
        assert_eq!(text.matches(expected).count(), 2, "{text}");
    }
}

// ---- errors that extensions reported --------------------------------------------------------------------------------

#[test]
fn what_an_internal_extension_reported_is_the_error_when_the_runtime_ends() {
    let mut environment = Environment::new();
    environment.submit("id");
    // Init is run again within the invocation.
    for _attempt in 0..2 {
        let runtime = environment.start_runtime();
        let id = environment.register_extension("internal", NOTHING);
        environment
            .lifecycle
            .sandbox
            .report_extension_error(id, ReportedError::Init, "Extension.Bad")
            .unwrap();
        environment.exited(&runtime, Exit::Status(1));
        environment.lifecycle.telemetry_flushed(environment.now);
    }
    let result = environment.result();
    assert_eq!(
        result.answer.payload,
        r#"{"errorType":"Extension.InitError","errorMessage":"RequestId: id Error: Runtime exited with error: exit status 1"}"#
    );

    let (mut environment, id, subscriber, runtime) = subscribed_runtime(Api::Telemetry);
    environment.lifecycle.sandbox.report_extension_error(id, ReportedError::Exit, "Extension.Bad").unwrap();
    environment.exited(&runtime, Exit::Status(1));
    assert!(told(&subscriber).1.contains(r#""status":"error","errorType":"Extension.ExitError""#));
    environment.lifecycle.telemetry_flushed(environment.now);
    assert_eq!(environment.result().failure_type().unwrap(), "Extension.ExitError");
}

// ---- times and places -----------------------------------------------------------------------------------------------

#[test]
fn an_invocation_has_one_deadline_for_runtime_and_extensions() {
    let mut environment = with_external(&["ext"]);
    environment.submit("id");
    let (_, _extension) = environment.launch();
    let id = environment.register_extension("ext", BOTH);
    let _runtime = environment.start_runtime();
    environment.waits(id);
    let before = unix_ms(TIMEOUT);
    let delivery = environment.delivered();
    assert!((before..=unix_ms(TIMEOUT)).contains(&delivery.deadline_ms));
    assert_eq!(deadline_ms(&environment.gets(id)), delivery.deadline_ms);
}

#[test]
fn the_deadline_of_shutdown_is_the_moment_of_the_kill() {
    let (mut environment, id, runtime, _extension) = Environment::running_with_external(BOTH);
    environment.gets(id);
    environment.waits(id);
    environment.lifecycle.close(environment.now);
    environment.pass(Duration::from_millis(100));
    let before = unix_ms(Duration::ZERO);
    environment.exited(&runtime, Exit::Status(0));
    let left = environment.kill_time().unwrap().duration_since(environment.now);
    assert_eq!(left, Duration::from_millis(1900));
    let left = 1900;
    let told = deadline_ms(&environment.gets(id));
    assert!((before + left..=unix_ms(Duration::ZERO) + left).contains(&told), "{told}");
}

#[test]
fn an_internal_extension_beside_an_external_one_lengthens_the_runtimes_share_only() {
    let mut environment = with_external(&["ext"]);
    environment.submit("id");
    let (_, _extension) = environment.launch();
    let external = environment.register_extension("ext", BOTH);
    let runtime = environment.start_runtime();
    let internal = environment.register_extension("internal", NOTHING);
    environment.waits(external);
    environment.waits(internal);
    environment.delivered();
    let began = environment.now;
    environment.lifecycle.close(began);
    assert_eq!(environment.kill_time(), Some(began + Duration::from_millis(500)));
    environment.pass(Duration::from_millis(400));
    environment.exited(&runtime, Exit::Status(0));
    assert_eq!(environment.kill_time(), Some(began + Duration::from_secs(2)));
}

#[test]
fn the_lines_of_several_extensions_come_as_they_were_printed() {
    let (mut environment, _, subscriber, _runtime) = subscribed_runtime(Api::Telemetry);
    told(&subscriber);
    let mut output = std::fs::File::from(environment.lifecycle.sandbox.log.open_pipe().unwrap());
    for (name, line) in [("b", "1\n"), ("a", "2\n"), ("b", "3\n")] {
        if line == "3\n" {
            std::io::Write::write_all(&mut output, b"of the function\n").unwrap();
        }
        environment.lifecycle.sandbox.extension_line(name, line, environment.now);
    }
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["extension", "extension", "function", "extension"]);
    let records: Vec<_> = text.lines().map(|line| line.split_once(r#""record":"#).unwrap().1).collect();
    assert_eq!(records, [r#""1\n"}"#, r#""2\n"}"#, r#""of the function\n"}"#, r#""3\n"}"#]);
    environment.respond("id", "1").unwrap();
    environment.next();
    assert_eq!(environment.result().extension_log, "[b] 1\n[a] 2\n[b] 3\n");
}

#[test]
fn a_subscription_that_comes_back_after_a_reset_is_said_to_be_there_already() {
    let (mut environment, _, subscriber, runtime) = subscribed_runtime(Api::Telemetry);
    environment.exited(&runtime, Exit::Status(1));
    environment.lifecycle.telemetry_flushed(environment.now);
    environment.result();
    told(&subscriber);
    environment.submit("next");
    let _runtime = environment.start_runtime();
    let id = environment.register_extension("internal", NOTHING);
    let body = br#"{"schemaVersion":"2022-12-13","types":["extension","platform","function","platform"],"destination":{"protocol":"TCP","port":1}}"#;
    environment.lifecycle.sandbox.subscribe(id, Api::Telemetry, body, environment.now).unwrap();
    assert!(environment.lifecycle.sandbox.effects.subscribers.is_empty(), "nobody new is delivered to");
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["initStart", "telemetrySubscription"]);
    assert!(text.contains(
        r#""name":"internal","state":"Already subscribed","types":["platform","function","extension"]"#
    ));
    environment.waits(id);
    environment.delivered();
    environment.respond("next", "1").unwrap();
    environment.next();
    let log = String::from_utf8(environment.result().log.to_vec()).unwrap();
    let line =
        "TELEMETRY\tName: internal\tState: Already subscribed\tTypes: [Platform, Function, Extension]\n";
    assert!(log.contains(line), "{log}");
}

#[test]
fn nothing_is_sent_while_the_environment_is_frozen() {
    let mut environment = with_external(&["ext"]);
    environment.submit("id");
    let (_, _extension) = environment.launch();
    let id = environment.register_extension("ext", BOTH);
    let subscriber = environment.subscribe(id, Api::Telemetry);
    let _runtime = environment.start_runtime();
    environment.waits(id);
    environment.delivered();
    environment.gets(id);
    environment.respond("id", "1").unwrap();
    environment.next();
    environment.pass(Duration::from_secs(1));
    assert!(!subscriber.is_paused(), "the extension is at work");
    environment.waits(id);
    assert!(!subscriber.is_paused());
    environment.pass(Duration::from_secs(1));
    assert!(subscriber.is_paused());
    environment.submit("second");
    assert!(!subscriber.is_paused());
    environment.delivered();
    environment.gets(id);
    environment.respond("second", "1").unwrap();
    environment.next();
    environment.waits(id);
    environment.pass(Duration::from_secs(1));
    assert!(subscriber.is_paused());
    environment.lifecycle.close(environment.now);
    assert!(!subscriber.is_paused(), "the last batch is sent");
}

#[test]
fn what_a_function_printed_before_it_subscribed_comes_first() {
    use std::io::Write as _;
    let mut environment = Environment::new();
    environment.submit("id");
    let _runtime = environment.start_runtime();
    let id = environment.register_extension("internal", NOTHING);
    let mut output = std::fs::File::from(environment.lifecycle.sandbox.log.open_pipe().unwrap());
    output.write_all(b"loading\n").unwrap();
    let subscriber = environment.subscribe(id, Api::Telemetry);
    assert_eq!(told(&subscriber).0, ["initStart", "function", "telemetrySubscription"]);
}

#[test]
fn a_report_of_the_logs_api_has_metrics_only() {
    let (mut environment, id, subscriber, _runtime) = subscribed_runtime(Api::Logs);
    environment.respond("id", "1").unwrap();
    environment.next();
    environment.waits(id);
    let (_, text) = told(&subscriber);
    let report = text.lines().last().unwrap();
    assert!(report.contains(r#""type":"platform.report""#), "{report}");
    assert!(!report.contains("spans") && !report.contains("status"), "{report}");
}

#[test]
fn the_time_of_the_last_batch_is_not_taken_from_the_extensions() {
    let (mut environment, id, _, runtime, _extension) = Environment::subscribed_with_external();
    environment.waits(id);
    environment.lifecycle.close(environment.now);
    environment.pass(Duration::from_millis(250));
    environment.exited(&runtime, Exit::Status(0));
    environment.pass(Duration::from_secs(1));
    environment.waits(id);
    environment.lifecycle.telemetry_flushed(environment.now);
    assert_eq!(environment.kill_time(), Some(environment.now + Duration::from_millis(1500)));
    assert!(environment.gets(id).contains(r#""shutdownReason":"spindown""#));
}
