//! The state machine of one execution environment (spec runtime-api 1.8 and 7), without any input or output but the
//! log: everything that happens is a call with the time at which it happened, and what others must do about it is
//! collected in [`Effects`].
//!
//! This file holds the state, the invoker's side and the clock; `runtime_calls` is the runtime's side, `processes` the
//! process's, `current` the invocation that runs, `freezing` the time between two, `memory` the memory limit, `restore`
//! what SnapStart adds. `extension_calls`, `extension_processes` and `shutdown` are what extensions add, `events` is what
//! subscribers are told.

pub(crate) mod current;
mod events;
mod extension_calls;
mod extension_processes;
mod freezing;
mod memory;
pub(crate) mod processes;
mod restore;
mod runtime_calls;
mod shutdown;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

pub use runtime_calls::{Delivery, NextPoll, Posted, Refusal, RuntimeState};

use crate::environment::EnvironmentConfig;
use crate::error::EndpointError;
use crate::error_document::{self, ErrorDocument};
use crate::extensions::{Extensions, ShutdownReason};
use crate::identifiers;
use crate::invocation::{Answer, AnswerWaiter, FinishWaiter, Invocation, InvocationStatus, InvokeResult};
use crate::log_capture::LogCapture;
use crate::process::RuntimeProcess;
use crate::telemetry::{Subscriber, Telemetry};
use current::{Current, FreshInit, Outcome};
use processes::{Ending, Init, InitFailure, InitFailureCause, ProcessSlot};
use restore::Restore;
use shutdown::ExtensionShutdown;

/// A runtime that reported a failed init is expected to exit; one that does not is killed after this time.
pub(crate) const EXIT_GRACE: Duration = Duration::from_secs(1);
/// A killed process that is still there after this time is given up (spec extensions-telemetry 3.8, reap).
pub(crate) const REAP_LIMIT: Duration = Duration::from_secs(2);
/// So many timed-out request ids are remembered, to tell a late answer (410) from a foreign one (400).
const EXPIRED_IDS: usize = 16;

/// What the caller of a lifecycle method does after releasing the lock.
#[derive(Default)]
pub struct Effects {
    pub answers: Vec<(AnswerWaiter, Answer)>,
    pub finishes: Vec<(FinishWaiter, Box<InvokeResult>)>,
    pub pollers: Vec<Waker>,
    /// Whom events are to be delivered to from now on.
    pub subscribers: Vec<Arc<Subscriber>>,
    /// Whose last events are to be sent now; then [`Lifecycle::telemetry_flushed`].
    pub flush: Vec<Arc<Subscriber>>,
    /// A process is wanted, or the environment or its process ended: look again.
    pub process_changed: bool,
    /// A deadline came nearer than the one the timer sleeps for.
    pub timer_changed: bool,
}

/// The state of one execution environment.
pub struct Lifecycle {
    config: EnvironmentConfig,
    state: RuntimeState,
    process: ProcessSlot,
    init: Option<Init>,
    fresh: Option<FreshInit>,
    restore: Option<Restore>,
    /// How long the restore took that no invocation has reported yet.
    restored: Option<Duration>,
    init_failure: Option<InitFailure>,
    /// The line about a failed init or restore, written when all that the process printed is.
    init_report: Option<String>,
    ending: Option<Ending>,
    queue: VecDeque<Invocation>,
    current: Option<Current>,
    /// Until when the waiting invocation bears with a live process that does not poll.
    stalled: Option<Instant>,
    attempts: u64,
    expired: VecDeque<String>,
    pollers: Vec<(u64, Waker)>,
    armed: Option<Instant>,
    /// When an idle environment is frozen.
    freeze_at: Option<Instant>,
    closed: bool,
    peak_kb: u64,
    /// The peak when the phase that runs began.
    phase_peak_kb: u64,
    /// When the memory is looked at.
    memory_at: Option<Instant>,
    function_arn: String,
    instance_id: String,
    extensions: Extensions,
    extension_processes: Vec<(String, RuntimeProcess)>,
    extension_shutdown: Option<ExtensionShutdown>,
    shutdown_reason: ShutdownReason,
    shutdown_began: Option<Instant>,
    telemetry: Telemetry,
    pub log: LogCapture,
    pub effects: Effects,
}

