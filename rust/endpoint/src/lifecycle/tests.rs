mod clock;
mod extensions;
mod freezing;
mod restore;
mod suppressed_init;
mod telemetry;

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::invocation::{InvocationRequest, InvokeResult, JSON, Waiter};
use crate::process::{Ended, Exit, RuntimeProcess};
use crate::sandbox::{EXIT_GRACE, REAP_LIMIT};

const TIMEOUT: Duration = Duration::from_secs(3);
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// An environment and the results its invocations ended with.
struct Environment {
    lifecycle: Lifecycle,
    results: Receiver<InvokeResult>,
    sender: mpsc::Sender<InvokeResult>,
    now: Instant,
}

/// A child that does nothing, as the environment's process.
struct Process(Child);

impl Process {
    fn new() -> Self {
        Self(Command::new("sleep").arg("60").process_group(0).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Environment {
    fn new() -> Self {
        Self::with(EnvironmentConfig::default())
    }

    fn with(config: EnvironmentConfig) -> Self {
        let (sender, results) = mpsc::channel();
        let config = EnvironmentConfig { keep_log: true, ..config };
        Self { lifecycle: Lifecycle::new(config), results, sender, now: Instant::now() }
    }

    fn submit(&mut self, request_id: &str) {
        let request = InvocationRequest {
            event: Bytes::from_static(b"{}"),
            request_id: Some(request_id.to_owned()),
            ..InvocationRequest::default()
        };
        let sender = self.sender.clone();
        let waiter = Waiter::Finish(Box::new(move |result| sender.send(result).unwrap()));
        let invocation = Invocation::new(request, TIMEOUT, waiter, self.now).unwrap();
        self.lifecycle.submit([invocation], self.now).unwrap();
    }

    fn next(&mut self) -> NextPoll {
        self.lifecycle.poll_next(0, Waker::noop(), self.now)
    }

    fn restore_next(&mut self) -> NextPoll<()> {
        self.lifecycle.poll_restore(0, Waker::noop(), self.now)
    }

    fn restore_error(&mut self, payload: &'static str) -> Result<(), Refusal> {
        let error_type = "Runtime.AfterRestoreError".to_owned();
        self.lifecycle.finish_restore_error(payload.into(), JSON, error_type, self.now)
    }

    fn delivered(&mut self) -> Box<Delivery> {
        match self.next() {
            NextPoll::Deliver(delivery) => delivery,
            other => panic!("no event: {other:?}"),
        }
    }

    fn begin(&mut self, request_id: &str, state: RuntimeState) -> Result<u64, Refusal> {
        self.lifecycle.begin_answer(request_id, None, state, self.now)
    }

    fn respond(&mut self, request_id: &str, payload: &'static str) -> Result<(), Refusal> {
        let attempt = self.begin(request_id, RuntimeState::InvocationResponse)?;
        let posted = Posted::Response { payload: payload.into(), content_type: None };
        self.lifecycle.finish_answer(attempt, posted, self.now)
    }

    fn init_error(&mut self, payload: &'static str) -> Result<(), Refusal> {
        let error_type = "Runtime.ImportModuleError".to_owned();
        self.lifecycle.finish_init_error(payload.into(), JSON, error_type, self.now)
    }

    fn started(&mut self) -> Process {
        let process = Process::new();
        self.lifecycle.process_started(RuntimeProcess::new(process.pid(), true), self.now).unwrap();
        process
    }

    fn exited(&mut self, process: &Process, exit: Exit) {
        let ended = Ended { exit, max_rss_kb: 0 };
        self.lifecycle.process_exited(process.pid(), ended, self.now);
    }

    /// Time passes, and the timer looks whenever it is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.lifecycle.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.lifecycle.expire(self.now);
        }
        self.now = until;
    }

    /// The result of the invocation that has just finished.
    fn result(&mut self) -> InvokeResult {
        self.finished().expect("no invocation is finished")
    }

    fn finished(&mut self) -> Option<InvokeResult> {
        for (waiter, result) in std::mem::take(&mut self.lifecycle.sandbox.effects.finishes) {
            waiter(*result);
        }
        self.results.try_recv().ok()
    }

    /// An environment in a given state; invocation `id` is the current one where there is one.
    fn in_state(state: RuntimeState) -> Self {
        Self::new().bring_to(state)
    }

    fn bring_to(mut self, state: RuntimeState) -> Self {
        let environment = &mut self;
        match state {
            RuntimeState::Started => {}
            RuntimeState::InitError => environment.init_error("{}").unwrap(),
            RuntimeState::Ready => {
                assert!(matches!(environment.next(), NextPoll::Pending));
            }
            RuntimeState::Running | RuntimeState::ResponseSent => {
                environment.next();
                environment.submit("id");
                environment.delivered();
                if state == RuntimeState::ResponseSent {
                    environment.respond("id", "1").unwrap();
                }
            }
            RuntimeState::InvocationResponse | RuntimeState::InvocationErrorResponse => {
                environment.submit("id");
                environment.delivered();
                environment.begin("id", state).unwrap();
            }
            RuntimeState::RestoreReady => {
                assert!(matches!(environment.restore_next(), NextPoll::Pending));
            }
            RuntimeState::Restoring | RuntimeState::RestoreError => {
                environment.submit("id");
                assert!(matches!(environment.restore_next(), NextPoll::Deliver(())));
                if state == RuntimeState::RestoreError {
                    environment.restore_error("{}").unwrap();
                }
            }
        }
        assert_eq!(environment.lifecycle.state, state);
        self
    }
}

fn forbidden(from: RuntimeState, to: RuntimeState) -> Refusal {
    Refusal::InvalidTransition { from, to }
}

fn text(result: &InvokeResult) -> &str {
    std::str::from_utf8(&result.answer.payload).unwrap()
}

fn log(result: &InvokeResult) -> &str {
    std::str::from_utf8(&result.log).unwrap()
}

/// The log without the memory of a real process.
fn log_without_memory(result: &InvokeResult) -> String {
    let (before, after) = log(result).split_once("\tMax Memory Used: ").unwrap();
    before.to_owned() + after.trim_start_matches(|character: char| character.is_ascii_digit())
}

// ---- the table of spec runtime-api 1.8; its restore part is in `restore` -------------------------------------------------------------

#[test]
fn next_is_answered_as_the_table_says() {
    use RuntimeState as S;
    for (state, refused) in [
        (S::Started, false),
        (S::InitError, true),
        (S::Ready, false),
        (S::InvocationResponse, true),
        (S::InvocationErrorResponse, true),
        (S::ResponseSent, false),
    ] {
        let mut environment = Environment::in_state(state);
        match environment.next() {
            NextPoll::Pending => {
                assert!(!refused, "{state:?}");
                assert_eq!(environment.lifecycle.state, S::Ready);
            }
            NextPoll::Refused(refusal) => {
                assert!(refused, "{state:?}");
                assert_eq!(refusal, forbidden(state, S::Ready));
                assert_eq!(environment.lifecycle.state, state, "a refused call changes nothing");
            }
            NextPoll::Deliver(delivery) => panic!("{state:?}: {delivery:?}"),
        }
    }
    let mut running = Environment::in_state(S::Running);
    assert_eq!(running.delivered().request_id, "id");
}

#[test]
fn answers_are_taken_only_while_running() {
    use RuntimeState as S;
    for upload in [S::InvocationResponse, S::InvocationErrorResponse] {
        for (state, expected) in [
            (S::Started, Err(Refusal::InvalidRequestId)),
            (S::InitError, Err(Refusal::InvalidRequestId)),
            (S::Ready, Err(Refusal::InvalidRequestId)),
            (S::Running, Ok(1)),
            (S::InvocationResponse, Err(forbidden(S::InvocationResponse, upload))),
            (S::InvocationErrorResponse, Err(forbidden(S::InvocationErrorResponse, upload))),
            // Spec 1.7 has 400 for what was answered already; AWS's emulator answers as the table in 1.8 says.
            (S::ResponseSent, Err(forbidden(S::ResponseSent, upload))),
        ] {
            assert_eq!(Environment::in_state(state).begin("id", upload), expected, "{state:?} {upload:?}");
            let other = Environment::in_state(state).begin("other", upload);
            assert_eq!(
                other,
                Err(Refusal::InvalidRequestId),
                "the id is checked before the state: {state:?}"
            );
        }
    }
}

#[test]
fn init_errors_are_taken_only_at_the_start() {
    use RuntimeState as S;
    for state in [
        S::InitError,
        S::Ready,
        S::Running,
        S::InvocationResponse,
        S::InvocationErrorResponse,
        S::ResponseSent,
    ] {
        let refusal = Environment::in_state(state).init_error("{}").unwrap_err();
        assert_eq!(refusal, forbidden(state, S::InitError));
    }
    let mut started = Environment::in_state(S::Started);
    started.init_error("{}").unwrap();
    assert_eq!(started.lifecycle.state, S::InitError);
}

#[test]
fn state_names_are_those_of_the_platform() {
    use RuntimeState as S;
    let states = [S::Started, S::InitError, S::Ready, S::Running, S::InvocationResponse];
    let names = ["Started", "InitError", "Ready", "Running", "InvocationResponse"];
    assert_eq!(states.map(S::name), names);
    assert_eq!(S::InvocationErrorResponse.name(), "InvocationErrorResponse");
    assert_eq!(S::ResponseSent.name(), "RuntimeResponseSentState");
}

// ---- polling -------------------------------------------------------------------------------------------------------

#[test]
fn polling_again_without_an_answer_gives_the_identical_event() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    let (first, second) = (environment.delivered(), environment.delivered());
    assert_eq!(first.invocation_id, second.invocation_id);
    assert_eq!(first.deadline_ms, second.deadline_ms);
    assert_eq!(first.event, second.event);
}

