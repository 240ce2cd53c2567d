//! The environment's process: wanted, started, initialising, ended (spec runtime-api 7).

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::Lifecycle;
use super::current::{FreshInit, Outcome};
use super::runtime_calls::RuntimeState;
use crate::error::EndpointError;
use crate::error_document::{self, ErrorDocument};
use crate::extensions::ShutdownReason;
use crate::invocation::{InvocationStatus, JSON};
use crate::process::{self, RuntimeProcess};
use crate::sandbox::{EXIT_GRACE, Ended, Ending, Launch, ProcessSlot};
use crate::telemetry::InitPhase;

/// The Init phase that is under way.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) phase: InitPhase,
    pub(crate) requested: Instant,
    pub(crate) started: Option<Instant>,
    /// `None` within an invocation, whose time limit it shares.
    pub(crate) deadline: Option<Instant>,
}

/// Why an init failed, for who waits for it.
#[derive(Debug)]
pub(crate) struct InitFailure {
    pub(crate) status: InvocationStatus,
    pub(crate) error_type: String,
    pub(crate) cause: InitFailureCause,
}

#[derive(Debug)]
pub(crate) enum InitFailureCause {
    Posted { payload: Bytes, content_type: HeaderValue },
    Message(String),
    Timeout(Duration),
}

impl InitFailure {
    /// The document for who waits, and its type.
    pub(crate) fn document(&self, request_id: &str) -> (Bytes, HeaderValue) {
        match &self.cause {
            InitFailureCause::Posted { payload, content_type } => (payload.clone(), content_type.clone()),
            InitFailureCause::Message(message) => {
                (ErrorDocument::of_request(&self.error_type, request_id, message).body, JSON)
            }
            InitFailureCause::Timeout(limit) => (ErrorDocument::init_timeout(request_id, *limit).body, JSON),
        }
    }
}

impl FreshInit {
    /// The init that ends now.
    pub(crate) fn of(init: &Init, now: Instant) -> Self {
        Self {
            init: now.duration_since(init.requested),
            process_start: init.started.map(|started| started.duration_since(init.requested)),
            runtime_init: init.started.map(|started| now.duration_since(started)),
        }
    }
}

impl Lifecycle {
    /// The process that was being started is known, or there is none.
    pub fn launch_ended(&mut self) {
        self.sandbox.launch = Launch::None;
        self.sandbox.effects.pollers.extend(self.pollers.iter().map(|(_, waker)| waker.clone()));
    }

