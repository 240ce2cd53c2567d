//! An environment with extensions: what its phases wait for, how it ends, what subscribers are told.

use std::os::unix::process::ExitStatusExt as _;

use uuid::Uuid;

use super::*;
use crate::extensions::{EventPoll, ReportedError};
use crate::process::RuntimeProcess;
use crate::telemetry::{Api, Subscriber};

pub(super) const BOTH: &str = r#"{"events":["INVOKE","SHUTDOWN"]}"#;
pub(super) const INVOKE: &str = r#"{"events":["INVOKE"]}"#;
pub(super) const NOTHING: &str = "{}";
/// The runtime's time between SIGTERM and SIGKILL, without and with an internal extension.
const SHARE: Duration = Duration::from_millis(300);
const SHARE_WITH_INTERNAL: Duration = Duration::from_millis(500);
const BUDGET: Duration = Duration::from_secs(2);

pub(super) fn with_external(names: &[&str]) -> Environment {
    let extensions = names.iter().map(|name| (*name).to_owned()).collect();
    Environment::with(EnvironmentConfig { extensions, ..EnvironmentConfig::default() })
}

impl Environment {
    pub(super) fn register_extension(&mut self, name: &str, body: &str) -> Uuid {
        self.lifecycle.sandbox.register_extension(name, body.as_bytes()).unwrap()
    }

    pub(super) fn event(&mut self, id: Uuid) -> EventPoll {
        self.lifecycle.poll_event(id, 100, Waker::noop(), self.now)
    }

    /// The extension asks for its next event, and there is none.
    pub(super) fn waits(&mut self, id: Uuid) {
        let polled = self.event(id);
        assert!(matches!(polled, EventPoll::Pending), "{polled:?}");
    }

    pub(super) fn gets(&mut self, id: Uuid) -> String {
        match self.event(id) {
            EventPoll::Deliver(event) => String::from_utf8(event.body.to_vec()).unwrap(),
            other => panic!("no event: {other:?}"),
        }
    }

    /// Launch the next external extension.
    pub(super) fn launch(&mut self) -> (String, Process) {
        let name = self.lifecycle.sandbox.take_extension_launch().expect("an extension is wanted");
        let process = Process::new();
        let running = RuntimeProcess::new(process.pid(), true);
        self.lifecycle.sandbox.extension_started(&name, running).unwrap();
        (name, process)
    }

    pub(super) fn extension_exits(&mut self, process: &Process, exit: Exit) {
        self.lifecycle.sandbox.extension_ended(process.pid());
        self.lifecycle.extension_exited(process.pid(), exit, self.now);
    }

    /// An environment whose only extension is external, initialised, with invocation `id` running in both.
    pub(super) fn running_with_external(body: &str) -> (Self, Uuid, Process, Process) {
        let mut environment = with_external(&["ext"]);
        environment.submit("id");
        let (_, extension) = environment.launch();
        let id = environment.register_extension("ext", body);
        let runtime = environment.start_runtime();
        environment.waits(id);
        environment.delivered();
        (environment, id, runtime, extension)
    }

    /// When SIGKILL comes to what is on its way out.
    pub(super) fn kill_time(&self) -> Option<Instant> {
        let extensions =
            self.lifecycle.sandbox.extension_shutdown.as_ref().and_then(|shutdown| shutdown.deadline);
        self.lifecycle.sandbox.ending.as_ref().map(|ending| ending.deadline).or(extensions)
    }

    pub(super) fn start_runtime(&mut self) -> Process {
        assert!(self.lifecycle.sandbox.take_start(), "the runtime is wanted");
        self.started()
    }

    pub(super) fn subscribe(&mut self, id: Uuid, api: Api) -> Arc<Subscriber> {
        let body = subscription(api);
        self.lifecycle.sandbox.subscribe(id, api, body.as_bytes(), self.now).unwrap();
        self.lifecycle.sandbox.effects.subscribers.pop().expect("a new subscriber")
    }

    /// The same subscription after a reset.
    fn subscribe_again(&mut self, id: Uuid, api: Api) {
        let body = subscription(api);
        self.lifecycle.sandbox.subscribe(id, api, body.as_bytes(), self.now).unwrap();
        assert!(self.lifecycle.sandbox.effects.subscribers.is_empty(), "it goes on");
    }
}

fn subscription(api: Api) -> String {
    let schema = if api == Api::Logs { "2020-08-15" } else { "2022-12-13" };
    format!(
        r#"{{"schemaVersion":"{schema}","types":["platform","function","extension"],"destination":{{"protocol":"TCP","port":1}}}}"#
    )
}

fn killed_by(process: &mut Process) -> Option<i32> {
    process.0.wait().unwrap().signal()
}

