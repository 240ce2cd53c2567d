mod extensions;

use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::*;
use crate::invocation::{InvocationRequest, InvokeResult, JSON, Waiter};
use crate::process::Exit;

const TIMEOUT: Duration = Duration::from_secs(3);
const SLOTS: usize = 3;

struct Environment {
    machine: Managed,
    results: Receiver<InvokeResult>,
    sender: mpsc::Sender<InvokeResult>,
    now: Instant,
}

/// A child that does nothing, as the environment's main process.
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
        let max_concurrency = NonZeroUsize::new(SLOTS);
        let config = EnvironmentConfig { keep_log: true, max_concurrency, ..config };
        let now = Instant::now();
        Self { machine: Managed::new(config, SLOTS, now), results, sender, now }
    }

    /// With so many invocations delivered, called `a`, `b`, ...
    fn running(count: u8) -> Self {
        let mut environment = Self::new();
        for poller in 0..count {
            environment.submit(char::from(b'a' + poller).to_string().as_str());
            environment.delivered(u64::from(poller));
        }
        environment
    }

    fn started(&mut self) -> Process {
        assert!(self.machine.sandbox.take_start());
        self.known()
    }

    fn known(&mut self) -> Process {
        let process = Process::new();
        self.machine.process_started(RuntimeProcess::new(process.pid(), true), self.now).unwrap();
        process
    }

    fn submit(&mut self, request_id: &str) {
        let request =
            InvocationRequest { request_id: Some(request_id.to_owned()), ..InvocationRequest::default() };
        let sender = self.sender.clone();
        let waiter = Waiter::Finish(Box::new(move |result| sender.send(result).unwrap()));
        let invocation = Invocation::new(request, TIMEOUT, waiter, self.now).unwrap();
        self.machine.submit([invocation], self.now).unwrap();
    }

    fn next(&mut self, poller: u64) -> NextPoll {
        self.machine.poll_next(poller, Waker::noop(), self.now)
    }

    fn waits(&mut self, poller: u64) {
        assert!(matches!(self.next(poller), NextPoll::Pending));
    }

    fn delivered(&mut self, poller: u64) -> Delivery {
        match self.next(poller) {
            NextPoll::Deliver(delivery) => *delivery,
            other => panic!("no event: {other:?}"),
        }
    }

    fn respond(&mut self, request_id: &str, payload: &'static str) -> Result<(), Refusal> {
        let attempt = self.machine.begin_answer(request_id, None, self.now)?;
        let posted = Posted::Response { payload: payload.into(), content_type: None };
        self.machine.finish_answer(attempt, posted, self.now)
    }

    fn init_error(&mut self, payload: &'static str) -> Result<(), Refusal> {
        let error_type = "Runtime.ImportModuleError".to_owned();
        self.machine.finish_init_error(payload.into(), JSON, error_type, self.now)
    }

    fn exited(&mut self, process: &Process, status: i32) {
        let ended = process::Ended { exit: Exit::Status(status), max_rss_kb: 0 };
        self.machine.process_exited(process.pid(), ended, self.now);
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.machine.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.machine.expire(self.now);
        }
        self.now = until;
    }

    fn finished(&mut self) -> Option<InvokeResult> {
        for (waiter, result) in std::mem::take(&mut self.machine.sandbox.effects.finishes) {
            waiter(*result);
        }
        self.results.try_recv().ok()
    }

    fn result(&mut self) -> InvokeResult {
        self.finished().expect("no invocation is finished")
    }
}

fn text(result: &InvokeResult) -> &str {
    std::str::from_utf8(&result.answer.payload).unwrap()
}

fn log(result: &InvokeResult) -> &str {
    std::str::from_utf8(&result.log).unwrap()
}

// ---- slots --------------------------------------------------------------------------------------------------------

