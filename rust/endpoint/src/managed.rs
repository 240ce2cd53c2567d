//! The state machine of an environment of Lambda Managed Instances (spec runtime-api 6.1 and 6.5): as many
//! invocations at once as it has slots.
//!
//! There is no state of the runtime as a whole, as [`crate::lifecycle`] has one. Each `GET /next` is a slot that waits
//! for an event, in a queue with a bound; an answer names its invocation, and that is over with it. A time limit ends
//! the invocation for its caller and leaves the code running; the end of the main process ends everything.

mod extensions;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::environment::{Activity, EnvironmentConfig};
use crate::error::EndpointError;
use crate::error_document::{self, ErrorDocument};
use crate::extensions::ShutdownReason;
use crate::invocation::{Invocation, InvocationStatus};
use crate::lifecycle::current::{Current, FreshInit, Outcome};
use crate::lifecycle::processes::{Init, InitFailure, InitFailureCause};
use crate::lifecycle::{Delivery, NextPoll, Posted, Refusal, RuntimeState, closed_document};
use crate::platform_log;
use crate::process::{self, RuntimeProcess};
use crate::response_stream::PieceSender;
use crate::sandbox::{EXIT_GRACE, Ended, Ending, Launch, ProcessSlot, Sandbox};
use crate::telemetry::InitPhase;

/// So many invocations that timed out are remembered, to tell a late answer (410) from a foreign one (400).
const EXPIRED: usize = 1000;
/// The memory of a whole tree of processes is looked at no more often than this.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);

/// How far the environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No `/next` has come yet from this process, or there is none.
    Starting,
    /// A worker has asked for an event, and an extension has not.
    RuntimeReady,
    /// A worker reported that initialisation failed; the process is to end.
    InitError,
    /// At least one worker has asked for an event, and so has every extension.
    Serving,
}

/// An invocation that a worker was given and has not answered completely.
struct Running {
    current: Current,
    /// Its answer is being received.
    uploading: bool,
    /// Where its part of the log begins.
    log_from: u64,
}

/// The state of one environment with several slots.
pub struct Managed {
    pub sandbox: Sandbox,
    slots: usize,
    phase: Phase,
    init: Option<Init>,
    fresh: Option<FreshInit>,
    init_failure: Option<InitFailure>,
    queue: VecDeque<Invocation>,
    running: Vec<Running>,
    /// Pollers that wait for an event, the one that has waited longest first.
    idle: Vec<(u64, Waker)>,
    /// Until when waiting invocations bear with a live process none of whose workers polls or owes an answer.
    stalled: Option<Instant>,
    attempts: u64,
    expired: VecDeque<(u64, String)>,
    peak_seen: Option<Instant>,
}

impl Managed {
    /// See [`crate::lifecycle::Lifecycle::activity`].
    pub fn activity(&self) -> Activity {
        // One whose init fails is replaced.
        Activity { initialising: self.phase != Phase::Serving, init_failed: false, frozen: false }
    }

    /// An environment with `slots` slots, which wants its process at once: Managed Instances are started ahead of
    /// invocations.
    pub fn new(config: EnvironmentConfig, slots: usize, now: Instant) -> Self {
        let mut machine = Self {
            sandbox: Sandbox::new(config),
            slots,
            phase: Phase::Starting,
            init: None,
            fresh: None,
            init_failure: None,
            queue: VecDeque::new(),
            running: Vec::new(),
            idle: Vec::new(),
            stalled: None,
            attempts: 0,
            expired: VecDeque::new(),
            peak_seen: None,
        };
        machine.sandbox.want_process();
        // The clock starts with the first process: how long the caller takes to start one is not the function's time.
        machine.begin_init(None, now);
        machine
    }

    // ---- the invoker's side ------------------------------------------------------------------------------------

    /// Take invocations into the queue. Where AWS routes one elsewhere because all slots are busy, it waits here.
    pub fn submit(
        &mut self,
        invocations: impl IntoIterator<Item = Invocation>,
        now: Instant,
    ) -> Result<(), EndpointError> {
        if self.sandbox.closed {
            return Err(EndpointError::Closed);
        }
        self.queue.extend(invocations);
        self.pump(now);
        Ok(())
    }