    /// A process was started; wanted or not, it is this environment's from now on.
    pub fn process_started(&mut self, process: RuntimeProcess, now: Instant) -> Result<(), EndpointError> {
        let void = self.sandbox.launch == Launch::Void;
        self.launch_ended();
        // An extension may have failed while it was being started: it is not wanted any more.
        if self.sandbox.closed || void || self.sandbox.extension_shutdown.is_some() {
            return Err(EndpointError::Closed);
        }
        if let ProcessSlot::Running(running) = &self.sandbox.process {
            return Err(EndpointError::ProcessRunning { running: running.pid, announced: process.pid });
        }
        // The runtime may be quicker than its starter: it has failed, or polled, before we hear of its pid.
        self.sandbox.process = ProcessSlot::Running(process);
        self.sandbox.peak_kb = 0;
        self.watch_memory(now);
        let idle = matches!(self.state, RuntimeState::Started | RuntimeState::InitError)
            && self.current.is_none()
            && !self.sandbox.is_ending();
        if self.init.is_none() && idle {
            self.begin_init(InitPhase::Init, now);
        }
        if let Some(init) = &mut self.init {
            init.started = Some(now);
        }
        if self.has_nothing_to_do() {
            // What it had to do is done already, and when the time to freeze it came it was not known.
            self.idle(now);
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

    /// Nothing of the process is left, and everything it sent was read.
    pub fn process_exited(&mut self, pid: i32, ended: process::Ended, now: Instant) {
        match &mut self.sandbox.process {
            ProcessSlot::Running(process) if process.pid == pid => {
                self.sandbox.peak_kb = self.sandbox.peak_kb.max(process.peak_memory_kb());
            }
            _ => return,
        }
        self.sandbox.peak_kb = self.sandbox.peak_kb.max(ended.max_rss_kb);
        self.sandbox.process = ProcessSlot::None;
        self.sandbox.drain_log(now);
        let reason = ended.exit.reason();
        // An internal extension that reported an error lives in this process.
        let error_type = self.sandbox.extensions.fatal_error(error_document::RUNTIME_EXIT_ERROR);
        if self.init.is_some() {
            let failure = InitFailure {
                status: InvocationStatus::Error,
                error_type: error_type.to_owned(),
                cause: InitFailureCause::Message(reason),
            };
            self.fail_init(failure, now);
        } else if self.fail_restore_of(error_type, &reason, now) {
            // Who waited for the restore was told.
        } else if let Some(current) = &mut self.current
            && current.outcome.is_none()
        {
            current.outcome = Some(Outcome::error(error_type));
            let failure = ErrorDocument::of_request(error_type, &current.invocation.request_id, &reason);
            self.fail_current(failure, InvocationStatus::Error, now);
            self.tell_runtime_done(now);
        }
        self.process_gone(now);
    }

    pub(super) fn begin_init(&mut self, phase: InitPhase, now: Instant) {
        self.sandbox.drain_log(now);
        let failed = self.failed_init.take();
        if phase == InitPhase::Init || failed.is_none() {
            // What a failed Init phase has printed is in the log of the invocation that runs it again.
            self.sandbox.log.begin();
        }
        self.state = RuntimeState::Started;
        self.fresh = None;
        self.sandbox.tell_init_start(phase, now);
        let deadline = (phase == InitPhase::Init).then(|| now + self.sandbox.config.init_timeout);
        self.init = Some(Init { phase, requested: now, started: None, deadline });
        if let Some(deadline) = deadline {
            self.sandbox.arm(deadline);
        }
    }

    /// The runtime, and every extension, has asked for its first event. A runtime that nobody asked for (a test, a
    /// benchmark) has no init to report.
    pub(super) fn end_init(&mut self, now: Instant) {
        let init = self.init.take();
        self.init_failed = false;
        let phase = init.as_ref().map_or(InitPhase::Init, |init| init.phase);
        let ended = init.map(|init| FreshInit::of(&init, now));
        self.sandbox.end_init(phase, ended.map(|ended| ended.init), now);
        match &mut self.current {
            Some(current) if phase == InitPhase::Invoke => current.suppressed_init = ended,
            _ => self.fresh = ended,
        }
        self.init_phase_over = true;
        self.report_snapshot_init(now);
    }

    pub(super) fn fail_waiting(&mut self, failure: InitFailure, now: Instant) {
        let Some(invocation) = self.queue.pop_front() else { return };
        let request_id = &invocation.request_id;
        let outcome = Outcome { status: failure.status, error_type: failure.error_type.clone() };
        let (payload, content_type) = failure.document(request_id);
        let current = self.undelivered(invocation, outcome, now);
        let answer = current.answer_of(payload, Some(content_type), Some(failure.error_type), failure.status);
        self.current = Some(current);
        self.give_answer(answer, now);
    }

    /// After a time limit: kill the process, whose end finishes the invocation. A runtime that is nobody's child
    /// cannot be killed; it gets 410 for its late answer and may poll again.
    pub(super) fn end_process_after_timeout(&mut self, now: Instant) {
        if self.end_processes(ShutdownReason::Timeout, now) {
            return;
        }
        self.sandbox.process = ProcessSlot::None;
        self.finish_current(now);
        self.sandbox.extensions.forget();
        self.state = match self.state {
            RuntimeState::Running
            | RuntimeState::InvocationResponse
            | RuntimeState::InvocationErrorResponse => RuntimeState::ResponseSent,
            other => other,
        };
        self.pump(now);
    }

    /// The runtime said that it failed and is expected to exit; its end finishes the invocation.
    pub(super) fn expect_exit(&mut self, now: Instant) {
        self.sandbox.peak_memory_kb();
        if matches!(self.sandbox.process, ProcessSlot::Starting | ProcessSlot::Running(_)) {
            self.sandbox.ending = Some(Ending { deadline: now + EXIT_GRACE, killed: false });
            self.sandbox.arm(now + EXIT_GRACE);
        } else {
            self.sandbox.process = ProcessSlot::None;
            self.finish_current(now);
            self.pump(now);
        }
    }

    /// End all processes. `false` if there is none.
    pub(super) fn end_processes(&mut self, reason: ShutdownReason, now: Instant) -> bool {
        let ended = self.sandbox.end_processes(reason, now);
        self.settle(ended, now);
        ended != Ended::Nothing
    }

    /// The runtime's process is gone: the extensions must go, too.
    pub(super) fn process_gone(&mut self, now: Instant) {
        let ended = self.sandbox.process_gone(now);
        self.settle(ended, now);
    }

    /// The last telemetry was sent, or could not be.
    pub fn telemetry_flushed(&mut self, now: Instant) {
        let ended = self.sandbox.telemetry_flushed(now);
        self.settle(ended, now);
    }

    /// Go on if all processes are gone.
    pub(super) fn settle(&mut self, ended: Ended, now: Instant) {
        if ended == Ended::All {
            self.environment_gone(now);
        }
    }

    /// The environment is without a process again.
    pub(super) fn environment_gone(&mut self, now: Instant) {
        self.finish_current(now);
        self.sandbox.reset();
        self.state = RuntimeState::Started;
        self.stalled = None;
        self.fresh = None;
        self.restored = None;
        self.pollers.clear();
        self.pump(now);
    }
}
