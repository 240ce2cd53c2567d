//! The state machine of one execution environment (spec runtime-api 1.8 and 7), without any input or output but the
//! log: everything that happens is a call with the time at which it happened, and what others must do about it is
//! collected in [`Effects`](crate::sandbox::Effects).
//!
//! This file holds the state, the invoker's side and the clock; `runtime_calls` is the runtime's side, `processes` the
//! process's, `current` the invocation that runs, `freezing` the time between two, `memory` the memory limit, `restore`
//! what SnapStart adds, `suppressed_init` an init within an invocation, `by_hand` a runtime that nobody here has started,
//! `extension_calls` what extensions do to the phases. What does not depend on how invocations are run is in
//! [`crate::sandbox`].

mod by_hand;
pub(crate) mod current;
mod extension_calls;
pub(crate) mod freezing;
mod memory;
pub(crate) mod processes;
mod restore;
mod runtime_calls;
mod suppressed_init;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

pub use runtime_calls::{Delivery, NextPoll, Posted, Refusal, RuntimeState};

use crate::environment::{Activity, EnvironmentConfig};
use crate::error::EndpointError;
use crate::error_document::ErrorDocument;
use crate::extensions::ShutdownReason;
use crate::invocation::{Invocation, InvocationStatus};
use crate::sandbox::{ProcessSlot, Sandbox};
use crate::telemetry::InitPhase;
use current::{Current, FreshInit, Outcome};
use processes::{Init, InitFailure};
use restore::Restore;

/// So many timed-out request ids are remembered, to tell a late answer (410) from a foreign one (400).
const EXPIRED_IDS: usize = 16;

/// The state of one execution environment.
pub struct Lifecycle {
    pub sandbox: Sandbox,
    state: RuntimeState,
    init: Option<Init>,
    fresh: Option<FreshInit>,
    restore: Option<Restore>,
    /// How long the restore took that no invocation has reported yet.
    restored: Option<Duration>,
    /// SnapStart: a failed init that nobody waited for. The first invocation gets it.
    init_failure: Option<InitFailure>,
    /// The Init phase took place, well or not: from now on init is run within the invocation that needs it.
    init_phase_over: bool,
    /// When the Init phase began that failed and that no invocation has reported yet.
    failed_init: Option<Instant>,
    /// The last init failed, within an invocation or ahead of it.
    init_failed: bool,
    /// The line about a failed init or restore, written when all that the process printed is.
    init_report: Option<String>,
    queue: VecDeque<Invocation>,
    current: Option<Current>,
    /// Until when the waiting invocation bears with a live process that does not poll.
    stalled: Option<Instant>,
    attempts: u64,
    expired: VecDeque<String>,
    pollers: Vec<(u64, Waker)>,
    /// When an idle environment is frozen.
    freeze_at: Option<Instant>,
    /// The runtime that was started by hand is gone, perhaps, and an invocation with it.
    runtime_left: bool,
    /// The peak when the phase that runs began.
    phase_peak_kb: u64,
    /// When the memory is looked at.
    memory_at: Option<Instant>,
}

impl Lifecycle {
    /// An environment without a process.
    pub fn new(config: EnvironmentConfig) -> Self {
        Self {
            sandbox: Sandbox::new(config),
            state: RuntimeState::Started,
            init: None,
            fresh: None,
            restore: None,
            restored: None,
            init_failure: None,
            init_phase_over: false,
            failed_init: None,
            init_failed: false,
            init_report: None,
            queue: VecDeque::new(),
            current: None,
            stalled: None,
            attempts: 0,
            expired: VecDeque::new(),
            pollers: Vec::new(),
            freeze_at: None,
            runtime_left: false,
            phase_peak_kb: 0,
            memory_at: None,
        }
    }

    // ---- the invoker's side ------------------------------------------------------------------------------------

    /// Take invocations into the queue, in order.
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

    /// Give away what waits: no process has it yet. An invocation whose init runs within it is not among those.
    pub fn take_waiting(&mut self) -> Vec<Invocation> {
        self.stalled = None;
        self.queue.drain(..).collect()
    }