    /// Give away what waits: no worker has it yet.
    pub fn take_waiting(&mut self) -> Vec<Invocation> {
        self.stalled = None;
        self.queue.drain(..).collect()
    }

    /// Whether none waits, and none runs. What a worker does after its answer is not seen here.
    pub fn has_no_invocation(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    /// The time limits of what runs now are off until it ends: a person is looking at it in a debugger.
    pub fn pause_timeout(&mut self) {
        for running in &mut self.running {
            running.current.deadline = None;
            running.current.paused = true;
        }
        if let Some(init) = &mut self.init {
            init.deadline = None;
        }
    }

    /// End it all, as in the Shutdown phase, and tell who waits. Extensions are told `reason`.
    pub fn close_for(&mut self, reason: ShutdownReason, now: Instant) {
        if self.sandbox.closed {
            return;
        }
        self.sandbox.closed = true;
        self.sandbox.effects.process_changed = true;
        self.init = None;
        self.init_failure = None;
        for running in std::mem::take(&mut self.running) {
            let failure = closed_document(&running.current.invocation.request_id);
            self.fail(running, failure, InvocationStatus::Error, now);
        }
        while let Some(invocation) = self.queue.pop_front() {
            let failure = closed_document(&invocation.request_id);
            self.fail_undelivered(invocation, failure, InvocationStatus::Error, now);
        }
        if !self.end_processes(reason, now) {
            self.process_gone(now);
        }
    }

    // ---- time --------------------------------------------------------------------------------------------------

    /// When the timer must look next; it sleeps until then or until [`Effects::timer_changed`].
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let others = [self.init.as_ref().and_then(|init| init.deadline), self.stalled];
        let others = self.sandbox.deadlines().into_iter().chain(others);
        let running = self.running.iter().filter_map(|running| running.current.deadline);
        self.sandbox.armed = others.flatten().chain(running).min();
        self.sandbox.armed
    }

    /// Act on every deadline that has passed.
    pub fn expire(&mut self, now: Instant) {
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if self.sandbox.expire_ending(now) {
            self.process_gone(now);
        }
        if passed(self.init.as_ref().and_then(|init| init.deadline)) {
            let failure = InitFailure {
                status: InvocationStatus::Timeout,
                error_type: error_document::SANDBOX_TIMEDOUT.to_owned(),
                cause: InitFailureCause::Timeout(self.sandbox.config.init_timeout),
            };
            self.fail_init(failure, now);
            if !self.end_processes(ShutdownReason::Failure, now) {
                self.process_gone(now);
            }
        }
        while let Some(index) = self.running.iter().position(|running| passed(running.current.deadline)) {
            // The code goes on: nothing here can stop one worker's handler. Its answer will be late.
            let mut running = self.running.remove(index);
            running.current.outcome = Some(Outcome::timeout());
            let invocation = &running.current.invocation;
            if self.expired.len() == EXPIRED {
                self.expired.pop_front();
            }
            self.expired.push_back((running.current.attempt, invocation.request_id.clone()));
            let failure = ErrorDocument::timeout(&invocation.request_id, invocation.timeout);
            self.fail(running, failure, InvocationStatus::Timeout, now);
            self.pump(now);
        }
        if passed(self.stalled) {
            self.stalled = None;
            if let Some(invocation) = self.queue.pop_front() {
                let failure = ErrorDocument::timeout(&invocation.request_id, invocation.timeout);
                self.fail_undelivered(invocation, failure, InvocationStatus::Timeout, now);
            }
            self.pump(now);
        }
    }

    /// The clock was put forward: what concerns the real process keeps the real time that it had left. Time limits do not.
    pub fn skip(&mut self, by: Duration) {
        self.sandbox.skip(by);
    }

    /// How many invocations the runtime has and has not answered.
    pub fn handed_out(&self) -> usize {
        self.running.iter().filter(|running| running.current.is_with_runtime()).count()
    }

    // ---- the process -------------------------------------------------------------------------------------------

