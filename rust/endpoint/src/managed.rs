//! The state machine of an environment of Lambda Managed Instances (spec runtime-api 6.1 and 6.5): as many
//! invocations at once as it has slots.
//!
//! There is no state of the runtime as a whole, as [`crate::lifecycle`] has one. Each `GET /next` is a slot that waits
//! for an event, in a queue with a bound; an answer names its invocation, and that is over with it. A time limit ends
//! the invocation for its caller and leaves the code running; the end of the main process ends everything.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::environment::EnvironmentConfig;
use crate::error::EndpointError;
use crate::error_document::{self, ErrorDocument};
use crate::invocation::{Invocation, InvocationStatus};
use crate::lifecycle::current::{Current, FreshInit, Outcome};
use crate::lifecycle::processes::{Ending, Init, InitFailure, InitFailureCause, ProcessSlot};
use crate::lifecycle::{
    Delivery, EXIT_GRACE, Effects, NextPoll, Posted, REAP_LIMIT, Refusal, RuntimeState, closed_document,
};
use crate::log_capture::LogCapture;
use crate::platform_log;
use crate::process::{Ended, RuntimeProcess};

/// So many invocations that timed out are remembered, to tell a late answer (410) from a foreign one (400).
const EXPIRED: usize = 1000;
/// The memory of a whole tree of processes is looked at no more often than this.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);

/// How far the environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No `/next` has come yet from this process, or there is none.
    Starting,
    /// A worker reported that initialisation failed; the process is to end.
    InitError,
    /// At least one worker has asked for an event.
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
    config: EnvironmentConfig,
    slots: usize,
    phase: Phase,
    process: ProcessSlot,
    init: Option<Init>,
    fresh: Option<FreshInit>,
    init_failure: Option<InitFailure>,
    ending: Option<Ending>,
    queue: VecDeque<Invocation>,
    running: Vec<Running>,
    /// Pollers that wait for an event, the one that has waited longest first.
    idle: Vec<(u64, Waker)>,
    /// Until when waiting invocations bear with a live process none of whose workers polls or owes an answer.
    stalled: Option<Instant>,
    attempts: u64,
    expired: VecDeque<(u64, String)>,
    armed: Option<Instant>,
    closed: bool,
    peak_kb: u64,
    peak_seen: Option<Instant>,
    pub log: LogCapture,
    pub effects: Effects,
}

impl Managed {
    /// An environment with `slots` slots, which wants its process at once: Managed Instances are started ahead of
    /// invocations.
    pub fn new(config: EnvironmentConfig, slots: usize, now: Instant) -> Self {
        Self {
            log: LogCapture::new(config.log_fd, config.keep_log),
            config,
            slots,
            phase: Phase::Starting,
            process: ProcessSlot::Wanted,
            // Its clock starts with the process: how long the caller takes to start one is not the runtime's time.
            init: Some(Init { requested: now, started: None, deadline: None }),
            fresh: None,
            init_failure: None,
            ending: None,
            queue: VecDeque::new(),
            running: Vec::new(),
            idle: Vec::new(),
            stalled: None,
            attempts: 0,
            expired: VecDeque::new(),
            armed: None,
            closed: false,
            peak_kb: 0,
            peak_seen: None,
            effects: Effects::default(),
        }
    }

    /// Whether the environment was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    // ---- the invoker's side ------------------------------------------------------------------------------------

    /// Take invocations into the queue. Where AWS routes one elsewhere because all slots are busy, it waits here.
    pub fn submit(
        &mut self,
        invocations: impl IntoIterator<Item = Invocation>,
        now: Instant,
    ) -> Result<(), EndpointError> {
        if self.closed {
            return Err(EndpointError::Closed);
        }
        self.queue.extend(invocations);
        self.pump(now);
        Ok(())
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

    /// End it all: the process is killed without a warning, and who waits is told.
    pub fn close(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.effects.process_changed = true;
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
        if !self.kill_process(now) {
            self.process = ProcessSlot::None;
        }
    }

    // ---- time --------------------------------------------------------------------------------------------------

    /// When the timer must look next; it sleeps until then or until [`Effects::timer_changed`].
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let others = [
            self.ending.as_ref().map(|ending| ending.deadline),
            self.init.as_ref().and_then(|init| init.deadline),
            self.stalled,
        ];
        let running = self.running.iter().filter_map(|running| running.current.deadline);
        self.armed = others.into_iter().flatten().chain(running).min();
        self.armed
    }