    /// Whether none waits, and none runs: the last one was reported, which is when its runtime has polled again.
    pub fn has_no_invocation(&self) -> bool {
        self.queue.is_empty() && self.current.is_none()
    }

    /// Run the Init phase now, ahead of the first invocation.
    pub fn prepare(&mut self, now: Instant) {
        let untouched = matches!(self.sandbox.process, ProcessSlot::None)
            && self.init.is_none()
            && !self.init_phase_over
            && !self.sandbox.closed
            && !self.sandbox.retired
            && !self.sandbox.is_ending();
        if untouched && self.state == RuntimeState::Started && !self.sandbox.config.by_hand {
            self.sandbox.want_process();
            self.begin_init(InitPhase::Init, now);
        }
    }

    /// Whether its processes are still to be started, or initialise; and whether they stand still.
    pub fn activity(&self) -> Activity {
        Activity {
            initialising: self.init.is_some()
                || matches!(self.state, RuntimeState::Started | RuntimeState::InitError),
            init_failed: self.init_failed,
            frozen: self.sandbox.stands_still(),
        }
    }

    /// The time limit of what runs now is off until it ends: a person is looking at it in a debugger.
    pub fn pause_timeout(&mut self) {
        if let Some(current) = &mut self.current {
            current.deadline = None;
            current.paused = true;
        }
        if let Some(init) = &mut self.init {
            init.deadline = None;
        }
        if let Some(restore) = &mut self.restore {
            restore.deadline = None;
        }
    }

    /// End it all: the processes end as in the Shutdown phase, which without extensions is a kill without a warning
    /// (spec runtime-api 7.6), and who waits is told. Extensions are told `reason`.
    pub fn close_for(&mut self, reason: ShutdownReason, now: Instant) {
        if self.sandbox.closed {
            return;
        }
        self.sandbox.closed = true;
        self.sandbox.effects.process_changed = true;
        self.init = None;
        self.restore = None;
        self.init_failure = None;
        let queued: Vec<Invocation> = self.queue.drain(..).collect();
        if let Some(current) = &mut self.current
            && current.outcome.is_none()
        {
            let failure = closed_document(&current.invocation.request_id);
            current.outcome = Some(Outcome::error(&failure.error_type));
            self.fail_current(failure, InvocationStatus::Error, now);
            self.sandbox.drain_log(now);
            self.tell_runtime_done(now);
        }
        if self.end_processes(reason, now) {
            // Their end finishes the current invocation.
        } else {
            self.sandbox.process = ProcessSlot::None;
            self.finish_current(now);
            let ended = self.sandbox.shut_extensions_down(now);
            self.settle(ended, now);
        }
        let interrupted = self.current.take();
        for invocation in queued {
            let failure = closed_document(&invocation.request_id);
            let outcome = Outcome::error(&failure.error_type);
            self.current = Some(self.undelivered(invocation, outcome, now));
            self.fail_current(failure, InvocationStatus::Error, now);
            self.finish_current(now);
        }
        self.current = interrupted;
    }

    #[cfg(test)]
    pub fn close(&mut self, now: Instant) {
        self.close_for(ShutdownReason::Spindown, now);
    }

    // ---- time --------------------------------------------------------------------------------------------------