#[test]
fn every_attempt_has_an_invocation_id_of_its_own() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    let first = environment.delivered();
    environment.respond("id", "1").unwrap();
    environment.submit("id");
    assert_ne!(environment.delivered().invocation_id, first.invocation_id);
}

#[test]
fn of_two_pollers_one_is_woken_and_its_successor_if_it_hung_up() {
    let mut environment = Environment::new();
    for poller in [1, 2] {
        let poll = environment.lifecycle.poll_next(poller, Waker::noop(), environment.now);
        assert!(matches!(poll, NextPoll::Pending));
    }
    environment.submit("id");
    assert_eq!(environment.lifecycle.sandbox.effects.pollers.len(), 1);
    environment.lifecycle.drop_poller(2, environment.now);
    assert_eq!(environment.lifecycle.sandbox.effects.pollers.len(), 2, "the other one is woken instead");
    assert!(!environment.lifecycle.sandbox.take_start(), "a runtime that polls needs no process");
}

#[test]
fn invocations_are_delivered_in_their_order() {
    let mut environment = Environment::new();
    for id in ["a", "b", "c"] {
        environment.submit(id);
    }
    for id in ["a", "b", "c"] {
        assert_eq!(environment.delivered().request_id, id);
        environment.respond(id, "1").unwrap();
    }
    assert!(matches!(environment.next(), NextPoll::Pending));
}