    /// Act on every deadline that has passed.
    pub fn expire(&mut self, now: Instant) {
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if let Some(killed) = self.ending.as_ref().filter(|ending| ending.deadline <= now).map(|e| e.killed)
            && (killed || !self.kill_process(now))
        {
            // It cannot be killed (a hung device, say). Whoever waits must not hang with it.
            self.process_gone(now);
        }
        if passed(self.init.as_ref().and_then(|init| init.deadline)) {
            let requested = self.init.take().map_or(now, |init| init.requested);
            let failure = InitFailure {
                status: InvocationStatus::Timeout,
                error_type: error_document::SANDBOX_TIMEDOUT.to_owned(),
                cause: InitFailureCause::Timeout(self.config.init_timeout),
            };
            self.fail_init(failure, now.duration_since(requested), now);
            if !self.kill_process(now) {
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

    // ---- the process -------------------------------------------------------------------------------------------

    /// Whether a process is there that has not been seen to end.
    pub fn has_process(&self) -> bool {
        matches!(self.process, ProcessSlot::Running(_))
    }

    /// Take the request for a process, if there is one.
    pub fn take_start(&mut self) -> bool {
        let wanted = matches!(self.process, ProcessSlot::Wanted);
        if wanted {
            self.process = ProcessSlot::Starting;
        }
        wanted
    }

    /// A process is being started: on a busy machine the first invocation may be over before its starter hears of it.
    pub fn process_starting(&mut self, now: Instant) {
        if let Some(init) = &mut self.init {
            init.started = Some(now);
        }
    }

    /// The main process was started; wanted or not, it is this environment's from now on.
    pub fn process_started(&mut self, process: RuntimeProcess, now: Instant) -> Result<(), EndpointError> {
        if self.closed {
            return Err(EndpointError::Closed);
        }
        if let ProcessSlot::Running(running) = &self.process {
            return Err(EndpointError::ProcessRunning { running: running.pid, announced: process.pid });
        }
        // Its workers may be quicker than its starter: they have polled or failed before we hear of its pid.
        self.process = ProcessSlot::Running(process);
        self.peak_kb = 0;
        self.peak_seen = None;
        if self.phase == Phase::Starting {
            let limit = now + self.config.init_timeout;
            let init = self.init.get_or_insert(Init { requested: now, started: None, deadline: None });
            init.started = Some(now);
            let deadline = *init.deadline.get_or_insert(limit);
            self.arm(deadline);
        }
        Ok(())
    }

    /// No process could be started; `message` says why.
    pub fn start_failed(&mut self, message: &str, now: Instant) {
        if self.has_process() {
            return;
        }
        self.process = ProcessSlot::None;
        let requested = self.init.take().map_or(now, |init| init.requested);
        let failure = InitFailure {
            status: InvocationStatus::Error,
            error_type: "Runtime.InvalidEntrypoint".to_owned(),
            cause: InitFailureCause::Message(message.to_owned()),
        };
        self.fail_init(failure, now.duration_since(requested), now);
    }

    /// The main process and all it started have ended, but its pid is still taken: from here on it is not signalled.
    pub fn process_ended(&mut self, pid: i32) {
        if let ProcessSlot::Running(process) = &mut self.process
            && process.pid == pid
        {
            process.ended();
        }
    }

    /// Nothing of the main process is left, and everything it and its workers sent was read: the environment is over, and all it was
    /// busy with (spec runtime-api 6.5). The next invocation gets a new one, as if the service had routed it there.
    pub fn process_exited(&mut self, pid: i32, ended: Ended, now: Instant) {
        if !matches!(&self.process, ProcessSlot::Running(process) if process.pid == pid) {
            return;
        }
        let reason = ended.exit.reason();
        if let Some(init) = self.init.take() {
            let failure = InitFailure {
                status: InvocationStatus::Error,
                error_type: error_document::RUNTIME_EXIT_ERROR.to_owned(),
                cause: InitFailureCause::Message(reason.clone()),
            };
            self.fail_init(failure, now.duration_since(init.requested), now);
        }
        for mut running in std::mem::take(&mut self.running) {
            running.current.outcome = Some(Outcome::error(error_document::RUNTIME_EXIT_ERROR));
            let failure = ErrorDocument::exit(&running.current.invocation.request_id, &reason);
            self.fail(running, failure, InvocationStatus::Error, now);
        }
        self.process_gone(now);
    }

    // ---- the runtime's calls -----------------------------------------------------------------------------------

    /// `GET /next` of poller `poller`: a slot that waits for an event.
    pub fn poll_next(&mut self, poller: u64, waker: &Waker, now: Instant) -> NextPoll {
        if self.phase == Phase::InitError {
            return NextPoll::Refused(refuse(RuntimeState::InitError, RuntimeState::Ready));
        }
        // A process that is being ended gets nothing any more.
        if self.ending.is_none() {
            if self.phase == Phase::Starting {
                self.end_init(now);
            }
            while let Some(invocation) = self.queue.pop_front() {
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
    pub fn begin_answer(&mut self, request_id: &str, invocation_id: Option<&[u8]>) -> Result<u64, Refusal> {
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
        Ok(running.current.attempt)
    }

    /// The whole body was taken, or the upload broke off: the invocation is over.
    pub fn finish_answer(&mut self, attempt: u64, posted: Posted, now: Instant) -> Result<(), Refusal> {
        let Some(index) = self.running.iter().position(|running| running.current.attempt == attempt) else {
            self.expired.retain(|(expired, _)| *expired != attempt);
            return Err(Refusal::InvokeTimeout);
        };
        let mut running = self.running.remove(index);
        let answer = running.current.posted(posted);
        running.current.give_answer(answer, &mut self.effects, now);
        self.finish(running, now);
        self.pump(now);
        Ok(())
    }

    /// Whether a failed init may be reported now: the first worker to do so is the one that counts.
    pub fn begin_init_error(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Starting if self.ending.is_none() => Ok(()),
            Phase::Starting | Phase::InitError => {
                Err(refuse(RuntimeState::InitError, RuntimeState::InitError))
            }
            Phase::Serving => Err(refuse(RuntimeState::Ready, RuntimeState::InitError)),
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
        if matches!(self.process, ProcessSlot::Starting | ProcessSlot::Running(_)) {
            self.ending = Some(Ending { deadline: now + EXIT_GRACE, killed: false });
            self.arm(now + EXIT_GRACE);
        } else {
            self.process = ProcessSlot::None;
        }
        let requested = self.init.take().map_or(now, |init| init.requested);
        let cause = InitFailureCause::Posted { payload, content_type };
        let failure = InitFailure { status: InvocationStatus::Error, error_type, cause };
        self.fail_init(failure, now.duration_since(requested), now);
        Ok(())
    }

    // ---- inside ------------------------------------------------------------------------------------------------

    /// Bring what waits on its way, as far as there are slots for it.
    fn pump(&mut self, now: Instant) {
        if self.ending.is_some() || self.queue.is_empty() {
            return;
        }
        if let Some(failure) = self.init_failure.take() {
            self.fail_queue(&failure, now);
            return;
        }
        if self.phase == Phase::Serving {
            // Each of them takes an invocation, or finds that another one was quicker and goes on waiting.
            let woken = self.idle.iter().take(self.queue.len()).map(|(_, waker)| waker.clone());
            self.effects.pollers.extend(woken);
            if self.idle.is_empty() && self.running.is_empty() && self.stalled.is_none() {
                let limit = self.queue.front().map_or(self.config.timeout, |waiting| waiting.timeout);
                self.stalled = Some(now + limit);
                self.arm(now + limit);
            }
        } else if matches!(self.process, ProcessSlot::None) {
            self.process = ProcessSlot::Wanted;
            self.effects.process_changed = true;
            self.phase = Phase::Starting;
            self.fresh = None;
            let deadline = now + self.config.init_timeout;
            self.init = Some(Init { requested: now, started: None, deadline: Some(deadline) });
            self.arm(deadline);
        }
    }

    fn deliver(&mut self, invocation: Invocation, now: Instant) -> Delivery {
        self.stalled = None;
        self.log.drain();
        let fresh = self.fresh.take();
        if fresh.is_none() && self.running.is_empty() {
            self.log.begin();
        }
        // The first invocation's log has the init in it, as elsewhere.
        let log_from = if fresh.is_some() { 0 } else { self.log.written() };
        if !invocation.quiet {
            let line = platform_log::start_line(&invocation.request_id, &self.config.function_version);
            self.log.write_lines(&line);
        }
        self.attempts += 1;
        let deadline = now + invocation.timeout;
        let current = Current::delivered(invocation, self.attempts, fresh, None, now);
        let delivery = current.delivery();
        self.running.push(Running { current, uploading: false, log_from });
        self.arm(deadline);
        delivery
    }

    /// The first `/next`: initialisation is complete when one worker is ready (spec runtime-api 6.1).
    fn end_init(&mut self, now: Instant) {
        self.phase = Phase::Serving;
        self.init_failure = None;
        self.fresh = self.init.take().map(|init| FreshInit::of(&init, now));
        if matches!(self.process, ProcessSlot::Wanted) {
            // Somebody else's runtime came first: no process is wanted any more.
            self.process = ProcessSlot::None;
        }
    }

    fn fail_init(&mut self, failure: InitFailure, duration: Duration, now: Instant) {
        self.log.drain();
        let error_type = Some(failure.error_type.as_str());
        self.log.write_lines(&platform_log::init_report_line(duration, failure.status, error_type));
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
            current.give_answer(answer, &mut self.effects, now);
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
        let log_from = self.log.written();
        self.fail(Running { current, uploading: false, log_from }, failure, status, now);
    }

    fn fail(&mut self, mut running: Running, failure: ErrorDocument, status: InvocationStatus, now: Instant) {
        let outcome = Outcome { status, error_type: failure.error_type.clone() };
        running.current.outcome.get_or_insert(outcome);
        let answer = running.current.answer_of(failure.body, None, Some(failure.error_type), status);
        running.current.give_answer(answer, &mut self.effects, now);
        self.finish(running, now);
    }

    /// The invocation is over: write its last lines and tell who waits for them. What others log meanwhile is in its
    /// log too; a JSON record says whose it is.
    fn finish(&mut self, running: Running, now: Instant) {
        self.log.drain();
        let memory_kb = if running.current.invocation.quiet { 0 } else { self.peak_memory_kb(now) };
        let log_from = running.log_from;
        if let Some((waiter, mut result)) =
            running.current.finish(&self.config, &mut self.log, memory_kb, now)
        {
            result.log_tail = self.log.tail_since(log_from);
            result.log = self.log.whole_since(log_from);
            self.effects.finishes.push((waiter, result));
        }
        let needed = self.running.iter().map(|running| running.log_from).min();
        self.log.forget_before(needed.unwrap_or_else(|| self.log.written()));
    }

    /// The peak memory of the main process and its workers together. Pages that they share count once.
    fn peak_memory_kb(&mut self, now: Instant) -> u64 {
        if let ProcessSlot::Running(process) = &mut self.process
            && self.peak_seen.is_none_or(|seen| now.duration_since(seen) >= MEMORY_INTERVAL)
        {
            self.peak_seen = Some(now);
            self.peak_kb = self.peak_kb.max(process.peak_memory_kb());
        }
        self.peak_kb
    }

    /// Whether there was a process to kill.
    fn kill_process(&mut self, now: Instant) -> bool {
        let ProcessSlot::Running(process) = &mut self.process else { return false };
        process.kill();
        self.ending = Some(Ending { deadline: now + REAP_LIMIT, killed: true });
        self.arm(now + REAP_LIMIT);
        true
    }

    /// The environment is without a process again.
    fn process_gone(&mut self, now: Instant) {
        self.process = ProcessSlot::None;
        self.phase = Phase::Starting;
        self.ending = None;
        self.stalled = None;
        self.fresh = None;
        self.idle.clear();
        self.effects.process_changed = true;
        if !self.closed {
            self.pump(now);
        }
    }

    /// Have the timer look at `deadline`, unless it will wake before anyway.
    fn arm(&mut self, deadline: Instant) {
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.armed = Some(deadline);
            self.effects.timer_changed = true;
        }
    }
}

fn refuse(from: RuntimeState, to: RuntimeState) -> Refusal {
    Refusal::InvalidTransition { from, to }
}
