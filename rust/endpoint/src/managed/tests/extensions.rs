//! Extensions on Managed Instances: what init waits for, how it ends, what subscribers are told.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::extensions::EventPoll;
use crate::telemetry::{Api, Batch, Subscriber};

const SHUTDOWN: &str = r#"{"events":["SHUTDOWN"]}"#;
const NOTHING: &str = "{}";

fn with_external(names: &[&str]) -> Environment {
    let extensions = names.iter().map(|name| (*name).to_owned()).collect();
    Environment::with(EnvironmentConfig { extensions, ..EnvironmentConfig::default() })
}

impl Environment {
    fn register(&mut self, name: &str, body: &str) -> Uuid {
        self.machine.sandbox.register_extension(name, body.as_bytes()).unwrap()
    }

    fn launch(&mut self) -> Process {
        let name = self.machine.sandbox.take_extension_launch().expect("an extension is wanted");
        let process = Process::new();
        let running = RuntimeProcess::new(process.pid(), true);
        self.machine.extension_started(&name, running, self.now).unwrap();
        process
    }

    fn event(&mut self, id: Uuid) -> EventPoll {
        self.machine.poll_event(id, 100, Waker::noop(), self.now)
    }

    /// The extension asks for an event, and there is none.
    fn parks(&mut self, id: Uuid) {
        let polled = self.event(id);
        assert!(matches!(polled, EventPoll::Pending), "{polled:?}");
    }

    fn gets(&mut self, id: Uuid) -> String {
        match self.event(id) {
            EventPoll::Deliver(event) => String::from_utf8(event.body.to_vec()).unwrap(),
            other => panic!("no event: {other:?}"),
        }
    }

    fn subscribe(&mut self, id: Uuid, api: Api, schema: &str) -> Result<Arc<Subscriber>, String> {
        let body = format!(
            r#"{{"schemaVersion":"{schema}","types":["platform"],"destination":{{"protocol":"TCP","port":1}}}}"#
        );
        let subscribed = self.machine.sandbox.subscribe(id, api, body.as_bytes(), self.now);
        subscribed.map_err(|refusal| refusal.message())?;
        Ok(self.machine.sandbox.effects.subscribers.pop().expect("a new subscriber"))
    }
}

/// An environment that serves, with an external extension subscribed to SHUTDOWN.
fn serving() -> (Environment, Uuid, Process, Process) {
    let mut environment = with_external(&["ext"]);
    let extension = environment.launch();
    let id = environment.register("ext", SHUTDOWN);
    let runtime = environment.started();
    environment.waits(0);
    environment.parks(id);
    (environment, id, runtime, extension)
}