// ---- answers -------------------------------------------------------------------------------------------------------

#[test]
fn an_invocation_is_finished_by_the_next_poll_not_by_the_answer() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    environment.pass(Duration::from_millis(20));
    environment.respond("id", "42").unwrap();
    assert!(environment.finished().is_none());
    environment.pass(Duration::from_millis(30));
    environment.next();
    let result = environment.result();
    assert_eq!((text(&result), result.status), ("42", InvocationStatus::Success));
    assert_eq!(result.duration, Duration::from_millis(50));
    assert_eq!(result.response_latency, Duration::from_millis(20));
    assert_eq!(result.phases.after_response, Some(Duration::from_millis(30)));
    assert_eq!(
        log(&result),
        "START RequestId: id Version: $LATEST\nEND RequestId: id\nREPORT RequestId: id\tDuration: 50.00 ms\t\
         Billed Duration: 50 ms\tMemory Size: 128 MB\tMax Memory Used: 0 MB\t\n"
    );
}

#[test]
fn an_answer_is_given_at_once_to_who_waits_for_no_more() {
    let mut environment = Environment::new();
    let (sender, answers) = mpsc::channel();
    let waiter = Waiter::Answer(Box::new(move |answer| sender.send(answer).unwrap()));
    let invocation = Invocation::new(InvocationRequest::default(), TIMEOUT, waiter, environment.now).unwrap();
    let id = invocation.request_id.clone();
    environment.lifecycle.submit([invocation], environment.now).unwrap();
    environment.delivered();
    environment.respond(&id, "42").unwrap();
    let (waiter, answer) = environment.lifecycle.sandbox.effects.answers.pop().unwrap();
    waiter(answer);
    assert_eq!(answers.try_recv().unwrap().payload, "42");
}

