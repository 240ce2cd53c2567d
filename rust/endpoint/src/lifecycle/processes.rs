//! The environment's process: wanted, started, initialising, ended (spec runtime-api 7).

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::current::{FreshInit, Outcome};
use super::events::{failed_init, success};
use super::runtime_calls::RuntimeState;
use super::{EXIT_GRACE, Lifecycle, REAP_LIMIT};
use crate::error::EndpointError;
use crate::error_document::{self, ErrorDocument};
use crate::extensions::ShutdownReason;
use crate::invocation::{InvocationStatus, JSON};
use crate::platform_log;
use crate::process::{Ended, RuntimeProcess};

/// Where the environment's process stands.
#[derive(Debug)]
pub(crate) enum ProcessSlot {
    None,
    /// One is wanted when all external extensions have registered.
    AwaitsExtensions,
    /// Somebody is asked to start one.
    Wanted,
    /// Somebody took the request.
    Starting,
    Running(RuntimeProcess),
}

/// The Init phase that is under way.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) requested: Instant,
    pub(crate) started: Option<Instant>,
    pub(crate) deadline: Option<Instant>,
}

/// A process on its way out.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) deadline: Instant,
    pub(crate) killed: bool,
}

/// A failed init that nobody waited for: the first invocation gets it (spec runtime-api 1.5).
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
    /// Whether a process is there that has not been seen to end.
    pub fn has_process(&self) -> bool {
        matches!(self.process, ProcessSlot::Running(_))
            || !self.extension_processes.is_empty()
            || self.extension_shutdown.is_some()
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

    /// A process was started; wanted or not, it is this environment's from now on.
    pub fn process_started(&mut self, process: RuntimeProcess, now: Instant) -> Result<(), EndpointError> {
        if self.closed {
            return Err(EndpointError::Closed);
        }
        if self.extension_shutdown.is_some() {
            // An extension failed while it was being started: it is not wanted any more.
            return Err(EndpointError::Closed);
        }
        if let ProcessSlot::Running(running) = &self.process {
            return Err(EndpointError::ProcessRunning { running: running.pid, announced: process.pid });
        }
        // The runtime may be quicker than its starter: it has polled or failed before we hear of its pid.
        self.process = ProcessSlot::Running(process);
        self.peak_kb = 0;
        self.watch_memory(now);
        let idle =
            matches!(self.state, RuntimeState::Started | RuntimeState::InitError) && self.current.is_none();
        if self.init.is_none() && idle {
            self.begin_init(now);
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
        if matches!(self.process, ProcessSlot::Running(_)) {
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
        self.process_gone(now);
    }

    /// The process and all it started have ended, but its pid is still taken: from here on it is not signalled.
    pub fn process_ended(&mut self, pid: i32) {
        if let ProcessSlot::Running(process) = &mut self.process
            && process.pid == pid
        {
            process.ended();
        }
    }

    /// Nothing of the process is left, and everything it sent was read.
    pub fn process_exited(&mut self, pid: i32, ended: Ended, now: Instant) {
        match &mut self.process {
            ProcessSlot::Running(process) if process.pid == pid => {
                self.peak_kb = self.peak_kb.max(process.peak_memory_kb());
            }
            _ => return,
        }
        self.peak_kb = self.peak_kb.max(ended.max_rss_kb);
        self.process = ProcessSlot::None;
        self.drain_log(now);
        let reason = ended.exit.reason();
        if let Some(init) = self.init.take() {
            let failure = InitFailure {
                status: InvocationStatus::Error,
                error_type: error_document::RUNTIME_EXIT_ERROR.to_owned(),
                cause: InitFailureCause::Message(reason),
            };
            self.fail_init(failure, now.duration_since(init.requested), now);
        } else if self.exit_in_restore(&reason, now) {
            // Who waited for the restore was told.
        } else if let Some(current) = &mut self.current
            && current.outcome.is_none()
        {
            current.outcome = Some(Outcome::error(error_document::RUNTIME_EXIT_ERROR));
            let failure = ErrorDocument::exit(&current.invocation.request_id, &reason);
            self.fail_current(failure, InvocationStatus::Error, now);
            self.tell_runtime_done(now);
        }
        self.process_gone(now);
    }

    pub(super) fn begin_init(&mut self, now: Instant) {
        self.drain_log(now);
        self.log.begin();
        self.state = RuntimeState::Started;
        self.fresh = None;
        self.tell_init_start(now);
        let deadline = now + self.config.init_timeout;
        self.init = Some(Init { requested: now, started: None, deadline: Some(deadline) });
        self.arm(deadline);
    }

    /// The runtime, and every extension, has asked for its first event. A runtime that nobody asked for (a test, a
    /// benchmark) has no init to report.
    pub(super) fn end_init(&mut self, now: Instant) {
        self.fresh = self.init.take().map(|init| FreshInit::of(&init, now));
        if self.extensions.any_registered() || self.telemetry.has_subscribers() {
            self.drain_log(now);
            let duration = self.fresh.map_or(Duration::ZERO, |fresh| fresh.init);
            self.tell_init_end(success(), duration, true, now);
        }
        self.extensions.end_init();
        self.telemetry.close_subscriptions();
        self.report_snapshot_init(now);
        if matches!(self.process, ProcessSlot::Wanted) {
            // Somebody else's runtime came first: no process is wanted any more.
            self.process = ProcessSlot::None;
        }
    }

    /// Init failed: the waiting invocation is answered with it, or the first one to come.
    pub(super) fn fail_init(&mut self, failure: InitFailure, duration: Duration, now: Instant) {
        let runtime = !matches!(self.process, ProcessSlot::AwaitsExtensions);
        let status = failed_init(failure.status, &failure.error_type);
        self.drain_log(now);
        self.tell_init_end(status, duration, runtime, now);
        let error_type = Some(failure.error_type.as_str());
        self.init_report = Some(platform_log::init_report_line(duration, failure.status, error_type));
        if self.current.is_none() && !self.queue.is_empty() {
            self.fail_waiting(failure, now);
        } else {
            self.init_failure = Some(failure);
        }
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
        self.process = ProcessSlot::None;
        self.finish_current(now);
        self.extensions.forget();
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
        self.peak_memory_kb();
        if matches!(self.process, ProcessSlot::Starting | ProcessSlot::Running(_)) {
            self.ending = Some(Ending { deadline: now + EXIT_GRACE, killed: false });
            self.arm(now + EXIT_GRACE);
        } else {
            self.process = ProcessSlot::None;
            self.finish_current(now);
        }
    }

    /// Whether there was a process to kill.
    pub(super) fn kill_process(&mut self, now: Instant) -> bool {
        let ProcessSlot::Running(process) = &mut self.process else { return false };
        self.peak_kb = self.peak_kb.max(process.peak_memory_kb());
        process.kill();
        self.ending = Some(Ending { deadline: now + REAP_LIMIT, killed: true });
        self.arm(now + REAP_LIMIT);
        true
    }

    /// The runtime's process is gone: the extensions must go, too.
    pub(super) fn process_gone(&mut self, now: Instant) {
        if self.extension_shutdown.is_some() {
            return;
        }
        if self.shutdown_began.is_none() {
            // It ended by itself.
            self.shutdown_reason = ShutdownReason::Failure;
            self.shutdown_began = Some(now);
        }
        self.shut_extensions_down(now);
    }

    /// The environment is without a process again.
    pub(super) fn environment_gone(&mut self, now: Instant) {
        self.finish_current(now);
        self.process = ProcessSlot::None;
        self.extension_shutdown = None;
        self.shutdown_began = None;
        self.extensions.reset();
        self.telemetry.reset();
        self.state = RuntimeState::Started;
        self.ending = None;
        self.stalled = None;
        self.fresh = None;
        self.restored = None;
        self.pollers.clear();
        self.effects.process_changed = true;
        self.pump(now);
    }
}
