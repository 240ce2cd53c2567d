//! An init within an invocation: after an Init phase that failed, and after a reset.

use super::*;

const KILLED: Exit = Exit::Signal { signal: 9, core_dumped: false };
const IMPORT_ERROR: &str = r#"{"errorMessage":"no app","errorType":"Runtime.ImportModuleError"}"#;

impl Environment {
    /// A process is started as wanted, and exits at once.
    fn start_and_exit(&mut self, status: i32) {
        assert!(self.lifecycle.sandbox.take_start(), "a process is wanted");
        let process = self.started();
        self.exited(&process, Exit::Status(status));
    }

    /// The same, and the runtime reports why.
    fn start_and_fail(&mut self, document: &'static str) {
        assert!(self.lifecycle.sandbox.take_start(), "a process is wanted");
        let process = self.started();
        self.init_error(document).unwrap();
        self.exited(&process, Exit::Status(1));
    }
}

// ---- the second attempt succeeds ------------------------------------------------------------------------------------

#[test]
fn a_failed_init_is_run_again_within_the_invocation_that_waits() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.pass(Duration::from_millis(30));
    environment.start_and_fail(IMPORT_ERROR);
    assert!(environment.finished().is_none(), "no invocation has failed");
    assert!(environment.lifecycle.sandbox.take_start(), "a process is wanted once more");
    environment.pass(Duration::from_millis(5));
    let _process = environment.started();
    environment.pass(Duration::from_millis(95));
    environment.delivered();
    environment.pass(Duration::from_millis(10));
    environment.respond("id", "42").unwrap();
    environment.pass(Duration::from_millis(1));
    environment.next();
    let result = environment.result();
    assert_eq!((text(&result), result.status), ("42", InvocationStatus::Success));
    assert_eq!((result.init_duration, result.duration), (None, Duration::from_millis(111)));
    assert_eq!(result.billed_duration_ms, 111, "the init is part of it");
    assert_eq!(result.response_latency, Duration::from_millis(10));
    let phases = result.phases;
    assert_eq!(phases.queued, Some(Duration::ZERO));
    assert_eq!(phases.failed_init, Some(Duration::from_millis(30)));
    assert_eq!(phases.process_start, Some(Duration::from_millis(5)));
    assert_eq!(phases.runtime_init, Some(Duration::from_millis(95)));
    assert_eq!(phases.response, Some(Duration::from_millis(10)));
    assert_eq!(phases.after_response, Some(Duration::from_millis(1)));
    assert_eq!(
        log_without_memory(&result),
        "INIT_REPORT Init Duration: 30.00 ms\tPhase: init\tStatus: error\tError Type: Runtime.ImportModuleError\n\
         START RequestId: id Version: $LATEST\nEND RequestId: id\nREPORT RequestId: id\tDuration: 111.00 ms\t\
         Billed Duration: 111 ms\tMemory Size: 128 MB MB\t\n",
        "a successful second init has no line of its own"
    );
    environment.submit("next");
    environment.delivered();
    environment.respond("next", "1").unwrap();
    environment.next();
    let next = environment.result();
    assert_eq!((next.init_duration, next.phases.failed_init), (None, None));
    assert!(log(&next).starts_with("START RequestId: next"));
}

#[test]
fn an_init_that_takes_too_long_is_killed_and_run_again_within_the_invocation() {
    let mut environment = Environment::new();
    environment.submit("id");
    assert!(environment.lifecycle.sandbox.take_start());
    let mut process = environment.started();
    environment.pass(INIT_TIMEOUT);
    assert!(!process.0.wait().unwrap().success());
    assert!(!environment.lifecycle.sandbox.take_start(), "the old process is not gone yet");
    environment.exited(&process, KILLED);
    assert!(environment.finished().is_none());
    assert!(environment.lifecycle.sandbox.take_start());
    let _process = environment.started();
    environment.pass(Duration::from_millis(2999));
    environment.delivered();
    environment.respond("id", "42").unwrap();
    environment.next();
    let result = environment.result();
    assert_eq!((text(&result), result.duration), ("42", Duration::from_millis(2999)));
    assert!(
        log(&result).starts_with(
            "INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout\nSTART RequestId: id"
        ),
        "{}",
        log(&result)
    );
}

#[test]
fn an_init_that_failed_with_nobody_waiting_is_run_again_for_the_first_invocation() {
    let mut environment = Environment::new();
    let process = environment.started();
    environment.init_error(IMPORT_ERROR).unwrap();
    environment.exited(&process, Exit::Status(1));
    assert!(!environment.lifecycle.sandbox.take_start(), "not before there is an invocation");
    environment.pass(Duration::from_secs(60));
    environment.submit("id");
    assert!(environment.lifecycle.sandbox.take_start());
    let _process = environment.started();
    environment.delivered();
    environment.respond("id", "42").unwrap();
    environment.next();
    let result = environment.result();
    assert_eq!((text(&result), result.init_duration), ("42", None));
    assert!(log(&result).starts_with("INIT_REPORT "), "its log tells of it: {}", log(&result));
}