#[test]
fn an_error_of_the_function_is_an_error_to_the_caller_and_none_in_the_report() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    let attempt = environment.begin("id", RuntimeState::InvocationErrorResponse).unwrap();
    let posted = Posted::Error {
        payload: r#"{"errorType":"ValueError"}"#.into(),
        content_type: None,
        error_type: "Runtime.Unknown".to_owned(),
    };
    environment.lifecycle.finish_answer(attempt, posted, environment.now).unwrap();
    environment.next();
    let result = environment.result();
    assert!(result.answer.is_error);
    assert_eq!(result.status, InvocationStatus::Error);
    assert_eq!(result.failure_type().unwrap(), "ValueError");
    assert!(!log(&result).contains("Status"), "{}", log(&result));
}

#[test]
fn a_stale_invocation_id_is_gone_and_a_missing_one_accepted() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    let current = environment.delivered().invocation_id;
    let mut begin = |id: Option<&[u8]>| {
        environment.lifecycle.begin_answer("id", id, RuntimeState::InvocationResponse, environment.now)
    };
    assert_eq!(begin(Some(b"stale")), Err(Refusal::OtherAttempt));
    assert_eq!(begin(Some(current.as_bytes())), Ok(1));
    let mut environment = Environment::in_state(RuntimeState::Running);
    let empty = environment.lifecycle.begin_answer(
        "id",
        Some(b""),
        RuntimeState::InvocationResponse,
        environment.now,
    );
    assert_eq!(empty, Ok(1), "an empty header is an absent one");
    assert_eq!(
        Environment::in_state(RuntimeState::Running).begin("id", RuntimeState::InvocationResponse),
        Ok(1)
    );
}

#[test]
fn the_platforms_complaint_about_an_answer_is_in_the_report() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    let attempt = environment.begin("id", RuntimeState::InvocationResponse).unwrap();
    let document = ErrorDocument::response_too_large(7_000_000, 6_291_556);
    environment.lifecycle.finish_answer(attempt, Posted::Failed(document), environment.now).unwrap();
    let again = environment.begin("id", RuntimeState::InvocationErrorResponse);
    assert_eq!(again, Err(forbidden(RuntimeState::ResponseSent, RuntimeState::InvocationErrorResponse)));
    environment.next();
    let result = environment.result();
    assert_eq!(result.failure_type().unwrap(), "Function.ResponseSizeTooLarge");
    assert!(log(&result).ends_with("\tStatus: error\tError Type: Function.ResponseSizeTooLarge\n"));
}

// ---- time limits ---------------------------------------------------------------------------------------------------