#[test]
fn polling_with_an_answer_owed_gives_a_new_event() {
    let mut environment = Environment::new();
    environment.submit("a");
    environment.submit("b");
    assert_eq!(environment.delivered(1).request_id, "a");
    assert_eq!(environment.delivered(1).request_id, "b");
    environment.waits(1);
}

#[test]
fn answers_may_come_in_any_order() {
    let mut environment = Environment::running(3);
    for request_id in ["c", "a", "b"] {
        environment.respond(request_id, "1").unwrap();
        let result = environment.result();
        assert_eq!((result.answer.request_id.as_str(), text(&result)), (request_id, "1"));
        assert!(environment.finished().is_none(), "an answer finishes its own invocation only");
    }
}

#[test]
fn one_poller_more_than_there_are_slots_is_refused() {
    let mut environment = Environment::new();
    for poller in [1, 2, 3, 1] {
        environment.waits(poller);
    }
    assert!(matches!(environment.next(4), NextPoll::Refused(Refusal::TooManyIdleRuntimes)));
    environment.machine.drop_poller(2, environment.now);
    environment.waits(4);
}

#[test]
fn busy_slots_do_not_count_as_idle() {
    let mut environment = Environment::running(3);
    for poller in [1, 2, 3] {
        environment.waits(poller);
    }
    environment.submit("d");
    assert_eq!(environment.delivered(2).request_id, "d");
}

#[test]
fn as_many_pollers_are_woken_as_invocations_wait_and_the_longest_waiting_first() {
    let mut environment = Environment::new();
    for poller in [1, 2, 3] {
        environment.waits(poller);
    }
    environment.submit("a");
    assert_eq!(environment.machine.sandbox.effects.pollers.len(), 1);
    environment.machine.sandbox.effects.pollers.clear();
    environment.submit("b");
    assert_eq!(environment.machine.sandbox.effects.pollers.len(), 2, "the first has not looked yet");
}

#[test]
fn the_successor_of_a_woken_poller_that_hung_up_is_woken() {
    let mut environment = Environment::new();
    environment.waits(1);
    environment.waits(2);
    environment.submit("a");
    environment.machine.sandbox.effects.pollers.clear();
    environment.machine.drop_poller(1, environment.now);
    assert_eq!(environment.machine.sandbox.effects.pollers.len(), 1);
    assert_eq!(environment.delivered(2).request_id, "a");
}

#[test]
fn an_invocation_waits_while_all_are_busy() {
    let mut environment = Environment::running(1);
    environment.submit("later");
    environment.pass(TIMEOUT / 2);
    assert!(environment.finished().is_none());
    environment.respond("a", "1").unwrap();
    environment.result();
    assert_eq!(environment.delivered(1).request_id, "later");
}

#[test]
fn each_attempt_has_an_invocation_id_and_a_foreign_one_is_gone() {
    let mut environment = Environment::new();
    environment.submit("a");
    environment.submit("b");
    let (a, b) = (environment.delivered(1), environment.delivered(2));
    assert_ne!(a.invocation_id, b.invocation_id);
    let foreign = Some(b.invocation_id.as_bytes());
    assert_eq!(environment.machine.begin_answer("a", foreign, environment.now), Err(Refusal::OtherAttempt));
    assert!(environment.machine.begin_answer("a", Some(a.invocation_id.as_bytes()), environment.now).is_ok());
}

// ---- answers that are not taken -------------------------------------------------------------------------------------

#[test]
fn unknown_second_and_parallel_answers_are_refused() {
    let mut environment = Environment::running(1);
    assert_eq!(environment.respond("unknown", "1"), Err(Refusal::InvalidRequestId));
    let attempt = environment.machine.begin_answer("a", None, environment.now).unwrap();
    assert_eq!(environment.machine.begin_answer("a", None, environment.now), Err(Refusal::InvalidRequestId));
    let posted = Posted::Response { payload: "1".into(), content_type: None };
    environment.machine.finish_answer(attempt, posted, environment.now).unwrap();
    assert_eq!(environment.respond("a", "2"), Err(Refusal::InvalidRequestId));
    assert_eq!(text(&environment.result()), "1");
}