#[test]
fn the_second_invocation_in_the_queue_waits_for_the_first() {
    let mut environment = Environment::new();
    environment.submit("a");
    environment.submit("b");
    environment.start_and_exit(1);
    assert!(environment.lifecycle.sandbox.take_start());
    let _process = environment.started();
    environment.pass(Duration::from_millis(20));
    for id in ["a", "b"] {
        environment.delivered();
        environment.respond(id, "1").unwrap();
    }
    environment.next();
    assert_eq!(environment.result().duration, Duration::from_millis(20));
    let second = environment.result();
    assert_eq!((second.duration, second.phases.runtime_init), (Duration::ZERO, None));
}

// ---- after a reset --------------------------------------------------------------------------------------------------

#[test]
fn after_a_reset_init_is_part_of_the_next_invocation() {
    let mut environment = Environment::new();
    environment.submit("id");
    assert!(environment.lifecycle.sandbox.take_start());
    let process = environment.started();
    environment.pass(Duration::from_millis(40));
    environment.delivered();
    environment.exited(&process, Exit::Status(1));
    assert_eq!(environment.result().init_duration, Some(Duration::from_millis(40)));
    environment.submit("next");
    assert!(environment.lifecycle.sandbox.take_start());
    let _process = environment.started();
    environment.pass(Duration::from_millis(60));
    environment.delivered();
    environment.pass(Duration::from_millis(10));
    environment.respond("next", "42").unwrap();
    environment.next();
    let result = environment.result();
    assert_eq!((result.init_duration, result.duration), (None, Duration::from_millis(70)));
    assert_eq!((result.billed_duration_ms, result.phases.failed_init), (70, None));
    assert!(log(&result).starts_with("START RequestId: next"), "{}", log(&result));
}

#[test]
fn an_init_that_fails_after_a_reset_fails_the_invocation_at_once() {
    let mut environment = Environment::new();
    environment.submit("id");
    let process = environment.started();
    environment.delivered();
    environment.exited(&process, Exit::Status(1));
    environment.result();
    environment.submit("next");
    environment.start_and_fail(IMPORT_ERROR);
    let result = environment.result();
    assert_eq!(text(&result), IMPORT_ERROR);
    assert!(log(&result).starts_with("INIT_REPORT Init Duration: 0.00 ms\tPhase: invoke\tStatus: error"));
}

// ---- the second attempt fails ---------------------------------------------------------------------------------------

#[test]
fn a_second_failure_is_the_invocations_and_the_process_must_go() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.start_and_fail("{}");
    assert!(environment.lifecycle.sandbox.take_start());
    let mut process = environment.started();
    environment.pass(Duration::from_millis(40));
    environment.init_error(IMPORT_ERROR).unwrap();
    assert!(environment.finished().is_none(), "what the process still prints belongs to it");
    environment.pass(EXIT_GRACE);
    assert!(!process.0.wait().unwrap().success(), "it did not exit by itself and was killed");
    environment.exited(&process, KILLED);
    let result = environment.result();
    assert_eq!(text(&result), IMPORT_ERROR, "the second one's document");
    assert_eq!(
        (result.status, result.error_type.as_deref()),
        (InvocationStatus::Error, Some("Runtime.ImportModuleError"))
    );
    assert_eq!(result.init_duration, None, "a failed init is not reported as a duration");
    assert_eq!(result.phases.runtime_init, Some(Duration::from_millis(40)));
    assert_eq!(result.delivered_at, None);
    assert_eq!(
        log_without_memory(&result),
        "INIT_REPORT Init Duration: 0.00 ms\tPhase: init\tStatus: error\tError Type: Runtime.ImportModuleError\n\
         INIT_REPORT Init Duration: 40.00 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ImportModuleError\n\
         START RequestId: id Version: $LATEST\nEND RequestId: id\nREPORT RequestId: id\tDuration: 1040.00 ms\t\
         Billed Duration: 1040 ms\tMemory Size: 128 MB MB\tStatus: error\t\
         Error Type: Runtime.ImportModuleError\n"
    );
    environment.submit("next");
    assert!(environment.lifecycle.sandbox.take_start(), "the next invocation tries again");
    let process = environment.started();
    environment.exited(&process, Exit::Status(1));
    assert_eq!(environment.result().failure_type().unwrap(), "Runtime.ExitError", "once");
}