#[test]
fn a_timeout_answers_the_caller_and_a_late_answer_is_gone() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    environment.pass(TIMEOUT + Duration::from_millis(200));
    let result = environment.result();
    assert_eq!(result.status, InvocationStatus::Timeout);
    assert_eq!(
        text(&result),
        r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: id Error: Task timed out after 3.00 seconds"}"#
    );
    assert!(log(&result).contains("\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\t"), "{}", log(&result));
    assert!(log(&result).ends_with("\tStatus: timeout\n"));
    let late = environment.begin("id", RuntimeState::InvocationResponse);
    assert_eq!(late, Err(Refusal::InvokeTimeout));
    assert_eq!(environment.begin("other", RuntimeState::InvocationResponse), Err(Refusal::InvalidRequestId));
    assert!(matches!(environment.next(), NextPoll::Pending), "a runtime that cannot be killed may go on");
    environment.submit("again");
    assert_eq!(environment.delivered().request_id, "again");
}

#[test]
fn a_timeout_kills_the_process_and_its_end_finishes_the_invocation() {
    let mut environment = Environment::new();
    environment.submit("id");
    assert!(environment.lifecycle.sandbox.take_start());
    let mut process = environment.started();
    environment.delivered();
    environment.pass(TIMEOUT);
    assert!(!process.0.wait().unwrap().success(), "the process was killed");
    assert!(environment.finished().is_none());
    assert!(matches!(environment.next(), NextPoll::Pending), "the dying runtime gets nothing");
    environment.submit("second");
    assert!(!environment.lifecycle.sandbox.take_start(), "the old process is not gone yet");
    environment.pass(Duration::from_millis(70));
    environment.exited(&process, Exit::Signal { signal: 9, core_dumped: false });
    let result = environment.result();
    assert_eq!((result.status, result.duration), (InvocationStatus::Timeout, TIMEOUT));
    assert!(environment.lifecycle.sandbox.take_start(), "the next invocation needs a new process");
}

#[test]
fn a_process_that_cannot_be_killed_holds_nobody_up() {
    let mut environment = Environment::new();
    environment.submit("id");
    let _process = environment.started();
    environment.delivered();
    environment.pass(TIMEOUT + REAP_LIMIT);
    assert_eq!(environment.result().status, InvocationStatus::Timeout);
}

#[test]
fn the_time_after_a_good_answer_counts_too_and_the_caller_keeps_it() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    environment.respond("id", "42").unwrap();
    environment.pass(TIMEOUT);
    let result = environment.result();
    assert_eq!((text(&result), result.status), ("42", InvocationStatus::Timeout));
    assert!(!result.answer.is_error);
}

#[test]
fn a_debugger_stops_the_clock_of_this_invocation_only() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    environment.lifecycle.pause_timeout();
    environment.pass(Duration::from_secs(600));
    environment.respond("id", "42").unwrap();
    environment.submit("next");
    environment.delivered();
    assert_eq!(environment.result().status, InvocationStatus::Success);
    environment.pass(TIMEOUT);
    assert_eq!(environment.result().status, InvocationStatus::Timeout);
}

#[test]
fn a_live_process_that_never_polls_again_does_not_hang_the_caller() {
    let mut environment = Environment::new();
    let process = environment.started();
    assert!(matches!(environment.next(), NextPoll::Pending));
    // Its connection breaks, and it does not come back.
    environment.lifecycle.drop_poller(0, environment.now);
    environment.submit("id");
    environment.pass(TIMEOUT);
    environment.exited(&process, Exit::Signal { signal: 9, core_dumped: false });
    assert_eq!(environment.result().status, InvocationStatus::Timeout);
}

#[test]
fn the_timer_is_told_only_of_a_nearer_deadline() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    environment.lifecycle.next_deadline();
    environment.lifecycle.sandbox.effects.timer_changed = false;
    environment.respond("id", "1").unwrap();
    environment.pass(Duration::from_millis(5));
    environment.submit("second");
    environment.delivered();
    assert!(
        !environment.lifecycle.sandbox.effects.timer_changed,
        "a later deadline needs no alarm of its own"
    );
}