#[test]
fn a_timeout_ends_the_invocation_and_nothing_else() {
    let mut environment = Environment::new();
    let _process = environment.started();
    environment.submit("a");
    environment.delivered(1);
    environment.pass(TIMEOUT / 2);
    environment.submit("b");
    environment.delivered(2);
    environment.pass(TIMEOUT / 2);
    let result = environment.result();
    assert_eq!(
        text(&result),
        r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: a Error: Task timed out after 3.00 seconds"}"#
    );
    assert_eq!(result.status, InvocationStatus::Timeout);
    assert!(environment.machine.sandbox.ending.is_none(), "nothing is killed");
    environment.respond("b", "2").unwrap();
    assert_eq!(text(&environment.result()), "2");
}

#[test]
fn a_late_answer_is_gone_once_and_unknown_after_that() {
    let mut environment = Environment::running(2);
    let upload = environment.machine.begin_answer("b", None, environment.now).unwrap();
    environment.pass(TIMEOUT);
    assert_eq!(environment.respond("a", "1"), Err(Refusal::InvokeTimeout));
    assert_eq!(environment.respond("a", "1"), Err(Refusal::InvalidRequestId));
    let posted = Posted::Response { payload: "1".into(), content_type: None };
    let late = environment.machine.finish_answer(upload, posted, environment.now);
    assert_eq!(late, Err(Refusal::InvokeTimeout), "the limit passed while it was sent");
    assert_eq!(environment.respond("b", "1"), Err(Refusal::InvalidRequestId));
}

#[test]
fn the_last_thousand_timeouts_are_remembered() {
    let mut environment = Environment::new();
    for number in 0..=EXPIRED {
        environment.submit(&number.to_string());
        environment.delivered(1);
    }
    environment.pass(TIMEOUT);
    assert_eq!(environment.respond("0", "1"), Err(Refusal::InvalidRequestId));
    assert_eq!(environment.respond("1", "1"), Err(Refusal::InvokeTimeout));
}

#[test]
fn a_clock_that_is_put_forward_ends_invocations_and_gives_no_kill_up() {
    let mut environment = Environment::new();
    let process = environment.started();
    environment.submit("a");
    environment.delivered(1);
    assert_eq!(environment.machine.handed_out(), 1);
    let jump = |environment: &mut Environment| {
        environment.now += TIMEOUT;
        environment.machine.skip(TIMEOUT);
        environment.machine.expire(environment.now);
    };
    jump(&mut environment);
    assert_eq!(environment.result().status, InvocationStatus::Timeout);
    assert_eq!(environment.machine.handed_out(), 0);
    environment.machine.close_for(ShutdownReason::Spindown, environment.now);
    jump(&mut environment);
    assert!(environment.machine.sandbox.has_process());
    environment.exited(&process, 0);
    assert!(!environment.machine.sandbox.has_process());
}

#[test]
fn an_id_that_is_running_is_not_given_out_again() {
    let mut environment = Environment::running(1);
    environment.submit("a");
    environment.submit("b");
    assert_eq!(environment.delivered(2).request_id, "b");
    assert!(text(&environment.result()).contains("Client.DuplicatedInvokeId"));
    environment.respond("a", "1").unwrap();
    assert_eq!(text(&environment.result()), "1");
}

#[test]
fn workers_that_all_hang_do_not_hang_the_next_caller() {
    let mut environment = Environment::running(1);
    environment.pass(TIMEOUT);
    environment.result();
    environment.submit("b");
    environment.pass(TIMEOUT);
    assert!(text(&environment.result()).contains("Sandbox.Timedout"));
}

#[test]
fn a_debugger_stops_every_clock_of_this_moment() {
    let mut environment = Environment::running(2);
    environment.machine.pause_timeout();
    environment.pass(TIMEOUT * 10);
    assert!(environment.finished().is_none());
    environment.respond("a", "1").unwrap();
    assert_eq!(environment.result().status, InvocationStatus::Success);
}

