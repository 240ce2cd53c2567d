//! SnapStart.

use super::*;

const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);
const KILLED: Exit = Exit::Signal { signal: 9, core_dumped: false };

fn snap_start() -> Environment {
    Environment::with(EnvironmentConfig { snap_start: true, ..EnvironmentConfig::default() })
}

fn in_state(state: RuntimeState) -> Environment {
    snap_start().bring_to(state)
}

/// An environment with a process that is told that it was restored, for invocation `id`.
fn restoring() -> (Environment, Process) {
    let mut environment = snap_start();
    environment.submit("id");
    let process = environment.started();
    assert!(matches!(environment.restore_next(), NextPoll::Deliver(())));
    (environment, process)
}

// ---- the table of spec runtime-api 1.8 -----------------------------------------------------------------------------

#[test]
fn restore_next_is_for_a_runtime_that_has_just_started() {
    use RuntimeState as S;
    assert!(matches!(in_state(S::Started).restore_next(), NextPoll::Pending));
    for state in [
        S::InitError,
        S::Ready,
        S::Running,
        S::InvocationResponse,
        S::InvocationErrorResponse,
        S::ResponseSent,
        S::Restoring,
        S::RestoreError,
    ] {
        let mut environment = in_state(state);
        match environment.restore_next() {
            NextPoll::Refused(refusal) => assert_eq!(refusal, forbidden(state, S::Ready)),
            other => panic!("{state:?}: {other:?}"),
        }
        assert_eq!(environment.lifecycle.state, state, "a refused call changes nothing");
    }
}

#[test]
fn while_one_waits_for_the_restore_another_is_refused_and_the_same_one_may_look_again() {
    let mut environment = in_state(RuntimeState::RestoreReady);
    assert!(matches!(environment.restore_next(), NextPoll::Pending));
    let second = environment.lifecycle.poll_restore(1, Waker::noop(), environment.now);
    assert!(
        matches!(second, NextPoll::Refused(refusal) if refusal == forbidden(RuntimeState::RestoreReady, RuntimeState::Ready))
    );
    assert!(matches!(environment.restore_next(), NextPoll::Pending), "it still waits");
}

#[test]
fn next_is_refused_before_the_restore_and_after_a_failed_one() {
    for state in [RuntimeState::RestoreReady, RuntimeState::RestoreError] {
        let mut environment = in_state(state);
        match environment.next() {
            NextPoll::Refused(refusal) => assert_eq!(refusal, forbidden(state, RuntimeState::Ready)),
            other => panic!("{state:?}: {other:?}"),
        }
        assert_eq!(environment.lifecycle.state, state);
    }
    let mut restoring = in_state(RuntimeState::Restoring);
    assert_eq!(restoring.delivered().request_id, "id");
    assert_eq!(restoring.lifecycle.state, RuntimeState::Running);
}

#[test]
fn nothing_can_be_answered_before_it_is_delivered() {
    use RuntimeState as S;
    for state in [S::RestoreReady, S::Restoring, S::RestoreError] {
        for upload in [S::InvocationResponse, S::InvocationErrorResponse] {
            assert_eq!(in_state(state).begin("id", upload), Err(Refusal::InvalidRequestId), "{state:?}");
        }
    }
}

#[test]
fn a_restore_error_is_for_a_restore_and_an_init_error_counts_as_one() {
    use RuntimeState as S;
    for state in [
        S::Started,
        S::InitError,
        S::Ready,
        S::Running,
        S::InvocationResponse,
        S::InvocationErrorResponse,
        S::ResponseSent,
        S::RestoreReady,
        S::RestoreError,
    ] {
        let mut environment = in_state(state);
        assert_eq!(environment.restore_error("{}"), Err(forbidden(state, S::RestoreError)));
        if state != S::Started {
            assert_eq!(environment.init_error("{}"), Err(forbidden(state, S::InitError)));
        }
        assert!(matches!(environment.lifecycle.state, now if now == state));
    }
    let mut environment = in_state(S::Restoring);
    environment.init_error("{}").unwrap();
    assert_eq!(environment.lifecycle.state, S::RestoreError);
    assert!(log(&environment.result()).contains(
        "RESTORE_START Runtime Version: unknown\tRuntime Version ARN: unknown\n\
         RESTORE_REPORT Restore Duration: 0.00 ms\tStatus: error\tError Type: Runtime.ImportModuleError\nSTART "
    ));
}