// ---- processes -----------------------------------------------------------------------------------------------------

#[test]
fn a_process_is_wanted_once_and_only_for_an_invocation() {
    let mut environment = Environment::new();
    assert!(!environment.lifecycle.sandbox.take_start());
    environment.submit("a");
    environment.submit("b");
    assert!(environment.lifecycle.sandbox.take_start());
    assert!(!environment.lifecycle.sandbox.take_start());
}

#[test]
fn the_first_report_of_a_process_shows_its_init() {
    let mut environment = Environment::new();
    environment.submit("a");
    environment.submit("b");
    environment.pass(Duration::from_millis(5));
    let _process = environment.started();
    environment.pass(Duration::from_millis(95));
    environment.delivered();
    environment.pass(Duration::from_millis(10));
    environment.respond("a", "1").unwrap();
    environment.delivered();
    let result = environment.result();
    assert_eq!(result.init_duration, Some(Duration::from_millis(100)));
    assert_eq!(result.billed_duration_ms, 110);
    assert_eq!(result.phases.process_start, Some(Duration::from_millis(5)));
    assert_eq!(result.phases.runtime_init, Some(Duration::from_millis(95)));
    assert!(log(&result).ends_with("\tInit Duration: 100.00 ms\t\n"));
    environment.respond("b", "1").unwrap();
    environment.next();
    assert_eq!(environment.result().init_duration, None);
}

#[test]
fn an_exit_in_an_invocation_fails_it_with_the_exits_reason() {
    for (exit, reason) in [
        (Exit::Status(0), "Runtime exited without providing a reason"),
        (Exit::Status(3), "Runtime exited with error: exit status 3"),
        (Exit::Signal { signal: 9, core_dumped: false }, "Runtime exited with error: signal: killed"),
    ] {
        let mut environment = Environment::new();
        environment.submit("id");
        let process = environment.started();
        environment.delivered();
        environment.exited(&process, exit);
        let result = environment.result();
        assert_eq!(
            text(&result),
            format!(r#"{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: id Error: {reason}"}}"#)
        );
        assert!(log(&result).ends_with("\tStatus: error\tError Type: Runtime.ExitError\n"));
    }
}

#[test]
fn an_exit_after_a_good_answer_leaves_it_to_the_caller() {
    let mut environment = Environment::new();
    environment.submit("id");
    let process = environment.started();
    environment.delivered();
    environment.respond("id", "42").unwrap();
    environment.exited(&process, Exit::Status(1));
    let result = environment.result();
    assert_eq!((text(&result), result.status), ("42", InvocationStatus::Error));
    assert_eq!(result.failure_type().unwrap(), "Runtime.ExitError");
}

#[test]
fn an_exit_while_idle_leads_to_a_new_process_at_the_next_invocation() {
    let mut environment = Environment::new();
    let process = environment.started();
    environment.next();
    environment.exited(&process, Exit::Status(0));
    assert!(!environment.lifecycle.sandbox.take_start());
    environment.submit("id");
    assert!(environment.lifecycle.sandbox.take_start());
}

#[test]
fn a_runtime_may_poll_before_its_pid_is_told() {
    let mut environment = Environment::new();
    environment.submit("id");
    assert!(environment.lifecycle.sandbox.take_start());
    environment.delivered();
    let process = environment.started();
    environment.respond("id", "42").unwrap();
    environment.next();
    assert_eq!(text(&environment.result()), "42");
    environment.exited(&process, Exit::Status(0));
    environment.submit("next");
    assert!(environment.lifecycle.sandbox.take_start());
}

#[test]
fn a_runtime_that_is_quicker_than_its_starter_is_served_when_it_is_known() {
    let mut environment = Environment::new();
    environment.submit("id");
    assert!(environment.lifecycle.sandbox.take_start());
    environment.lifecycle.sandbox.process_starting();
    environment.pass(Duration::from_millis(5));
    assert!(matches!(environment.next(), NextPoll::Pending), "its process is not known");
    environment.pass(Duration::from_millis(2));
    let _process = environment.started();
    assert_eq!(environment.lifecycle.sandbox.effects.pollers.len(), 1, "it is woken");
    environment.delivered();
    environment.pass(Duration::from_millis(3));
    environment.respond("id", "42").unwrap();
    environment.next();
    let result = environment.result();
    assert!(result.max_memory_used_mb > 0, "it was measured");
    assert_eq!(result.init_duration, Some(Duration::from_millis(7)));
    assert_eq!(result.phases.process_start, Some(Duration::from_millis(7)));
    assert_eq!(result.duration, Duration::from_millis(3));
}

#[test]
fn a_start_that_failed_holds_nobody_up() {
    let mut environment = Environment::new();
    environment.lifecycle.sandbox.process_starting();
    environment.lifecycle.launch_ended();
    environment.submit("id");
    environment.delivered();
}

#[test]
fn a_second_process_is_refused() {
    let mut environment = Environment::new();
    let process = environment.started();
    let second = RuntimeProcess::new(1, false);
    let error = environment.lifecycle.process_started(second, environment.now).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("process 1 was announced while process {} is still running", process.pid())
    );
}