fn told(subscriber: &Subscriber) -> (Vec<String>, String) {
    let lines: String = subscriber.take_all().iter().map(Batch::lines).collect();
    let kind = |line: &str| {
        let (_, rest) = line.split_once(r#""type":"platform."#).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    (lines.lines().map(kind).collect(), lines)
}

#[test]
fn the_process_is_wanted_when_all_external_extensions_have_registered() {
    let mut environment = with_external(&["a", "b"]);
    assert!(!environment.machine.sandbox.take_start());
    let (_a, _b) = (environment.launch(), environment.launch());
    environment.register("a", NOTHING);
    assert!(!environment.machine.sandbox.take_start());
    environment.register("b", SHUTDOWN);
    assert!(environment.machine.sandbox.take_start());
}

#[test]
fn init_is_over_when_a_worker_and_every_extension_have_asked_for_an_event() {
    let mut environment = with_external(&["ext"]);
    let _extension = environment.launch();
    let external = environment.register("ext", NOTHING);
    let _runtime = environment.started();
    let internal = environment.register("internal", r#"{"events":[]}"#);
    environment.submit("a");
    environment.waits(0);
    let late = environment.machine.sandbox.register_extension("late", b"{}").unwrap_err();
    assert_eq!(late.error_type(), "Extension.RegistrationClosed");
    assert_eq!(
        environment.init_error("{}").unwrap_err(),
        refuse(RuntimeState::Ready, RuntimeState::InitError)
    );
    environment.parks(external);
    environment.waits(0);
    environment.pass(Duration::from_millis(20));
    environment.machine.sandbox.effects.pollers.clear();
    environment.parks(internal);
    assert_eq!(environment.machine.sandbox.effects.pollers.len(), 1, "the worker is woken");
    environment.delivered(0);
    environment.respond("a", "1").unwrap();
    let result = environment.result();
    assert_eq!(result.init_duration, Some(Duration::from_millis(20)));
    let log = String::from_utf8(result.log.to_vec()).unwrap();
    assert!(
        log.starts_with("EXTENSION\tName: ext\tState: Ready\tEvents: []\nEXTENSION\tName: internal\t"),
        "{log}"
    );
}

#[test]
fn nobody_is_told_of_invocations_or_may_ask_for_it() {
    let (mut environment, id, _runtime, _extension) = serving();
    environment.submit("a");
    environment.delivered(0);
    environment.parks(id);
    let mut other = with_external(&["ext"]);
    let _extension = other.launch();
    for (name, body, message) in [
        ("ext", r#"{"events":["INVOKE"]}"#, "INVOKE: ErrorInvalidEventType"),
        ("internal", r#"{"events":["INVOKE"]}"#, "No events allowed for internal extensions"),
        ("internal", SHUTDOWN, "No events allowed for internal extensions"),
    ] {
        let refusal = other.machine.sandbox.register_extension(name, body.as_bytes()).unwrap_err();
        assert_eq!(
            (refusal.error_type(), refusal.message().as_str()),
            ("Extension.InvalidEventType", message)
        );
    }
}

#[test]
fn an_extension_that_hangs_holds_init_up_to_its_limit() {
    let mut environment = with_external(&["ext"]);
    let mut extension = environment.launch();
    environment.submit("a");
    environment.pass(Duration::from_secs(10));
    let result = environment.result();
    assert_eq!(result.status, InvocationStatus::Timeout);
    assert_eq!(extension.0.wait().unwrap().signal(), Some(libc::SIGKILL), "it has registered for nothing");
}

#[test]
fn an_extension_that_dies_fails_all_that_runs_and_everything_starts_anew() {
    let (mut environment, id, mut runtime, extension) = serving();
    for (poller, name) in [(0, "a"), (1, "b")] {
        environment.submit(name);
        environment.delivered(poller);
    }
    environment.machine.sandbox.extension_ended(extension.pid());
    environment.machine.extension_exited(extension.pid(), Exit::Status(7), environment.now);
    for name in ["a", "b"] {
        let result = environment.result();
        assert_eq!(
            result.answer.payload,
            format!(
                r#"{{"errorType":"Extension.Crash","errorMessage":"RequestId: {name} Error: exit status 7"}}"#
            )
        );
    }
    let share = environment.machine.sandbox.ending.as_ref().unwrap().deadline;
    assert_eq!(share, environment.now + Duration::from_millis(600));
    assert_eq!(runtime.0.wait().unwrap().signal(), Some(libc::SIGTERM));
    environment.submit("c");
    assert!(environment.machine.sandbox.take_extension_launch().is_none(), "the runtime is not gone");
    environment.exited(&runtime, 0);
    assert!(!environment.machine.sandbox.is_registered(id), "identifiers are void");
    let _extension = environment.launch();
    environment.register("ext", SHUTDOWN);
    let _runtime = environment.started();
}

#[test]
fn closing_tells_extensions_when_the_runtime_is_gone() {
    let (mut environment, id, mut runtime, extension) = serving();
    environment.machine.close_for(ShutdownReason::Spindown, environment.now);
    assert_eq!(runtime.0.wait().unwrap().signal(), Some(libc::SIGTERM));
    environment.parks(id);
    environment.exited(&runtime, 0);
    let event = environment.gets(id);
    assert!(event.contains(r#""eventType":"SHUTDOWN""#) && event.contains(r#""shutdownReason":"spindown""#));
    assert!(environment.machine.sandbox.has_process(), "closing waits for it");
    environment.machine.extension_exited(extension.pid(), Exit::Status(0), environment.now);
    assert!(!environment.machine.sandbox.has_process());
}

#[test]
fn a_runtime_that_ends_takes_the_extensions_along() {
    let (mut environment, id, runtime, _extension) = serving();
    environment.submit("a");
    environment.delivered(0);
    environment.exited(&runtime, 3);
    assert_eq!(environment.result().failure_type().unwrap(), "Runtime.ExitError");
    assert!(environment.gets(id).contains(r#""shutdownReason":"failure""#));
}

#[test]
fn subscribers_are_told_of_init_and_of_each_start_and_report_and_no_more() {
    let mut environment = with_external(&["ext"]);
    let _extension = environment.launch();
    let id = environment.register("ext", SHUTDOWN);
    let refused = environment.subscribe(id, Api::Telemetry, "2022-12-13").unwrap_err();
    assert_eq!(refused, "schemaVersion must be one of 2025-01-29");
    let subscriber = environment.subscribe(id, Api::Telemetry, "2025-01-29").unwrap();
    let runtime = environment.started();
    environment.waits(0);
    environment.parks(id);
    for (poller, name) in [(0, "a"), (1, "b")] {
        environment.submit(name);
        environment.delivered(poller);
    }
    environment.pass(Duration::from_millis(30));
    environment.respond("b", "1").unwrap();
    let attempt = environment.machine.begin_answer("a", None, environment.now).unwrap();
    let posted =
        Posted::Error { payload: "{}".into(), content_type: None, error_type: "Function.Bad".to_owned() };
    environment.machine.finish_answer(attempt, posted, environment.now).unwrap();
    environment.submit("c");
    environment.delivered(0);
    environment.exited(&runtime, 1);
    assert_eq!(environment.machine.sandbox.effects.flush.len(), 1, "its last events are sent");
    let (types, text) = told(&subscriber);
    let init = ["initStart", "telemetrySubscription", "initRuntimeDone", "extension", "initReport"];
    assert_eq!(types[..5], init);
    assert_eq!(types[5..], ["start", "start", "report", "report", "start", "report"]);
    assert!(text.contains(r#""initializationType":"lambda-managed-instances","phase":"init""#), "{text}");
    for report in [
        r#""record":{"requestId":"b","status":"success","metrics":{"durationMs":30},"spans":[{"name":"responseLatency","#,
        r#""record":{"requestId":"a","status":"error","errorType":"Function.Bad","metrics":{"durationMs":30},"#,
        r#""record":{"requestId":"c","status":"error","errorType":"Runtime.ExitError","metrics":{"durationMs":0}}"#,
    ] {
        assert!(text.contains(report), "{report}\n{text}");
    }
}

#[test]
fn the_logs_api_is_there_too() {
    let mut environment = Environment::new();
    let _runtime = environment.started();
    let id = environment.register("internal", NOTHING);
    let subscriber = environment.subscribe(id, Api::Logs, "2020-08-15").unwrap();
    environment.parks(id);
    environment.submit("a");
    environment.delivered(0);
    environment.respond("a", "1").unwrap();
    assert_eq!(told(&subscriber).0, ["logsSubscription", "extension", "start", "end", "report"]);
}