    /// When the timer must look next; it sleeps until then or until [`Effects::timer_changed`].
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let current = self.current.as_ref().filter(|current| current.outcome.is_none());
        let others = [
            self.init.as_ref().and_then(|init| init.deadline),
            self.restore.as_ref().and_then(|restore| restore.deadline),
            current.and_then(|current| current.deadline),
            self.stalled,
            self.freeze_at,
            self.memory_at,
        ];
        let deadlines = self.sandbox.deadlines().into_iter().chain(others);
        self.sandbox.armed = deadlines.flatten().min();
        self.sandbox.armed
    }

    /// Act on every deadline that has passed.
    pub fn expire(&mut self, now: Instant) {
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if self.sandbox.expire_ending(now) {
            self.sandbox.process = ProcessSlot::None;
            self.process_gone(now);
        }
        let ended = self.sandbox.expire_extensions(now);
        self.settle(ended, now);
        if passed(self.init.as_ref().and_then(|init| init.deadline)) {
            self.expire_init(now);
        }
        if passed(self.restore.as_ref().and_then(|restore| restore.deadline)) {
            self.expire_restore(now);
        }
        if let Some(current) = self.current.as_mut().filter(|current| {
            current.outcome.is_none() && current.deadline.is_some_and(|deadline| deadline <= now)
        }) {
            current.outcome = Some(Outcome::timeout());
            let request_id = current.invocation.request_id.clone();
            let failure = ErrorDocument::timeout(&request_id, current.invocation.timeout);
            if self.expired.len() == EXPIRED_IDS {
                self.expired.pop_front();
            }
            self.expired.push_back(request_id);
            self.fail_current(failure, InvocationStatus::Timeout, now);
            self.sandbox.drain_log(now);
            self.expire_suppressed_init(now);
            self.tell_runtime_done(now);
            self.end_process_after_timeout(now);
        }
        if passed(self.memory_at) {
            self.check_memory(now);
        }
        if passed(self.freeze_at) {
            self.freeze();
        }
        if passed(self.stalled) {
            self.stalled = None;
            if let Some(invocation) = self.queue.pop_front() {
                let failure = ErrorDocument::timeout(&invocation.request_id, invocation.timeout);
                self.current = Some(self.undelivered(invocation, Outcome::timeout(), now));
                self.fail_current(failure, InvocationStatus::Timeout, now);
                self.end_process_after_timeout(now);
            }
        }
    }

    /// The clock was put forward: what concerns real processes keeps the real time that it had left, so that no kill is
    /// given up and no memory looked at because of it. Time limits do not.
    pub fn skip(&mut self, by: Duration) {
        self.sandbox.skip(by);
        for deadline in [&mut self.freeze_at, &mut self.memory_at].into_iter().flatten() {
            *deadline += by;
        }
    }

    /// How many invocations a runtime has and has not answered.
    pub fn handed_out(&self) -> usize {
        usize::from(self.current.as_ref().is_some_and(Current::is_with_runtime))
    }

    // ---- inside ------------------------------------------------------------------------------------------------

    /// Bring the first waiting invocation on its way, if the environment is free.
    fn pump(&mut self, now: Instant) {
        if self.awaits_delivery() && self.init.is_none() {
            return self.wake_poller();
        }
        while self.current.is_none() && !self.sandbox.is_ending() && !self.queue.is_empty() {
            if let Some(failure) = self.init_failure.take() {
                self.fail_waiting(failure, now);
                self.finish_current(now);
                continue;
            }
            if matches!(self.state, RuntimeState::Ready | RuntimeState::RestoreReady)
                && self.is_free()
                && !self.pollers.is_empty()
            {
                return self.wake_poller();
            }
            if self.sandbox.config.by_hand {
                // It waits as long as it takes.
                return;
            }
            if self.init.is_none() && self.restore.is_none() {
                if matches!(self.sandbox.process, ProcessSlot::None) {
                    self.sandbox.want_process();
                    self.begin_init_for_invocation(now);
                } else if self.stalled.is_none() {
                    let limit =
                        self.queue.front().map_or(self.sandbox.config.timeout, |waiting| waiting.timeout);
                    self.stalled = Some(now + limit);
                    self.sandbox.arm(now + limit);
                }
            }
            return;
        }
    }

    /// One of those who wait is to fetch the invocation.
    fn wake_poller(&mut self) {
        if let Some((_, waker)) = self.pollers.last() {
            self.sandbox.effects.pollers.push(waker.clone());
            self.thaw();
        }
    }
}

pub(crate) fn closed_document(request_id: &str) -> ErrorDocument {
    ErrorDocument::of_request("Sandbox.Failure", request_id, "The execution environment was closed")
}