#[test]
fn the_answer_of_a_second_failure_is_given_at_once_to_who_waits_for_no_more() {
    let mut environment = Environment::new();
    let (sender, answers) = mpsc::channel();
    let waiter = Waiter::Answer(Box::new(move |answer| sender.send(answer).unwrap()));
    let invocation = Invocation::new(InvocationRequest::default(), TIMEOUT, waiter, environment.now).unwrap();
    environment.lifecycle.submit([invocation], environment.now).unwrap();
    environment.start_and_fail("{}");
    assert!(environment.lifecycle.sandbox.effects.answers.is_empty());
    assert!(environment.lifecycle.sandbox.take_start());
    let _process = environment.started();
    environment.init_error(IMPORT_ERROR).unwrap();
    let (waiter, answer) = environment.lifecycle.sandbox.effects.answers.pop().unwrap();
    waiter(answer);
    assert_eq!(answers.try_recv().unwrap().payload, IMPORT_ERROR);
}

#[test]
fn an_exit_in_both_inits_fails_the_invocation_with_the_exits_reason() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.start_and_exit(2);
    environment.start_and_exit(3);
    let result = environment.result();
    assert_eq!(
        text(&result),
        r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: id Error: Runtime exited with error: exit status 3"}"#
    );
    assert!(log(&result).ends_with("\tStatus: error\tError Type: Runtime.ExitError\n"));
}

#[test]
fn a_program_that_cannot_be_started_is_tried_twice_and_an_invalid_entry_point() {
    let mut environment = Environment::new();
    environment.submit("a");
    environment.submit("b");
    for _attempt in 0..2 {
        assert!(environment.finished().is_none());
        assert!(environment.lifecycle.sandbox.take_start());
        environment.lifecycle.start_failed("no such program", environment.now);
    }
    let result = environment.result();
    assert_eq!(
        text(&result),
        r#"{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: a Error: no such program"}"#
    );
    assert!(environment.lifecycle.sandbox.take_start(), "the second invocation tries again");
}

#[test]
fn the_functions_time_limit_ends_an_init_within_an_invocation() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.start_and_exit(1);
    assert!(environment.lifecycle.sandbox.take_start());
    let mut process = environment.started();
    environment.pass(TIMEOUT);
    assert!(!process.0.wait().unwrap().success());
    assert!(environment.finished().is_none());
    environment.exited(&process, KILLED);
    let result = environment.result();
    assert_eq!((result.status, result.duration), (InvocationStatus::Timeout, TIMEOUT));
    assert_eq!(
        text(&result),
        r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: id Error: Task timed out after 3.00 seconds"}"#
    );
    assert!(log(&result).contains(
        "INIT_REPORT Init Duration: 3000.00 ms\tPhase: invoke\tStatus: timeout\nSTART RequestId: id"
    ));
    assert!(log(&result).ends_with("\tStatus: timeout\n"));
}

#[test]
fn a_process_that_nobody_starts_does_not_hang_the_caller() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.pass(INIT_TIMEOUT);
    assert!(environment.finished().is_none());
    environment.pass(TIMEOUT);
    assert_eq!(environment.result().status, InvocationStatus::Timeout);
}

// ---- who calls when -------------------------------------------------------------------------------------------------

#[test]
fn in_its_init_an_invocation_is_the_current_one_but_cannot_be_answered() {
    use RuntimeState as S;
    let mut environment = Environment::new();
    environment.submit("id");
    environment.start_and_exit(1);
    let _process = environment.started();
    for upload in [S::InvocationResponse, S::InvocationErrorResponse] {
        assert_eq!(environment.begin("id", upload), Err(forbidden(S::Started, upload)));
        assert_eq!(environment.begin("other", upload), Err(Refusal::InvalidRequestId));
    }
    environment.init_error("{}").unwrap();
    let late = environment.begin("id", S::InvocationResponse);
    assert_eq!(late, Err(forbidden(S::InitError, S::InvocationResponse)));
}

#[test]
fn after_a_timeout_in_its_init_an_answer_comes_too_late() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.start_and_exit(1);
    let _process = environment.started();
    environment.pass(TIMEOUT);
    assert_eq!(environment.begin("id", RuntimeState::InvocationResponse), Err(Refusal::InvokeTimeout));
}