    /// The process that was being started is known, or there is none.
    pub fn launch_ended(&mut self) {
        self.sandbox.launch = Launch::None;
        self.sandbox.effects.pollers.extend(self.idle.iter().map(|(_, waker)| waker.clone()));
    }

    /// The main process was started; wanted or not, it is this environment's from now on.
    pub fn process_started(&mut self, process: RuntimeProcess, now: Instant) -> Result<(), EndpointError> {
        self.launch_ended();
        if self.sandbox.closed {
            return Err(EndpointError::Closed);
        }
        if let ProcessSlot::Running(running) = &self.sandbox.process {
            return Err(EndpointError::ProcessRunning { running: running.pid, announced: process.pid });
        }
        // Its workers may be quicker than its starter: they have polled or failed before we hear of its pid.
        self.sandbox.process = ProcessSlot::Running(process);
        self.sandbox.peak_kb = 0;
        self.peak_seen = None;
        if self.phase == Phase::Starting {
            let limit = now + self.sandbox.config.init_timeout;
            let init = self.init.get_or_insert(Init {
                phase: InitPhase::Init,
                requested: now,
                started: None,
                deadline: None,
            });
            init.started = Some(now);
            let deadline = *init.deadline.get_or_insert(limit);
            self.sandbox.arm(deadline);
        }
        Ok(())
    }

    /// No process could be started; `message` says why.
    pub fn start_failed(&mut self, message: &str, now: Instant) {
        if matches!(self.sandbox.process, ProcessSlot::Running(_)) {
            return;
        }
        self.sandbox.process = ProcessSlot::None;
        let failure = InitFailure {
            status: InvocationStatus::Error,
            error_type: "Runtime.InvalidEntrypoint".to_owned(),
            cause: InitFailureCause::Message(message.to_owned()),
        };
        self.fail_init(failure, now);
        self.process_gone(now);
    }

    /// Nothing of the main process is left, and everything it and its workers sent was read: the environment is over, and all it was
    /// busy with (spec runtime-api 6.5). The next invocation gets a new one, as if the service had routed it there.
    pub fn process_exited(&mut self, pid: i32, ended: process::Ended, now: Instant) {
        if !matches!(&self.sandbox.process, ProcessSlot::Running(process) if process.pid == pid) {
            return;
        }
        self.sandbox.peak_kb = self.sandbox.peak_kb.max(ended.max_rss_kb);
        // An internal extension that reported an error lives in this process.
        let error_type = self.sandbox.extensions.fatal_error(error_document::RUNTIME_EXIT_ERROR);
        self.fail_everything(error_type, &ended.exit.reason(), now);
        self.sandbox.process = ProcessSlot::None;
        self.process_gone(now);
    }

    /// Init, or all invocations that a worker has, fail with the environment.
    fn fail_everything(&mut self, error_type: &str, reason: &str, now: Instant) {
        if self.init.is_some() {
            let failure = InitFailure {
                status: InvocationStatus::Error,
                error_type: error_type.to_owned(),
                cause: InitFailureCause::Message(reason.to_owned()),
            };
            self.fail_init(failure, now);
        }
        for mut running in std::mem::take(&mut self.running) {
            running.current.outcome = Some(Outcome::error(error_type));
            let request_id = &running.current.invocation.request_id;
            let failure = ErrorDocument::of_request(error_type, request_id, reason);
            self.fail(running, failure, InvocationStatus::Error, now);
        }
    }

    // ---- the runtime's calls -----------------------------------------------------------------------------------