// ---- the ordinary course -------------------------------------------------------------------------------------------

#[test]
fn the_first_invocation_is_initialised_restored_and_served() {
    let mut environment = snap_start();
    environment.submit("a");
    assert!(environment.lifecycle.sandbox.take_start());
    environment.pass(Duration::from_millis(5));
    let _process = environment.started();
    environment.pass(Duration::from_millis(95));
    assert!(matches!(environment.restore_next(), NextPoll::Deliver(())));
    environment.pass(Duration::from_micros(2500));
    environment.delivered();
    environment.pass(Duration::from_millis(10));
    environment.respond("a", "1").unwrap();
    environment.next();
    let result = environment.result();
    assert_eq!(result.status, InvocationStatus::Success);
    assert_eq!(result.init_duration, Some(Duration::from_millis(100)));
    assert_eq!(result.restore_duration, Some(Duration::from_micros(2500)));
    assert_eq!(result.duration, Duration::from_millis(10));
    assert_eq!(result.billed_duration_ms, 13, "the restore is billed, the init of a snapshot is not");
    assert_eq!(result.phases.queued, Some(Duration::ZERO));
    assert_eq!(result.phases.process_start, Some(Duration::from_millis(5)));
    assert_eq!(result.phases.runtime_init, Some(Duration::from_millis(95)));
    assert_eq!(result.phases.restore, Some(Duration::from_micros(2500)));
    let lines: Vec<&str> = log(&result).lines().collect();
    assert_eq!(lines[0], "INIT_REPORT Init Duration: 100.00 ms");
    assert_eq!(lines[1], "RESTORE_START Runtime Version: unknown\tRuntime Version ARN: unknown");
    assert_eq!(lines[2], "RESTORE_REPORT Restore Duration: 2.50 ms");
    assert_eq!(lines[3], "START RequestId: a Version: $LATEST");
    assert!(
        lines[5].ends_with(" MB\tRestore Duration: 2.50 ms\tBilled Restore Duration: 3 ms\t"),
        "{}",
        lines[5]
    );
    assert!(!lines[5].contains("Init Duration"));
    environment.submit("b");
    environment.delivered();
    environment.respond("b", "1").unwrap();
    environment.next();
    let second = environment.result();
    assert_eq!((second.init_duration, second.restore_duration), (None, None));
    assert!(log(&second).starts_with("START RequestId: b"));
}

#[test]
fn a_runtime_that_is_quicker_than_its_starter_is_restored_when_it_is_known() {
    let mut environment = snap_start();
    environment.submit("id");
    assert!(environment.lifecycle.sandbox.take_start());
    environment.lifecycle.sandbox.process_starting();
    assert!(matches!(environment.restore_next(), NextPoll::Pending));
    let _process = environment.started();
    assert_eq!(environment.lifecycle.sandbox.effects.pollers.len(), 1, "it is woken");
    assert!(matches!(environment.restore_next(), NextPoll::Deliver(())));
}

#[test]
fn a_process_that_waits_for_its_restore_gets_it_with_the_first_invocation() {
    let mut environment = snap_start();
    let _process = environment.started();
    assert!(matches!(environment.restore_next(), NextPoll::Pending));
    environment.pass(Duration::from_secs(3600));
    environment.submit("id");
    assert!(!environment.lifecycle.sandbox.take_start(), "there is a process already");
    assert_eq!(environment.lifecycle.sandbox.effects.pollers.len(), 1, "the poller is woken");
    assert!(matches!(environment.restore_next(), NextPoll::Deliver(())));
    environment.delivered();
    environment.respond("id", "42").unwrap();
    environment.next();
    let result = environment.result();
    assert_eq!(text(&result), "42");
    assert_eq!(result.duration, Duration::ZERO);
}

#[test]
fn who_comes_during_a_restore_waits_and_is_not_timed_out_by_it() {
    let (mut environment, _process) = restoring();
    environment.submit("second");
    environment.pass(TIMEOUT + Duration::from_secs(1));
    assert!(environment.finished().is_none());
    for id in ["id", "second"] {
        environment.delivered();
        environment.respond(id, "1").unwrap();
    }
    environment.next();
    assert_eq!(environment.result().status, InvocationStatus::Success);
    assert_eq!(environment.result().status, InvocationStatus::Success);
}