impl Lifecycle {
    /// An environment without a process.
    pub fn new(config: EnvironmentConfig) -> Self {
        Self {
            log: LogCapture::new(config.log_fd, config.keep_log),
            function_arn: config.function_arn(),
            instance_id: identifiers::request_id(),
            extensions: Extensions::new(config.extensions.clone()),
            extension_processes: Vec::new(),
            extension_shutdown: None,
            shutdown_reason: ShutdownReason::Failure,
            shutdown_began: None,
            telemetry: Telemetry::new(config.json_logs),
            config,
            state: RuntimeState::Started,
            process: ProcessSlot::None,
            init: None,
            fresh: None,
            restore: None,
            restored: None,
            init_failure: None,
            init_report: None,
            ending: None,
            queue: VecDeque::new(),
            current: None,
            stalled: None,
            attempts: 0,
            expired: VecDeque::new(),
            pollers: Vec::new(),
            armed: None,
            freeze_at: None,
            closed: false,
            peak_kb: 0,
            phase_peak_kb: 0,
            memory_at: None,
            effects: Effects::default(),
        }
    }

    /// Whether the environment was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    // ---- the invoker's side ------------------------------------------------------------------------------------

    /// Take invocations into the queue, in order.
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
    /// (spec runtime-api 7.6), and who waits is told.
    pub fn close(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.effects.process_changed = true;
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
        }
        if self.end_processes(ShutdownReason::Spindown, now) {
            // Their end finishes the current invocation.
        } else {
            self.process = ProcessSlot::None;
            self.finish_current(now);
            self.shut_extensions_down(now);
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

    // ---- time --------------------------------------------------------------------------------------------------

    /// When the timer must look next; it sleeps until then or until [`Effects::timer_changed`].
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let current = self.current.as_ref().filter(|current| current.outcome.is_none());
        let deadlines = [
            self.ending.as_ref().map(|ending| ending.deadline),
            self.init.as_ref().and_then(|init| init.deadline),
            self.restore.as_ref().and_then(|restore| restore.deadline),
            current.and_then(|current| current.deadline),
            self.extension_shutdown.as_ref().and_then(|shutdown| shutdown.deadline),
            self.stalled,
            self.freeze_at,
            self.memory_at,
        ];
        self.armed = deadlines.into_iter().flatten().min();
        self.armed
    }

    /// Act on every deadline that has passed.
    pub fn expire(&mut self, now: Instant) {
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if let Some(killed) = self.ending.as_ref().filter(|ending| ending.deadline <= now).map(|e| e.killed)
            && (killed || !self.kill_process(now))
        {
            // It cannot be killed (a hung device, say). Whoever waits must not hang with it.
            self.process = ProcessSlot::None;
            self.process_gone(now);
        }
        if passed(self.extension_shutdown.as_ref().and_then(|shutdown| shutdown.deadline)) {
            self.expire_extensions(now);
        }
        if passed(self.init.as_ref().and_then(|init| init.deadline)) {
            let requested = self.init.take().map_or(now, |init| init.requested);
            let failure = InitFailure {
                status: InvocationStatus::Timeout,
                error_type: error_document::SANDBOX_TIMEDOUT.to_owned(),
                cause: InitFailureCause::Timeout(self.config.init_timeout),
            };
            self.fail_init(failure, now.duration_since(requested), now);
            self.end_process_after_timeout(now);
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
            self.drain_log(now);
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

    // ---- inside ------------------------------------------------------------------------------------------------

    /// Bring the first waiting invocation on its way, if the environment is free.
    fn pump(&mut self, now: Instant) {
        while self.current.is_none() && !self.is_ending() && !self.queue.is_empty() {
            if let Some(failure) = self.init_failure.take() {
                self.fail_waiting(failure, now);
                self.finish_current(now);
                continue;
            }
            if matches!(self.state, RuntimeState::Ready | RuntimeState::RestoreReady)
                && self.is_free()
                && let Some((_, waker)) = self.pollers.last()
            {
                self.effects.pollers.push(waker.clone());
                self.thaw();
                return;
            }
            if self.init.is_none() && self.restore.is_none() {
                if matches!(self.process, ProcessSlot::None) {
                    self.process = ProcessSlot::Wanted;
                    if self.extensions.has_external() {
                        self.extensions.launch();
                        self.process = ProcessSlot::AwaitsExtensions;
                    }
                    self.effects.process_changed = true;
                    self.begin_init(now);
                } else if self.stalled.is_none() {
                    let limit = self.queue.front().map_or(self.config.timeout, |waiting| waiting.timeout);
                    self.stalled = Some(now + limit);
                    self.arm(now + limit);
                }
            }
            return;
        }
    }

    /// Have the timer look at `deadline`, unless it will wake before anyway: one alarm serves many invocations.
    fn arm(&mut self, deadline: Instant) {
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.armed = Some(deadline);
            self.effects.timer_changed = true;
        }
    }
}

pub(crate) fn closed_document(request_id: &str) -> ErrorDocument {
    ErrorDocument::of_request("Sandbox.Failure", request_id, "The execution environment was closed")
}