#[test]
fn the_end_of_a_process_long_gone_changes_nothing() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    let stranger = Process::new();
    environment.exited(&stranger, Exit::Status(1));
    assert!(environment.respond("id", "42").is_ok());
}

// ---- closing -------------------------------------------------------------------------------------------------------

#[test]
fn closing_fails_everything_that_waits() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    environment.submit("second");
    environment.lifecycle.close(environment.now);
    for id in ["id", "second"] {
        let result = environment.result();
        assert_eq!(result.answer.request_id, id);
        assert_eq!(result.failure_type().unwrap(), "Sandbox.Failure");
    }
    let invocation =
        Invocation::new(InvocationRequest::default(), TIMEOUT, Waiter::Nobody, environment.now).unwrap();
    assert!(matches!(
        environment.lifecycle.submit([invocation], environment.now),
        Err(EndpointError::Closed)
    ));
}

#[test]
fn closing_kills_the_process() {
    let mut environment = Environment::new();
    let mut process = environment.started();
    environment.lifecycle.close(environment.now);
    assert!(!process.0.wait().unwrap().success());
    environment.lifecycle.close(environment.now);
}

// ---- retiring ------------------------------------------------------------------------------------------------------

#[test]
fn what_waits_can_be_taken_and_what_runs_is_over_when_the_runtime_has_polled_again() {
    let mut environment = Environment::in_state(RuntimeState::Running);
    environment.submit("b");
    environment.submit("c");
    let taken: Vec<_> = environment.lifecycle.take_waiting().into_iter().map(|one| one.request_id).collect();
    assert_eq!(taken, ["b", "c"]);
    assert!(!environment.lifecycle.has_no_invocation());
    environment.respond("id", "1").unwrap();
    assert!(!environment.lifecycle.has_no_invocation(), "there may be work after the response");
    assert!(matches!(environment.next(), NextPoll::Pending));
    assert!(environment.lifecycle.has_no_invocation());
    assert_eq!(text(&environment.result()), "1");
}

#[test]
fn an_invocation_that_waits_for_an_init_phase_can_be_taken_but_not_one_that_contains_its_init() {
    let mut environment = Environment::new();
    environment.submit("a");
    let process = environment.started();
    assert_eq!(environment.lifecycle.take_waiting().len(), 1);
    assert!(environment.lifecycle.has_no_invocation());

    environment.submit("b");
    environment.init_error("{}").unwrap();
    environment.exited(&process, Exit::Status(1));
    assert_eq!(environment.lifecycle.take_waiting().len(), 0, "init is run again within it");
    assert!(!environment.lifecycle.has_no_invocation());
}