#[test]
fn a_runtime_without_restore_is_served_at_once() {
    let mut environment = snap_start();
    environment.submit("id");
    let _process = environment.started();
    environment.pass(Duration::from_millis(40));
    environment.delivered();
    environment.respond("id", "1").unwrap();
    environment.next();
    let result = environment.result();
    assert_eq!(result.restore_duration, None);
    assert_eq!(result.init_duration, Some(Duration::from_millis(40)));
    assert_eq!(result.billed_duration_ms, 0);
    assert!(log(&result).starts_with("INIT_REPORT Init Duration: 40.00 ms\nSTART RequestId: id"));
    assert!(log(&result).ends_with(" MB\t\n"));
}

#[test]
fn a_runtime_that_nobody_asked_for_can_be_restored_too() {
    let mut environment = in_state(RuntimeState::RestoreReady);
    environment.submit("id");
    assert!(!environment.lifecycle.sandbox.take_start());
    assert!(matches!(environment.restore_next(), NextPoll::Deliver(())));
    environment.delivered();
    environment.respond("id", "1").unwrap();
    environment.next();
    let result = environment.result();
    assert_eq!((result.init_duration, result.restore_duration), (None, Some(Duration::ZERO)));
    assert!(log(&result).starts_with("RESTORE_START "));
}

// ---- failures ------------------------------------------------------------------------------------------------------