// ---- init -----------------------------------------------------------------------------------------------------------

#[test]
fn a_process_is_wanted_at_once_and_initialised_by_the_first_poll() {
    let mut environment = Environment::new();
    let _process = environment.started();
    assert!(!environment.machine.sandbox.take_start());
    environment.now += Duration::from_millis(20);
    environment.waits(1);
    environment.submit("a");
    environment.delivered(1);
    environment.respond("a", "1").unwrap();
    assert_eq!(environment.result().init_duration, Some(Duration::from_millis(20)));
    environment.submit("b");
    environment.delivered(2);
    environment.respond("b", "1").unwrap();
    assert_eq!(environment.result().init_duration, None);
}

#[test]
fn the_first_init_error_counts_and_the_others_are_refused() {
    let mut environment = Environment::new();
    let process = environment.started();
    environment.submit("a");
    environment.submit("b");
    environment.init_error("\"first\"").unwrap();
    let refused = refuse(RuntimeState::InitError, RuntimeState::InitError);
    assert_eq!(environment.init_error("\"second\""), Err(refused));
    assert!(matches!(environment.next(1), NextPoll::Refused(_)));
    for _ in 0..2 {
        assert_eq!(text(&environment.result()), "\"first\"", "everybody who waits gets it");
    }
    environment.exited(&process, 1);
    environment.submit("c");
    assert!(environment.machine.sandbox.take_start(), "the next invocation gets a new environment");
}

#[test]
fn an_init_error_after_the_first_poll_is_refused() {
    let mut environment = Environment::new();
    environment.waits(1);
    let refused = refuse(RuntimeState::Ready, RuntimeState::InitError);
    assert_eq!(environment.init_error("{}"), Err(refused));
}

#[test]
fn an_init_error_nobody_waited_for_is_the_first_invocations_answer() {
    let mut environment = Environment::new();
    let process = environment.started();
    environment.init_error("\"early\"").unwrap();
    environment.exited(&process, 1);
    environment.submit("a");
    let result = environment.result();
    assert_eq!(text(&result), "\"early\"");
    assert_eq!(result.error_type.as_deref(), Some("Runtime.ImportModuleError"));
}

#[test]
fn a_runtime_that_reports_and_stays_is_killed() {
    let mut environment = Environment::new();
    let mut process = environment.started();
    environment.init_error("{}").unwrap();
    environment.pass(EXIT_GRACE);
    assert!(process.0.wait().unwrap().code().is_none(), "ended by a signal");
}

#[test]
fn an_init_without_end_is_killed_and_who_waits_is_told() {
    let mut environment = Environment::new();
    let mut process = environment.started();
    environment.submit("a");
    environment.pass(EnvironmentConfig::default().init_timeout);
    assert!(text(&environment.result()).contains("in the Init phase"));
    assert!(process.0.wait().unwrap().code().is_none(), "ended by a signal");
}

#[test]
fn an_exit_in_init_fails_who_waits() {
    let mut environment = Environment::new();
    let process = environment.started();
    environment.submit("a");
    environment.exited(&process, 3);
    let result = environment.result();
    assert_eq!(result.error_type.as_deref(), Some("Runtime.ExitError"));
    assert!(log(&result).contains("INIT_REPORT"), "{}", log(&result));
}

#[test]
fn a_start_that_failed_is_an_invalid_entry_point() {
    let mut environment = Environment::new();
    assert!(environment.machine.sandbox.take_start());
    environment.submit("a");
    environment.machine.start_failed("no such program", environment.now);
    assert!(text(&environment.result()).contains("Runtime.InvalidEntrypoint"));
}

// ---- the end --------------------------------------------------------------------------------------------------------