    /// `GET /next` of poller `poller`: a slot that waits for an event.
    pub fn poll_next(&mut self, poller: u64, waker: &Waker, now: Instant) -> NextPoll {
        if self.phase == Phase::InitError {
            return NextPoll::Refused(refuse(RuntimeState::InitError, RuntimeState::Ready));
        }
        // A process that is being ended, or is not known yet, gets nothing.
        if !self.sandbox.is_ending() && self.sandbox.launch == Launch::None {
            if self.phase == Phase::Starting {
                self.phase = Phase::RuntimeReady;
                self.sandbox.extensions.close_registration();
                self.end_init_if_ready(now);
            }
            while self.phase == Phase::Serving
                && let Some(invocation) = self.queue.pop_front()
            {
                let request_id = &invocation.request_id;
                if self.running.iter().any(|running| running.current.is(request_id)) {
                    let message = "An invocation with this id is running already";
                    let failure = ErrorDocument::of_request("Client.DuplicatedInvokeId", request_id, message);
                    self.fail_undelivered(invocation, failure, InvocationStatus::Error, now);
                    continue;
                }
                self.idle.retain(|(id, _)| *id != poller);
                return NextPoll::Deliver(Box::new(self.deliver(invocation, now)));
            }
        }
        if let Some((_, registered)) = self.idle.iter_mut().find(|(id, _)| *id == poller) {
            registered.clone_from(waker);
        } else if self.idle.len() < self.slots {
            self.idle.push((poller, waker.clone()));
        } else {
            return NextPoll::Refused(Refusal::TooManyIdleRuntimes);
        }
        self.stalled = None;
        NextPoll::Pending
    }

    /// A poller went away, and its slot with it; if it had been woken for an invocation, another one is.
    pub fn drop_poller(&mut self, poller: u64, now: Instant) {
        self.idle.retain(|(id, _)| *id != poller);
        self.pump(now);
    }

    /// The head of an answer has arrived: is the invocation one that waits for it?
    ///
    /// Returns the attempt, to be named when the body is complete.
    pub fn begin_answer(
        &mut self,
        request_id: &str,
        invocation_id: Option<&[u8]>,
        now: Instant,
    ) -> Result<u64, Refusal> {
        let Some(running) = self.running.iter_mut().find(|running| running.current.is(request_id)) else {
            // A late answer is told so once, then the id is forgotten.
            let late = self.expired.iter().position(|(_, expired)| expired == request_id);
            let expired = late.and_then(|index| self.expired.remove(index));
            return Err(if expired.is_some() { Refusal::InvokeTimeout } else { Refusal::InvalidRequestId });
        };
        running.current.check_attempt(invocation_id)?;
        if running.uploading {
            return Err(Refusal::InvalidRequestId);
        }
        running.uploading = true;
        running.current.answer_began = Some(now);
        Ok(running.current.attempt)
    }

    /// Where a response is to be streamed to that [`Self::begin_answer`] has begun; `None`: it is collected.
    pub fn take_pieces(&mut self, attempt: u64) -> Option<PieceSender> {
        let running = self.running.iter_mut().find(|running| running.current.attempt == attempt)?;
        running.current.invocation.pieces.take()
    }

    /// The whole body was taken, or the upload broke off: the invocation is over.
    pub fn finish_answer(&mut self, attempt: u64, posted: Posted, now: Instant) -> Result<(), Refusal> {
        let Some(index) = self.running.iter().position(|running| running.current.attempt == attempt) else {
            self.expired.retain(|(expired, _)| *expired != attempt);
            return Err(Refusal::InvokeTimeout);
        };
        let mut running = self.running.remove(index);
        let answer = running.current.posted(posted);
        running.current.give_answer(answer, &mut self.sandbox.effects, now);
        self.finish(running, now);
        self.pump(now);
        Ok(())
    }