#[test]
fn a_failed_hook_is_the_answer_of_the_waiting_invocation_and_the_process_must_go() {
    let (mut environment, mut process) = restoring();
    environment.submit("second");
    environment.pass(Duration::from_millis(30));
    environment.restore_error(r#"{"errorMessage":"no","errorType":"ValueError"}"#).unwrap();
    assert!(environment.finished().is_none(), "what the process still prints belongs to it");
    environment.pass(EXIT_GRACE);
    assert!(!process.0.wait().unwrap().success(), "it did not exit by itself and was killed");
    environment.exited(&process, KILLED);
    let result = environment.result();
    assert_eq!(text(&result), r#"{"errorMessage":"no","errorType":"ValueError"}"#);
    assert_eq!(
        (result.status, result.error_type.as_deref()),
        (InvocationStatus::Error, Some("Runtime.AfterRestoreError"))
    );
    assert_eq!((result.init_duration, result.restore_duration), (None, None));
    let lines: Vec<&str> = log(&result).lines().collect();
    assert_eq!(
        lines[2],
        "RESTORE_REPORT Restore Duration: 30.00 ms\tStatus: error\tError Type: Runtime.AfterRestoreError"
    );
    assert!(lines[5].ends_with("\tStatus: error\tError Type: Runtime.AfterRestoreError"));
    assert!(environment.lifecycle.sandbox.take_start(), "the second invocation has a new process");
    assert!(environment.finished().is_none());
}

#[test]
fn a_restore_without_end_is_killed_and_the_invocation_told() {
    let (mut environment, mut process) = restoring();
    environment.pass(RESTORE_TIMEOUT);
    assert!(!process.0.wait().unwrap().success());
    environment.exited(&process, KILLED);
    let result = environment.result();
    assert_eq!(result.status, InvocationStatus::Timeout);
    assert_eq!(
        text(&result),
        r#"{"errorType":"Runtime.RestoreHookUserTimeout","errorMessage":"RequestId: id Error: Task timed out after 10.00 seconds in the Restore phase"}"#
    );
    assert!(log(&result).contains("RESTORE_REPORT Restore Duration: 10000.00 ms\tStatus: timeout\nSTART "));
    environment.submit("next");
    assert!(environment.lifecycle.sandbox.take_start());
}

#[test]
fn a_restore_of_nobodys_child_times_out_too_and_a_process_is_wanted_then() {
    let mut environment = in_state(RuntimeState::Restoring);
    environment.submit("second");
    environment.pass(RESTORE_TIMEOUT);
    assert_eq!(environment.result().answer.request_id, "id");
    assert!(environment.lifecycle.sandbox.take_start());
}

#[test]
fn a_debugger_stops_the_clock_of_a_restore() {
    let (mut environment, _process) = restoring();
    environment.lifecycle.pause_timeout();
    environment.pass(Duration::from_secs(600));
    environment.delivered();
    environment.respond("id", "42").unwrap();
    environment.next();
    assert_eq!(environment.result().status, InvocationStatus::Success);
}

#[test]
fn an_exit_in_a_restore_fails_the_waiting_invocation() {
    let (mut environment, process) = restoring();
    environment.exited(&process, Exit::Status(3));
    let result = environment.result();
    assert_eq!(
        text(&result),
        r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: id Error: Runtime exited with error: exit status 3"}"#
    );
    assert!(log(&result).contains(
        "RESTORE_REPORT Restore Duration: 0.00 ms\tStatus: error\tError Type: Runtime.ExitError\n"
    ));
}

#[test]
fn an_exit_before_the_restore_leads_to_a_new_process_at_the_next_invocation() {
    let mut environment = snap_start();
    let process = environment.started();
    environment.restore_next();
    environment.exited(&process, Exit::Status(0));
    assert!(!environment.lifecycle.sandbox.take_start());
    environment.submit("id");
    assert!(environment.lifecycle.sandbox.take_start());
}

#[test]
fn a_live_process_that_gave_up_its_wait_does_not_hang_the_caller() {
    let mut environment = snap_start();
    let process = environment.started();
    environment.restore_next();
    environment.lifecycle.drop_poller(0, environment.now);
    environment.submit("id");
    environment.pass(TIMEOUT);
    environment.exited(&process, KILLED);
    assert_eq!(environment.result().status, InvocationStatus::Timeout);
}

#[test]
fn an_init_error_is_the_answer_of_the_waiting_invocation() {
    let mut environment = snap_start();
    environment.submit("id");
    let process = environment.started();
    environment.init_error(r#"{"errorType":"ValueError"}"#).unwrap();
    environment.exited(&process, Exit::Status(64));
    let result = environment.result();
    assert_eq!(text(&result), r#"{"errorType":"ValueError"}"#);
    assert!(log(&result).starts_with("INIT_REPORT Init Duration: 0.00 ms\tPhase: init\tStatus: error"));
    assert!(!environment.lifecycle.sandbox.take_start(), "the init of a snapshot belongs to no invocation");
}

#[test]
fn an_init_error_that_nobody_waited_for_is_the_first_invocations_answer() {
    let mut environment = snap_start();
    let process = environment.started();
    environment.init_error("{}").unwrap();
    environment.exited(&process, Exit::Status(64));
    environment.submit("id");
    assert_eq!(text(&environment.result()), "{}");
    environment.submit("next");
    assert!(environment.lifecycle.sandbox.take_start(), "after that a new process is tried");
}

#[test]
fn an_init_without_end_is_killed_and_the_waiting_invocation_told() {
    let mut environment = snap_start();
    environment.submit("id");
    let mut process = environment.started();
    environment.pass(INIT_TIMEOUT);
    assert!(!process.0.wait().unwrap().success());
    environment.exited(&process, KILLED);
    let result = environment.result();
    assert_eq!(result.status, InvocationStatus::Timeout);
    assert!(text(&result).contains("Sandbox.Timedout") && text(&result).contains("Init phase"));
    assert!(
        log(&result).starts_with("INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout\n")
    );
}

#[test]
fn after_a_crash_the_function_is_initialised_and_restored_anew() {
    let mut environment = snap_start();
    environment.submit("id");
    let process = environment.started();
    assert!(matches!(environment.restore_next(), NextPoll::Deliver(())));
    environment.delivered();
    environment.exited(&process, Exit::Status(1));
    environment.result();
    environment.submit("second");
    let _process = environment.started();
    assert!(matches!(environment.restore_next(), NextPoll::Deliver(())));
    environment.delivered();
    environment.respond("second", "2").unwrap();
    environment.next();
    let result = environment.result();
    assert!(result.init_duration.is_some() && result.restore_duration.is_some());
}

#[test]
fn closing_fails_who_waits_for_a_restore() {
    let (mut environment, process) = restoring();
    environment.lifecycle.close(environment.now);
    environment.exited(&process, KILLED);
    assert_eq!(environment.result().failure_type().unwrap(), "Sandbox.Failure");
    assert!(environment.finished().is_none());
}

#[test]
fn an_init_ahead_of_time_may_take_longer() {
    let seconds = Duration::from_secs;
    assert_eq!(EnvironmentConfig::init_limit(false, seconds(900)), seconds(10));
    assert_eq!(EnvironmentConfig::init_limit(true, seconds(3)), seconds(130));
    assert_eq!(EnvironmentConfig::init_limit(true, seconds(900)), seconds(900));
}