#[test]
fn the_main_processs_exit_fails_everything_that_runs() {
    let mut environment = Environment::new();
    let process = environment.started();
    for (poller, request_id) in [(1, "a"), (2, "b")] {
        environment.submit(request_id);
        environment.delivered(poller);
    }
    environment.waits(3);
    environment.exited(&process, 9);
    for request_id in ["a", "b"] {
        let expected = format!(
            "{{\"errorType\":\"Runtime.ExitError\",\"errorMessage\":\"RequestId: {request_id} Error: Runtime \
             exited with error: exit status 9\"}}"
        );
        assert_eq!(text(&environment.result()), expected);
    }
    environment.submit("c");
    assert!(environment.machine.sandbox.take_start());
}

#[test]
fn what_waits_for_a_slot_outlives_the_main_process() {
    let mut environment = Environment::new();
    let process = environment.started();
    environment.submit("a");
    environment.delivered(1);
    environment.submit("b");
    environment.exited(&process, 1);
    assert_eq!(environment.result().answer.request_id, "a");
    assert!(environment.machine.sandbox.take_start());
    assert_eq!(environment.delivered(1).request_id, "b");
}

#[test]
fn closing_fails_what_runs_and_what_waits_and_kills() {
    let mut environment = Environment::new();
    let mut process = environment.started();
    environment.submit("a");
    environment.delivered(1);
    environment.submit("b");
    environment.machine.close_for(ShutdownReason::Spindown, environment.now);
    for _ in 0..2 {
        assert!(text(&environment.result()).contains("Sandbox.Failure"));
    }
    assert!(process.0.wait().unwrap().code().is_none(), "ended by a signal");
    assert!(environment.machine.submit([], environment.now).is_err());
}

// ---- logs -----------------------------------------------------------------------------------------------------------

#[test]
fn each_invocation_has_the_log_from_its_start_to_its_report() {
    let mut environment = Environment::running(2);
    environment.machine.sandbox.log.write_lines("from a handler\n");
    environment.respond("a", "1").unwrap();
    environment.respond("b", "1").unwrap();
    let (a, b) = (environment.result(), environment.result());
    assert!(log(&a).starts_with("START RequestId: a "), "{}", log(&a));
    assert!(log(&b).starts_with("START RequestId: b "), "{}", log(&b));
    for result in [&a, &b] {
        assert!(log(result).contains("from a handler\n"));
        let id = &result.answer.request_id;
        assert!(log(result).lines().last().unwrap().starts_with(&format!("REPORT RequestId: {id}\t")));
        assert_eq!(result.log_tail, result.log, "all of it fits the tail");
    }
    assert!(!log(&a).contains("END RequestId: b"));
    environment.submit("c");
    environment.delivered(1);
    environment.respond("c", "1").unwrap();
    assert!(log(&environment.result()).starts_with("START RequestId: c "), "the log begins anew");
}

#[test]
fn a_worker_that_is_quicker_than_the_starter_is_served_when_the_process_is_known() {
    let mut environment = Environment::new();
    environment.submit("a");
    assert!(environment.machine.sandbox.take_start());
    environment.machine.sandbox.process_starting();
    environment.waits(0);
    let _process = environment.known();
    assert_eq!(environment.machine.sandbox.effects.pollers.len(), 1, "it is woken");
    environment.delivered(0);
    environment.respond("a", "1").unwrap();
    let result = environment.finished().unwrap();
    assert!(result.max_memory_used_mb > 0, "it was measured");
    assert!(result.init_duration.is_some());
}

// ---- retiring ------------------------------------------------------------------------------------------------------

#[test]
fn what_waits_can_be_taken_and_what_runs_is_over_when_all_is_answered() {
    let mut environment = Environment::running(2);
    environment.submit("waiting");
    let taken: Vec<_> = environment.machine.take_waiting().into_iter().map(|one| one.request_id).collect();
    assert_eq!(taken, ["waiting"]);
    environment.respond("a", "1").unwrap();
    assert!(!environment.machine.has_no_invocation());
    environment.respond("b", "2").unwrap();
    assert!(environment.machine.has_no_invocation());
}