#[test]
fn a_runtime_may_fail_before_its_pid_is_told() {
    let mut environment = Environment::new();
    environment.submit("id");
    for _attempt in 0..2 {
        assert!(environment.finished().is_none());
        assert!(environment.lifecycle.sandbox.take_start());
        environment.init_error(IMPORT_ERROR).unwrap();
        assert!(!environment.lifecycle.sandbox.take_start(), "that process is not gone");
        let process = environment.started();
        environment.exited(&process, Exit::Status(1));
    }
    assert_eq!(text(&environment.result()), IMPORT_ERROR);
    environment.submit("next");
    assert!(environment.lifecycle.sandbox.take_start(), "the failure is not told twice");
}

#[test]
fn a_runtime_that_nobody_started_is_tried_again_too() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.init_error("{}").unwrap();
    assert!(environment.finished().is_none());
    assert!(environment.lifecycle.sandbox.take_start(), "a process is wanted");
    environment.delivered();
    environment.respond("id", "42").unwrap();
    environment.next();
    assert_eq!(text(&environment.result()), "42");
}

#[test]
fn a_failed_runtime_is_waited_for_until_it_is_known() {
    let mut environment = Environment::new();
    environment.submit("id");
    assert!(environment.lifecycle.sandbox.take_start());
    environment.lifecycle.sandbox.process_starting();
    environment.init_error(IMPORT_ERROR).unwrap();
    environment.pass(3 * EXIT_GRACE);
    assert!(!environment.lifecycle.sandbox.take_start(), "its starter is still at it");
    let process = environment.started();
    environment.exited(&process, Exit::Status(1));
    assert!(environment.lifecycle.sandbox.take_start(), "now it is tried again");
}

#[test]
fn a_process_that_was_being_started_when_its_environment_went_is_not_the_next_ones() {
    let mut environment = Environment::with(EnvironmentConfig {
        extensions: vec!["ext".to_owned()],
        ..EnvironmentConfig::default()
    });
    environment.submit("id");
    environment.lifecycle.sandbox.take_extension_launch().unwrap();
    let extension = Process::new();
    let running = RuntimeProcess::new(extension.pid(), true);
    environment.lifecycle.sandbox.extension_started("ext", running).unwrap();
    environment.lifecycle.sandbox.register_extension("ext", b"{}").unwrap();
    assert!(environment.lifecycle.sandbox.take_start());
    environment.lifecycle.sandbox.process_starting();
    environment.lifecycle.extension_exited(extension.pid(), Exit::Status(1), environment.now);
    assert!(environment.lifecycle.sandbox.take_extension_launch().is_some(), "init is run again");
    let late = RuntimeProcess::new(extension.pid(), true);
    let error = environment.lifecycle.process_started(late, environment.now).unwrap_err();
    assert!(matches!(error, EndpointError::Closed));
}

#[test]
fn a_runtime_that_gave_up_its_poll_before_the_delivery_is_succeeded_by_another() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.start_and_exit(1);
    let _process = environment.started();
    let id = environment.lifecycle.sandbox.register_extension("internal", b"{}").unwrap();
    for poller in [1, 2] {
        let poll = environment.lifecycle.poll_next(poller, Waker::noop(), environment.now);
        assert!(matches!(poll, NextPoll::Pending), "the extension is not ready");
    }
    let _ = environment.lifecycle.poll_event(id, 9, Waker::noop(), environment.now);
    assert_eq!(environment.lifecycle.sandbox.effects.pollers.len(), 1);
    environment.lifecycle.drop_poller(2, environment.now);
    assert_eq!(environment.lifecycle.sandbox.effects.pollers.len(), 2, "the other one is woken instead");
    let poll = environment.lifecycle.poll_next(1, Waker::noop(), environment.now);
    assert!(matches!(poll, NextPoll::Deliver(delivery) if delivery.request_id == "id"));
}

#[test]
fn a_debugger_stops_the_clock_of_an_init_within_an_invocation() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.start_and_exit(1);
    let _process = environment.started();
    environment.lifecycle.pause_timeout();
    environment.pass(Duration::from_secs(600));
    environment.delivered();
    environment.respond("id", "42").unwrap();
    environment.next();
    assert_eq!(environment.result().status, InvocationStatus::Success);
}

#[test]
fn nothing_is_frozen_while_an_invocation_is_to_be_delivered() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.start_and_exit(1);
    let _process = environment.started();
    let id = environment.lifecycle.sandbox.register_extension("internal", b"{}").unwrap();
    environment.next();
    let _ = environment.lifecycle.poll_event(id, 9, Waker::noop(), environment.now);
    assert!(!environment.lifecycle.has_nothing_to_do());
}

#[test]
fn closing_in_an_init_within_an_invocation_fails_it() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.start_and_exit(1);
    let process = environment.started();
    environment.lifecycle.close(environment.now);
    environment.exited(&process, KILLED);
    assert_eq!(environment.result().failure_type().unwrap(), "Sandbox.Failure");
}