/// The types of what waits for a subscriber, and everything that waits.
pub(super) fn told(subscriber: &Subscriber) -> (Vec<String>, String) {
    let lines: String = subscriber.take_all().iter().map(crate::telemetry::Batch::lines).collect();
    let kind = |line: &str| {
        let (_, rest) = line.split_once(r#""type":""#).unwrap();
        rest.split('"').next().unwrap().trim_start_matches("platform.").to_owned()
    };
    (lines.lines().map(kind).collect(), lines)
}

// ---- init -----------------------------------------------------------------------------------------------------------

#[test]
fn the_runtime_starts_when_all_external_extensions_have_registered() {
    let mut environment = with_external(&["a", "b"]);
    environment.submit("id");
    assert!(!environment.lifecycle.sandbox.take_start());
    let (first, _a) = environment.launch();
    let (second, _b) = environment.launch();
    assert_eq!((first.as_str(), second.as_str()), ("a", "b"), "all are launched before any has registered");
    assert!(environment.lifecycle.sandbox.take_extension_launch().is_none());
    environment.register_extension("b", NOTHING);
    assert!(!environment.lifecycle.sandbox.take_start());
    environment.lifecycle.sandbox.effects.process_changed = false;
    environment.register_extension("a", NOTHING);
    assert!(
        environment.lifecycle.sandbox.effects.process_changed && environment.lifecycle.sandbox.take_start()
    );
}

#[test]
fn init_lasts_until_the_runtime_and_every_extension_have_polled() {
    let mut environment = with_external(&["ext"]);
    environment.submit("id");
    let (_, _extension) = environment.launch();
    environment.pass(Duration::from_millis(20));
    let external = environment.register_extension("ext", NOTHING);
    let _runtime = environment.start_runtime();
    let internal = environment.register_extension("internal", INVOKE);
    environment.pass(Duration::from_millis(50));
    assert!(matches!(environment.next(), NextPoll::Pending), "the extensions are not ready");
    environment.pass(Duration::from_millis(30));
    environment.waits(external);
    assert!(matches!(environment.next(), NextPoll::Pending));
    environment.lifecycle.sandbox.effects.pollers.clear();
    environment.waits(internal);
    assert_eq!(environment.lifecycle.sandbox.effects.pollers.len(), 1, "the runtime is woken");
    environment.delivered();
    assert!(environment.gets(internal).contains(r#""requestId":"id""#));
    environment.respond("id", "1").unwrap();
    environment.waits(internal);
    environment.next();
    let result = environment.result();
    assert_eq!(result.init_duration, Some(Duration::from_millis(100)));
    let expected = "EXTENSION\tName: ext\tState: Ready\tEvents: []\n\
                    EXTENSION\tName: internal\tState: Ready\tEvents: [INVOKE]\nSTART RequestId: id";
    assert!(log(&result).starts_with(expected), "{}", log(&result));
}

#[test]
fn an_extension_that_never_polls_holds_init_up_to_its_limit() {
    let mut environment = Environment::new();
    environment.submit("id");
    let mut runtime = environment.start_runtime();
    environment.register_extension("internal", NOTHING);
    assert!(matches!(environment.next(), NextPoll::Pending));
    environment.pass(INIT_TIMEOUT);
    assert_eq!(killed_by(&mut runtime), Some(libc::SIGTERM));
    environment.exited(&runtime, Exit::Signal { signal: libc::SIGTERM, core_dumped: false });
    assert!(environment.lifecycle.sandbox.take_start(), "init is run again for the invocation");
}

#[test]
fn an_extension_that_cannot_be_launched_fails_init() {
    let mut environment = with_external(&["good", "bad"]);
    environment.submit("id");
    let (_, mut good) = environment.launch();
    environment.lifecycle.sandbox.take_extension_launch().unwrap();
    environment.pass(Duration::from_millis(3));
    let message = "fork/exec /opt/extensions/bad: permission denied";
    environment.lifecycle.extension_start_failed("bad", "PermissionDenied", message, environment.now);
    assert_eq!(killed_by(&mut good), Some(libc::SIGKILL), "it is subscribed to nothing");
    environment.extension_exits(&good, Exit::Signal { signal: 9, core_dumped: false });
    assert!(environment.finished().is_none(), "all of it is tried again");
    for name in ["good", "bad"] {
        assert_eq!(environment.lifecycle.sandbox.take_extension_launch().as_deref(), Some(name));
    }
    environment.lifecycle.extension_start_failed("bad", "PermissionDenied", message, environment.now);
    let result = environment.result();
    let expected =
        format!(r#"{{"errorType":"Extension.LaunchError","errorMessage":"RequestId: id Error: {message}"}}"#);
    assert_eq!(text(&result), expected);
    assert!(
        log(&result)
            .contains("EXTENSION\tName: bad\tState: LaunchError\tEvents: []\tError Type: PermissionDenied\n")
    );
    for phase in ["init", "invoke"] {
        let line = format!("\tPhase: {phase}\tStatus: error\tError Type: Extension.LaunchError\n");
        assert!(log(&result).contains(&line), "{}", log(&result));
    }
    environment.submit("next");
    assert_eq!(
        environment.lifecycle.sandbox.take_extension_launch().as_deref(),
        Some("good"),
        "all of it again"
    );
}

#[test]
fn a_start_reported_after_the_failure_is_not_wanted_any_more() {
    let mut environment = with_external(&["bad", "slow"]);
    environment.submit("id");
    environment.lifecycle.sandbox.take_extension_launch().unwrap();
    environment.lifecycle.sandbox.take_extension_launch().unwrap();
    environment.lifecycle.extension_start_failed("bad", "UnknownError", "no", environment.now);
    let process = Process::new();
    let late =
        environment.lifecycle.sandbox.extension_started("slow", RuntimeProcess::new(process.pid(), true));
    assert!(matches!(late, Err(EndpointError::Closed)));
    assert_eq!(environment.lifecycle.sandbox.take_extension_launch().as_deref(), Some("bad"), "and again");
}

#[test]
fn a_start_reported_while_the_others_end_is_not_wanted_either() {
    let mut environment = with_external(&["healthy", "bad", "slow"]);
    environment.submit("id");
    let (_, healthy) = environment.launch();
    environment.register_extension("healthy", BOTH);
    environment.lifecycle.sandbox.take_extension_launch().unwrap();
    environment.lifecycle.sandbox.take_extension_launch().unwrap();
    environment.lifecycle.extension_start_failed("bad", "UnknownError", "no", environment.now);
    assert!(environment.lifecycle.sandbox.has_process(), "the healthy one is told of the end");
    let process = Process::new();
    let late =
        environment.lifecycle.sandbox.extension_started("slow", RuntimeProcess::new(process.pid(), true));
    assert!(matches!(late, Err(EndpointError::Closed)));
    environment.extension_exits(&healthy, Exit::Status(0));
    assert_eq!(
        environment.lifecycle.sandbox.take_extension_launch().as_deref(),
        Some("healthy"),
        "all of it again"
    );
}

#[test]
fn what_an_extension_reports_about_its_init_is_the_environments_error_when_it_ends() {
    let mut environment = with_external(&["ext"]);
    environment.submit("id");
    for _attempt in 0..2 {
        assert!(environment.finished().is_none());
        let (_, extension) = environment.launch();
        let id = environment.register_extension("ext", BOTH);
        let mut runtime = environment.start_runtime();
        let reason = "Extension.ConfigInvalid";
        environment.lifecycle.sandbox.report_extension_error(id, ReportedError::Init, reason).unwrap();
        assert!(environment.finished().is_none() && environment.lifecycle.sandbox.has_process());
        environment.extension_exits(&extension, Exit::Status(0));
        assert_eq!(killed_by(&mut runtime), Some(libc::SIGTERM));
        environment.exited(&runtime, Exit::Status(0));
    }
    let result = environment.result();
    assert_eq!(
        text(&result),
        r#"{"errorType":"Extension.InitError","errorMessage":"RequestId: id Error: exit code 0"}"#
    );
    assert!(
        log(&result)
            .contains("State: InitError\tEvents: [INVOKE, SHUTDOWN]\tError Type: Extension.ConfigInvalid")
    );
}

#[test]
fn a_runtime_that_fails_its_init_takes_the_extensions_along() {
    let mut environment = with_external(&["ext"]);
    environment.submit("id");
    let (_, extension) = environment.launch();
    let id = environment.register_extension("ext", BOTH);
    let runtime = environment.start_runtime();
    environment.waits(id);
    environment.exited(&runtime, Exit::Status(1));
    assert!(environment.gets(id).contains(r#""shutdownReason":"failure""#));
    assert!(environment.lifecycle.sandbox.take_extension_launch().is_none(), "the old one is not gone yet");
    environment.extension_exits(&extension, Exit::Status(0));
    assert_eq!(environment.lifecycle.sandbox.take_extension_launch().as_deref(), Some("ext"));
    assert!(!environment.lifecycle.sandbox.is_registered(id), "identifiers are void");
}

// ---- invocations ----------------------------------------------------------------------------------------------------

#[test]
fn an_invocation_is_over_when_runtime_and_extensions_are_done_and_the_caller_is_answered_before() {
    let (mut environment, id, _runtime, _extension) = Environment::running_with_external(BOTH);
    let event = environment.gets(id);
    assert!(event.contains(r#""eventType":"INVOKE""#), "{event}");
    assert!(
        event.contains(
            r#""invokedFunctionArn":"arn:aws:lambda:us-east-1:012345678912:function:test_function""#
        )
    );
    environment.pass(Duration::from_millis(10));
    environment.respond("id", "42").unwrap();
    environment.submit("second");
    environment.pass(Duration::from_millis(5));
    assert!(matches!(environment.next(), NextPoll::Pending), "nothing else before the extension is done");
    assert!(environment.finished().is_none());
    environment.pass(Duration::from_millis(20));
    environment.waits(id);
    let result = environment.result();
    assert_eq!((text(&result), result.duration), ("42", Duration::from_millis(35)));
    assert_eq!(result.phases.after_response, Some(Duration::from_millis(5)));
    assert_eq!(result.phases.extensions, Some(Duration::from_millis(20)));
    assert_eq!(environment.delivered().request_id, "second");
    assert!(environment.gets(id).contains(r#""requestId":"second""#));
}

#[test]
fn an_extension_that_is_done_before_the_runtime_is_not_waited_for() {
    let (mut environment, id, _runtime, _extension) = Environment::running_with_external(BOTH);
    environment.gets(id);
    environment.waits(id);
    environment.respond("id", "42").unwrap();
    environment.next();
    assert_eq!(environment.result().status, InvocationStatus::Success);
}

#[test]
fn an_extension_that_is_not_subscribed_to_invoke_delays_nothing() {
    let mut environment = Environment::new();
    environment.submit("id");
    let _runtime = environment.start_runtime();
    let id = environment.register_extension("internal", NOTHING);
    environment.waits(id);
    environment.delivered();
    environment.waits(id);
    environment.respond("id", "42").unwrap();
    environment.next();
    let result = environment.result();
    assert_eq!((result.status, result.phases.extensions), (InvocationStatus::Success, None));
}

#[test]
fn the_functions_time_limit_is_the_extensions_too_and_the_caller_keeps_a_good_answer() {
    let (mut environment, id, mut runtime, extension) = Environment::running_with_external(BOTH);
    environment.gets(id);
    environment.respond("id", "42").unwrap();
    assert!(matches!(environment.next(), NextPoll::Pending));
    environment.pass(TIMEOUT);
    assert_eq!(killed_by(&mut runtime), Some(libc::SIGTERM));
    environment.exited(&runtime, Exit::Status(0));
    assert!(environment.gets(id).contains(r#""shutdownReason":"timeout""#));
    environment.extension_exits(&extension, Exit::Status(0));
    let result = environment.result();
    assert_eq!((text(&result), result.status), ("42", InvocationStatus::Timeout));
}

#[test]
fn an_extension_that_dies_fails_the_invocation_and_ends_the_runtime() {
    for (exit, reason) in [
        (Exit::Status(0), "exit code 0"),
        (Exit::Status(3), "exit status 3"),
        (Exit::Signal { signal: 11, core_dumped: false }, "signal: segmentation fault"),
    ] {
        let (mut environment, _, mut runtime, extension) = Environment::running_with_external(BOTH);
        environment.extension_exits(&extension, exit);
        assert_eq!(killed_by(&mut runtime), Some(libc::SIGTERM));
        assert!(environment.finished().is_none(), "the report comes when everything is gone");
        environment.exited(&runtime, Exit::Status(0));
        let result = environment.result();
        assert_eq!(
            text(&result),
            format!(r#"{{"errorType":"Extension.Crash","errorMessage":"RequestId: id Error: {reason}"}}"#)
        );
        assert!(log(&result).ends_with("\tStatus: error\tError Type: Extension.Crash\n"));
    }
}

#[test]
fn an_extension_that_dies_between_invocations_leads_to_a_new_environment() {
    let (mut environment, id, runtime, extension) = Environment::running_with_external(BOTH);
    environment.gets(id);
    environment.waits(id);
    environment.respond("id", "42").unwrap();
    environment.next();
    environment.result();
    environment.lifecycle.sandbox.report_extension_error(id, ReportedError::Exit, "Extension.Tired").unwrap();
    environment.extension_exits(&extension, Exit::Status(1));
    environment.exited(&runtime, Exit::Status(0));
    environment.submit("next");
    assert_eq!(environment.lifecycle.sandbox.take_extension_launch().as_deref(), Some("ext"));
    assert!(!environment.lifecycle.sandbox.is_registered(id), "identifiers are void after a reset");
}

#[test]
fn a_runtime_that_nobody_can_end_goes_on_without_its_extensions() {
    let mut environment = Environment::new();
    let id = environment.register_extension("internal", INVOKE);
    environment.waits(id);
    environment.submit("id");
    environment.delivered();
    environment.gets(id);
    environment.respond("id", "1").unwrap();
    environment.next();
    environment.pass(TIMEOUT);
    assert_eq!(environment.result().status, InvocationStatus::Timeout);
    environment.submit("next");
    environment.delivered();
    environment.respond("next", "2").unwrap();
    environment.next();
    assert_eq!(environment.result().status, InvocationStatus::Success);
}

#[test]
fn an_event_that_nobody_reads_is_said_in_the_log() {
    let (mut environment, id, _runtime, _extension) = Environment::running_with_external(BOTH);
    environment.gets(id);
    environment.waits(id);
    environment.respond("id", "42").unwrap();
    environment.next();
    environment.result();
    environment.lifecycle.sandbox.abandon_event_poll(id, 100);
    environment.submit("second");
    environment.delivered();
    environment.respond("second", "42").unwrap();
    environment.waits(id);
    environment.next();
    let result = environment.result();
    assert!(
        log(&result).contains("The extension ext closed its connection while it waited"),
        "{}",
        log(&result)
    );
}

// ---- the end --------------------------------------------------------------------------------------------------------

#[test]
fn without_extensions_nobody_is_warned() {
    let mut environment = Environment::new();
    let mut runtime = environment.started();
    environment.next();
    environment.lifecycle.close(environment.now);
    assert_eq!(killed_by(&mut runtime), Some(libc::SIGKILL));
}

#[test]
fn an_internal_extension_gives_the_runtime_half_a_second() {
    let mut environment = Environment::new();
    let mut runtime = environment.started();
    let id = environment.register_extension("internal", NOTHING);
    environment.waits(id);
    environment.next();
    environment.lifecycle.close(environment.now);
    assert_eq!(environment.kill_time(), Some(environment.now + SHARE_WITH_INTERNAL));
    assert_eq!(killed_by(&mut runtime), Some(libc::SIGTERM));
    environment.exited(&runtime, Exit::Status(0));
    assert!(!environment.lifecycle.sandbox.has_process());
}

#[test]
fn a_runtime_that_does_not_end_in_its_share_is_killed() {
    let mut environment = Environment::new();
    let stubborn = "trap '' TERM; echo; sleep 60";
    let mut runtime = spawn_and_wait_for_line(Command::new("sh").args(["-c", stubborn]));
    environment.lifecycle.process_started(RuntimeProcess::new(runtime.pid(), true), environment.now).unwrap();
    let id = environment.register_extension("internal", NOTHING);
    environment.waits(id);
    environment.next();
    environment.lifecycle.close(environment.now);
    environment.pass(SHARE_WITH_INTERNAL);
    assert_eq!(killed_by(&mut runtime), Some(libc::SIGKILL));
}

/// A child in a group of its own that has said that it is ready.
fn spawn_and_wait_for_line(command: &mut Command) -> Process {
    let mut child = command.process_group(0).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    Process(child)
}

#[test]
fn extensions_are_told_when_the_runtime_is_gone_and_killed_when_their_time_is_up() {
    let (mut environment, id, mut runtime, mut extension) = Environment::running_with_external(BOTH);
    environment.gets(id);
    environment.waits(id);
    environment.respond("id", "42").unwrap();
    environment.next();
    environment.result();
    let began = environment.now;
    environment.lifecycle.close(environment.now);
    assert_eq!(environment.kill_time(), Some(began + SHARE));
    environment.waits(id);
    assert_eq!(killed_by(&mut runtime), Some(libc::SIGTERM));
    environment.pass(Duration::from_millis(100));
    environment.exited(&runtime, Exit::Status(0));
    let event = environment.gets(id);
    assert!(event.contains(r#""shutdownReason":"spindown""#), "{event}");
    assert!(environment.lifecycle.sandbox.has_process(), "closing waits for the extension");
    environment.waits(id);
    assert_eq!(environment.kill_time(), Some(began + BUDGET), "polling again does not end it");
    environment.pass(BUDGET);
    assert_eq!(killed_by(&mut extension), Some(libc::SIGKILL));
    environment.extension_exits(&extension, Exit::Signal { signal: 9, core_dumped: false });
    assert!(!environment.lifecycle.sandbox.has_process());
}

#[test]
fn an_extension_that_is_not_subscribed_to_shutdown_is_killed_at_once() {
    let (mut environment, id, runtime, mut extension) = Environment::running_with_external(INVOKE);
    environment.gets(id);
    environment.lifecycle.close(environment.now);
    environment.exited(&runtime, Exit::Status(0));
    assert_eq!(killed_by(&mut extension), Some(libc::SIGKILL));
    environment.extension_exits(&extension, Exit::Signal { signal: 9, core_dumped: false });
    assert_eq!(environment.result().failure_type().unwrap(), "Sandbox.Failure");
}

#[test]
fn closing_does_not_begin_a_shutdown_again_that_is_under_way() {
    let (mut environment, id, runtime, extension) = Environment::running_with_external(BOTH);
    environment.gets(id);
    environment.waits(id);
    environment.exited(&runtime, Exit::Status(1));
    assert!(environment.gets(id).contains(r#""shutdownReason":"failure""#));
    let kill_time = environment.kill_time();
    environment.pass(Duration::from_millis(500));
    environment.lifecycle.close(environment.now);
    assert_eq!(environment.kill_time(), kill_time);
    environment.waits(id);
    environment.extension_exits(&extension, Exit::Status(0));
    assert!(!environment.lifecycle.sandbox.has_process());
    assert_eq!(environment.result().failure_type().unwrap(), "Runtime.ExitError");
}

#[test]
fn an_extension_that_cannot_be_killed_holds_nobody_up() {
    let (mut environment, _, runtime, _extension) = Environment::running_with_external(BOTH);
    environment.exited(&runtime, Exit::Status(1));
    environment.pass(BUDGET + REAP_LIMIT);
    assert_eq!(environment.result().failure_type().unwrap(), "Runtime.ExitError");
}

#[test]
fn the_last_telemetry_is_sent_between_the_runtimes_end_and_shutdown() {
    let mut environment = with_external(&["ext"]);
    environment.submit("id");
    let (_, extension) = environment.launch();
    let id = environment.register_extension("ext", BOTH);
    let subscriber = environment.subscribe(id, Api::Telemetry);
    let runtime = environment.start_runtime();
    environment.waits(id);
    environment.delivered();
    environment.gets(id);
    environment.waits(id);
    environment.exited(&runtime, Exit::Status(1));
    assert!(std::mem::take(&mut environment.lifecycle.sandbox.effects.flush).len() == 1);
    environment.waits(id);
    let (types, text) = told(&subscriber);
    assert_eq!(types.last().unwrap(), "runtimeDone");
    assert!(text.contains(r#""requestId":"id","status":"error","errorType":"Runtime.ExitError""#), "{text}");
    environment.lifecycle.telemetry_flushed(environment.now);
    assert!(environment.gets(id).contains(r#""shutdownReason":"failure""#));
    environment.extension_exits(&extension, Exit::Status(0));
    environment.result();
    assert_eq!(told(&subscriber).0, ["report"], "it waits for the extension that comes back");
}

// ---- telemetry ------------------------------------------------------------------------------------------------------

#[test]
fn events_come_in_the_platforms_order_with_spans_and_metrics() {
    let mut environment = with_external(&["ext"]);
    environment.submit("id");
    let (_, _extension) = environment.launch();
    let id = environment.register_extension("ext", BOTH);
    let subscriber = environment.subscribe(id, Api::Telemetry);
    let _runtime = environment.start_runtime();
    environment.pass(Duration::from_millis(100));
    environment.waits(id);
    environment.delivered();
    environment.gets(id);
    environment.lifecycle.sandbox.extension_line("ext", "from the extension\n", environment.now);
    environment.pass(Duration::from_millis(20));
    let attempt = environment.begin("id", RuntimeState::InvocationResponse).unwrap();
    environment.pass(Duration::from_millis(2));
    let posted = Posted::Response { payload: "four".into(), content_type: None };
    environment.lifecycle.finish_answer(attempt, posted, environment.now).unwrap();
    environment.pass(Duration::from_millis(3));
    environment.next();
    environment.pass(Duration::from_millis(10));
    environment.waits(id);
    let (types, text) = told(&subscriber);
    assert_eq!(
        types,
        [
            "initStart",
            "telemetrySubscription",
            "initRuntimeDone",
            "extension",
            "initReport",
            "start",
            "extension",
            "runtimeDone",
            "report"
        ]
    );
    for expected in [
        r#""type":"platform.initReport","record":{"initializationType":"on-demand","phase":"init","status":"success","metrics":{"durationMs":100}}"#,
        r#""record":{"name":"ext","state":"Ready","events":["INVOKE","SHUTDOWN"]}"#,
        r#""type":"extension","record":"from the extension\n""#,
        r#""requestId":"id","status":"success","metrics":{"durationMs":25,"producedBytes":4},"spans":[{"name":"responseLatency","#,
        r#""durationMs":20},{"name":"responseDuration","#,
        r#""durationMs":2},{"name":"runtimeOverhead","#,
        r#""metrics":{"durationMs":35,"billedDurationMs":135,"memorySizeMB":128,"maxMemoryUsedMB":"#,
        r#""initDurationMs":100},"spans":[{"name":"extensionOverhead","#,
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let result = environment.result();
    assert!(log(&result).starts_with(
        "TELEMETRY\tName: ext\tState: Subscribed\tTypes: [Platform, Function, Extension]\nEXTENSION\tName: ext\t"
    ));
    assert_eq!(result.extension_log, "[ext] from the extension\n");
}

#[test]
fn a_logs_subscriber_is_told_of_end_and_fault() {
    let (mut environment, id, subscriber, runtime) = subscribed_runtime(Api::Logs);
    environment.respond("id", "1").unwrap();
    environment.next();
    environment.waits(id);
    assert_eq!(told(&subscriber).0, ["logsSubscription", "extension", "start", "end", "report"]);
    environment.submit("second");
    environment.delivered();
    environment.exited(&runtime, Exit::Status(1));
    environment.lifecycle.telemetry_flushed(environment.now);
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["start", "fault", "end", "report"]);
    let fault = r#""record":"RequestId: second Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n""#;
    assert!(text.contains(fault), "{text}");
}

/// Invocation `id` in a runtime whose internal extension is subscribed.
pub(super) fn subscribed_runtime(api: Api) -> (Environment, Uuid, Arc<Subscriber>, Process) {
    let mut environment = Environment::new();
    environment.submit("id");
    let runtime = environment.start_runtime();
    let id = environment.register_extension("internal", NOTHING);
    let subscriber = environment.subscribe(id, api);
    environment.waits(id);
    environment.delivered();
    (environment, id, subscriber, runtime)
}

#[test]
fn a_handled_error_is_a_success_that_produced_nothing() {
    let (mut environment, _, subscriber, _runtime) = subscribed_runtime(Api::Telemetry);
    let attempt = environment.begin("id", RuntimeState::InvocationErrorResponse).unwrap();
    let posted =
        Posted::Error { payload: "{}".into(), content_type: None, error_type: "Function.Bad".to_owned() };
    environment.lifecycle.finish_answer(attempt, posted, environment.now).unwrap();
    environment.next();
    let (_, text) = told(&subscriber);
    assert!(text.contains(r#""status":"success","metrics":{"durationMs":0,"producedBytes":0}"#), "{text}");
}

#[test]
fn a_timeout_is_told_before_the_shutdown_and_once() {
    let (mut environment, _, subscriber, runtime) = subscribed_runtime(Api::Telemetry);
    told(&subscriber);
    environment.pass(TIMEOUT);
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["runtimeDone"]);
    assert!(
        text.contains(r#""status":"timeout","metrics":{"durationMs":3000,"producedBytes":0}}"#),
        "{text}"
    );
    environment.exited(&runtime, Exit::Status(0));
    environment.lifecycle.telemetry_flushed(environment.now);
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["report"]);
    assert!(text.contains(r#""status":"timeout","metrics":{"durationMs":3000,"#), "{text}");
}

#[test]
fn a_failed_init_is_told_and_the_one_within_the_invocation_before_its_start() {
    let mut environment = Environment::new();
    environment.submit("id");
    let runtime = environment.start_runtime();
    let id = environment.register_extension("internal", NOTHING);
    let subscriber = environment.subscribe(id, Api::Telemetry);
    environment.exited(&runtime, Exit::Status(1));
    environment.lifecycle.telemetry_flushed(environment.now);
    let (types, text) = told(&subscriber);
    let init = ["initStart", "telemetrySubscription", "initRuntimeDone", "extension", "initReport"];
    assert_eq!(types[..5], init);
    assert!(text.contains(r#""phase":"init","status":"error","errorType":"Runtime.ExitError""#), "{text}");
    assert!(text.contains(r#""name":"internal","state":"Registered","events":[]"#), "{text}");
    assert_eq!(types[5..], ["initStart"], "the second one has begun");

    let runtime = environment.start_runtime();
    let id = environment.register_extension("internal", NOTHING);
    environment.subscribe_again(id, Api::Telemetry);
    environment.exited(&runtime, Exit::Status(1));
    environment.lifecycle.telemetry_flushed(environment.now);
    let (types, again) = told(&subscriber);
    let invocation = ["start", "runtimeDone", "report"];
    assert_eq!(types[..4], init[1..]);
    assert_eq!(types[4..], invocation);
    assert!(again.contains(r#""state":"Already subscribed""#), "{again}");
    let phase = r#""initializationType":"on-demand","phase":"invoke""#;
    assert_eq!(text.matches(phase).count() + again.matches(phase).count(), 3, "{text}{again}");
    let done = r#"{"requestId":"id","status":"error","errorType":"Runtime.ExitError"}"#;
    assert!(again.contains(done), "no metrics of what never ran: {again}");
}

#[test]
fn an_init_within_an_invocation_is_told_before_its_start_and_has_no_metric_of_its_own() {
    let (mut environment, _, subscriber, runtime) = subscribed_runtime(Api::Telemetry);
    environment.exited(&runtime, Exit::Status(1));
    environment.lifecycle.telemetry_flushed(environment.now);
    told(&subscriber);
    environment.submit("second");
    let _runtime = environment.start_runtime();
    let id = environment.register_extension("internal", NOTHING);
    environment.subscribe_again(id, Api::Telemetry);
    environment.waits(id);
    environment.pass(Duration::from_millis(70));
    environment.delivered();
    environment.pass(Duration::from_millis(20));
    environment.respond("second", "1").unwrap();
    environment.next();
    let (types, text) = told(&subscriber);
    assert_eq!(
        types,
        [
            "initStart",
            "telemetrySubscription",
            "initRuntimeDone",
            "extension",
            "initReport",
            "start",
            "runtimeDone",
            "report"
        ]
    );
    assert!(text.contains(r#""phase":"invoke","status":"success","metrics":{"durationMs":70}"#), "{text}");
    assert!(text.contains(r#""status":"success","metrics":{"durationMs":20,"producedBytes":1}"#), "{text}");
    assert!(text.contains(r#""metrics":{"durationMs":90,"billedDurationMs":90,"#), "{text}");
    assert!(!text.contains("initDurationMs"), "{text}");
}

#[test]
fn an_extension_gets_the_invocation_after_the_init_within_it() {
    let (mut environment, id, runtime, extension) = Environment::running_with_external(BOTH);
    environment.exited(&runtime, Exit::Status(1));
    environment.gets(id);
    environment.extension_exits(&extension, Exit::Status(0));
    environment.result();
    environment.submit("second");
    let (_, _extension) = environment.launch();
    let id = environment.register_extension("ext", BOTH);
    let _runtime = environment.start_runtime();
    assert!(matches!(environment.next(), NextPoll::Pending), "the extension is not ready");
    environment.lifecycle.sandbox.effects.pollers.clear();
    environment.waits(id);
    assert_eq!(environment.lifecycle.sandbox.effects.pollers.len(), 1, "the runtime is woken");
    environment.waits(id);
    assert!(environment.finished().is_none(), "an extension that looks again ends nothing");
    environment.delivered();
    assert!(environment.gets(id).contains(r#""requestId":"second""#));
    environment.respond("second", "2").unwrap();
    environment.next();
    assert!(environment.finished().is_none());
    environment.waits(id);
    assert_eq!(text(&environment.result()), "2");
}

#[test]
fn an_extension_that_dies_in_the_init_phase_is_started_again_for_the_invocation() {
    let mut environment = with_external(&["ext"]);
    environment.submit("id");
    let (_, extension) = environment.launch();
    environment.extension_exits(&extension, Exit::Status(3));
    assert!(environment.finished().is_none());
    let (_, _extension) = environment.launch();
    let id = environment.register_extension("ext", BOTH);
    let _runtime = environment.start_runtime();
    environment.waits(id);
    environment.delivered();
    environment.respond("id", "1").unwrap();
    environment.next();
    environment.gets(id);
    environment.waits(id);
    let result = environment.result();
    assert_eq!((text(&result), result.init_duration), ("1", None));
    assert!(log(&result).contains("\tPhase: init\tStatus: error\tError Type: Extension.Crash\n"));
    assert!(!log(&result).contains("Phase: invoke"), "{}", log(&result));
}

#[test]
fn the_functions_output_is_told_line_by_line_in_its_place() {
    use std::io::Write as _;
    let (mut environment, _, subscriber, _runtime) = subscribed_runtime(Api::Telemetry);
    told(&subscriber);
    let mut output = std::fs::File::from(environment.lifecycle.sandbox.log.open_pipe().unwrap());
    output.write_all(b"one\ntwo\nthr").unwrap();
    environment.respond("id", "1").unwrap();
    environment.next();
    let (types, text) = told(&subscriber);
    assert_eq!(types, ["function", "function", "runtimeDone", "report"]);
    assert!(text.contains(r#""record":"one\n""#) && text.contains(r#""record":"two\n""#), "{text}");
    output.write_all(b"ee\n").unwrap();
    environment.lifecycle.sandbox.drain_log(environment.now);
    assert!(told(&subscriber).1.contains(r#""record":"three\n""#));
}

#[test]
fn subscriptions_close_with_init() {
    let (mut environment, id, _subscriber, _runtime) = subscribed_runtime(Api::Telemetry);
    let refused =
        environment.lifecycle.sandbox.subscribe(id, Api::Telemetry, b"{}", environment.now).unwrap_err();
    assert_eq!(refused.error_type(), "Telemetry.SubscriptionClosed");
}

#[test]
fn a_restore_is_told_with_its_duration() {
    let config = EnvironmentConfig { snap_start: true, ..EnvironmentConfig::default() };
    let mut environment = Environment::with(config);
    let _runtime = environment.started();
    let id = environment.register_extension("internal", NOTHING);
    let subscriber = environment.subscribe(id, Api::Telemetry);
    assert!(matches!(environment.restore_next(), NextPoll::Pending));
    environment.waits(id);
    environment.submit("id");
    assert!(matches!(environment.restore_next(), NextPoll::Deliver(())));
    environment.pass(Duration::from_millis(30));
    environment.delivered();
    environment.respond("id", "1").unwrap();
    environment.next();
    let (types, text) = told(&subscriber);
    let at = types.iter().position(|kind| kind == "restoreStart").unwrap();
    assert_eq!(
        types[at..],
        ["restoreStart", "restoreRuntimeDone", "restoreReport", "start", "runtimeDone", "report"]
    );
    assert!(text.contains(r#""initializationType":"snap-start""#), "{text}");
    assert!(text.contains(r#""restoreDurationMs":30"#), "{text}");
}

#[test]
fn nothing_is_told_where_nobody_subscribed() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    assert!(!environment.lifecycle.sandbox.telemetry.is_wanted());
    environment.respond("id", "1").unwrap();
    environment.next();
    assert!(!log(&environment.result()).contains("EXTENSION"));
}