    /// Whether a failed init may be reported now: the first worker to do so is the one that counts.
    pub fn begin_init_error(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Starting if !self.sandbox.is_ending() => Ok(()),
            Phase::Starting | Phase::InitError => {
                Err(refuse(RuntimeState::InitError, RuntimeState::InitError))
            }
            Phase::RuntimeReady | Phase::Serving => Err(refuse(RuntimeState::Ready, RuntimeState::InitError)),
        }
    }

    /// A worker reported a failed init: who waits gets the body, and the process is expected to exit.
    pub fn finish_init_error(
        &mut self,
        payload: Bytes,
        content_type: HeaderValue,
        error_type: String,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.begin_init_error()?;
        self.phase = Phase::InitError;
        if matches!(self.sandbox.process, ProcessSlot::Starting | ProcessSlot::Running(_)) {
            self.sandbox.ending = Some(Ending { deadline: now + EXIT_GRACE, killed: false });
            self.sandbox.arm(now + EXIT_GRACE);
        } else {
            self.sandbox.process = ProcessSlot::None;
        }
        let cause = InitFailureCause::Posted { payload, content_type };
        self.fail_init(InitFailure { status: InvocationStatus::Error, error_type, cause }, now);
        Ok(())
    }

    // ---- inside ------------------------------------------------------------------------------------------------

    /// Bring what waits on its way, as far as there are slots for it.
    fn pump(&mut self, now: Instant) {
        if self.sandbox.is_ending() || self.queue.is_empty() {
            return;
        }
        if let Some(failure) = self.init_failure.take() {
            self.fail_queue(&failure, now);
            return;
        }
        if self.phase == Phase::Serving {
            // Each of them takes an invocation, or finds that another one was quicker and goes on waiting.
            let woken = self.idle.iter().take(self.queue.len()).map(|(_, waker)| waker.clone());
            self.sandbox.effects.pollers.extend(woken);
            if self.idle.is_empty() && self.running.is_empty() && self.stalled.is_none() {
                let limit = self.queue.front().map_or(self.sandbox.config.timeout, |waiting| waiting.timeout);
                self.stalled = Some(now + limit);
                self.sandbox.arm(now + limit);
            }
        } else if matches!(self.sandbox.process, ProcessSlot::None) {
            self.sandbox.want_process();
            self.phase = Phase::Starting;
            self.fresh = None;
            let deadline = now + self.sandbox.config.init_timeout;
            self.begin_init(Some(deadline), now);
        }
    }

    fn begin_init(&mut self, deadline: Option<Instant>, now: Instant) {
        self.sandbox.tell_init_start(InitPhase::Init, now);
        self.init = Some(Init { phase: InitPhase::Init, requested: now, started: None, deadline });
        if let Some(deadline) = deadline {
            self.sandbox.arm(deadline);
        }
    }

    fn deliver(&mut self, invocation: Invocation, now: Instant) -> Delivery {
        self.stalled = None;
        self.sandbox.drain_log(now);
        let fresh = self.fresh.take();
        if fresh.is_none() && self.running.is_empty() {
            self.sandbox.log.begin();
        }
        // The first invocation's log has the init in it, as elsewhere.
        let log_from = if fresh.is_some() { 0 } else { self.sandbox.log.written() };
        if !invocation.quiet {
            let line =
                platform_log::start_line(&invocation.request_id, &self.sandbox.config.function_version);
            self.sandbox.log.write_lines(&line);
        }
        self.attempts += 1;
        let deadline = now + invocation.timeout;
        let mut current =
            Current::new(invocation, self.attempts, fresh, None, self.sandbox.config.limits, now);
        current.delivered = Some(now);
        self.sandbox.tell_start(&mut current, now);
        let delivery = current.delivery();
        self.running.push(Running { current, uploading: false, log_from });
        self.sandbox.arm(deadline);
        delivery
    }

    /// Initialisation is complete when one worker is ready, and every extension (spec runtime-api 6.1).
    fn end_init_if_ready(&mut self, now: Instant) {
        if self.phase != Phase::RuntimeReady || !self.sandbox.extensions.are_ready() {
            return;
        }
        self.phase = Phase::Serving;
        self.init_failure = None;
        let ended = self.init.take().map(|init| FreshInit::of(&init, now));
        self.sandbox.end_init(InitPhase::Init, ended.map(|ended| ended.init), now);
        self.fresh = ended;
    }

    fn fail_init(&mut self, failure: InitFailure, now: Instant) {
        let duration = self.init.take().map_or(Duration::ZERO, |init| now.duration_since(init.requested));
        let line =
            self.sandbox.fail_init(InitPhase::Init, duration, failure.status, &failure.error_type, now);
        self.sandbox.log.write_lines(&line);
        if self.queue.is_empty() {
            // The first invocation to come gets it.
            self.init_failure = Some(failure);
        } else {
            self.fail_queue(&failure, now);
        }
    }

    fn fail_queue(&mut self, failure: &InitFailure, now: Instant) {
        while let Some(invocation) = self.queue.pop_front() {
            let outcome = Outcome { status: failure.status, error_type: failure.error_type.clone() };
            let (payload, content_type) = failure.document(&invocation.request_id);
            self.attempts += 1;
            let mut current = Current::undelivered(invocation, self.attempts, outcome, now);
            let error_type = Some(failure.error_type.clone());
            let answer = current.answer_of(payload, Some(content_type), error_type, failure.status);
            current.give_answer(answer, &mut self.sandbox.effects, now);
            self.finish(Running { current, uploading: false, log_from: 0 }, now);
        }
    }

    /// Answer an invocation that no worker was given with a document of the platform.
    fn fail_undelivered(
        &mut self,
        invocation: Invocation,
        failure: ErrorDocument,
        status: InvocationStatus,
        now: Instant,
    ) {
        let outcome = Outcome { status, error_type: failure.error_type.clone() };
        self.attempts += 1;
        let current = Current::undelivered(invocation, self.attempts, outcome, now);
        let log_from = self.sandbox.log.written();
        self.fail(Running { current, uploading: false, log_from }, failure, status, now);
    }

    fn fail(&mut self, mut running: Running, failure: ErrorDocument, status: InvocationStatus, now: Instant) {
        let outcome = Outcome { status, error_type: failure.error_type.clone() };
        running.current.outcome.get_or_insert(outcome);
        let answer = running.current.answer_of(failure.body, None, Some(failure.error_type), status);
        running.current.give_answer(answer, &mut self.sandbox.effects, now);
        self.finish(running, now);
    }

    /// The invocation is over: write its last lines and tell who waits for them. What others log meanwhile is in its
    /// log too; a JSON record says whose it is.
    fn finish(&mut self, running: Running, now: Instant) {
        self.sandbox.drain_log(now);
        let memory_kb = if running.current.invocation.quiet { 0 } else { self.peak_memory_kb(now) };
        let log_from = running.log_from;
        if self.sandbox.telemetry.is_wanted() {
            let figures = running.current.figures(&self.sandbox.config, memory_kb, now);
            self.sandbox.tell_report(&running.current, &figures, now);
        }
        if let Some((waiter, mut result)) =
            running.current.finish(&self.sandbox.config, &mut self.sandbox.log, memory_kb, now)
        {
            result.log_tail = self.sandbox.log.tail_since(log_from);
            result.log = self.sandbox.log.whole_since(log_from);
            result.extension_log = self.sandbox.log.take_extensions();
            self.sandbox.effects.finishes.push((waiter, result));
        }
        let needed = self.running.iter().map(|running| running.log_from).min();
        self.sandbox.log.forget_before(needed.unwrap_or_else(|| self.sandbox.log.written()));
    }

    /// The peak memory of the main process and its workers together. Pages that they share count once.
    fn peak_memory_kb(&mut self, now: Instant) -> u64 {
        if let ProcessSlot::Running(process) = &mut self.sandbox.process
            && self.peak_seen.is_none_or(|seen| now.duration_since(seen) >= MEMORY_INTERVAL)
        {
            self.peak_seen = Some(now);
            self.sandbox.peak_kb = self.sandbox.peak_kb.max(process.peak_memory_kb());
        }
        self.sandbox.peak_kb
    }

    /// End all processes. `false` if there is none.
    fn end_processes(&mut self, reason: ShutdownReason, now: Instant) -> bool {
        let ended = self.sandbox.end_processes(reason, now);
        self.settle(ended, now);
        ended != Ended::Nothing
    }

    /// The main process is gone: the extensions must go, too.
    fn process_gone(&mut self, now: Instant) {
        self.sandbox.process = ProcessSlot::None;
        let ended = self.sandbox.process_gone(now);
        self.settle(ended, now);
    }

    /// Go on if all processes are gone.
    fn settle(&mut self, ended: Ended, now: Instant) {
        if ended != Ended::All {
            return;
        }
        self.sandbox.reset();
        self.phase = Phase::Starting;
        self.stalled = None;
        self.fresh = None;
        self.idle.clear();
        if !self.sandbox.closed {
            self.pump(now);
        }
    }
}

fn refuse(from: RuntimeState, to: RuntimeState) -> Refusal {
    Refusal::InvalidTransition { from, to }
}
