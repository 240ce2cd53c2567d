//! SnapStart: the wait in which a snapshot is taken, and the restore (spec runtime-api 1.8 and 5.2).
//!
//! There is one process and no snapshot here: it waits in `/restore/next` from the end of its init until the first
//! invocation comes, and is then told that it was restored.

use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::Lifecycle;
use super::processes::{InitFailure, InitFailureCause};
use super::runtime_calls::{NextPoll, Refusal, RuntimeState};
use crate::invocation::InvocationStatus;
use crate::platform_log;
use crate::sandbox::Launch;
use crate::sandbox::events::success;
use crate::telemetry::InitPhase;

/// The restore, after-restore hooks included, took too long.
const HOOK_TIMEOUT: &str = "Runtime.RestoreHookUserTimeout";

/// The restore that is under way.
#[derive(Debug)]
pub(super) struct Restore {
    pub(super) started: Instant,
    pub(super) deadline: Option<Instant>,
}

impl Lifecycle {
    /// `GET /restore/next` of poller `poller`: the end of init, and the wait for the first invocation.
    pub fn poll_restore(&mut self, poller: u64, waker: &Waker, now: Instant) -> NextPoll<()> {
        self.greet_new_runtime(now);
        match self.state {
            // A process that is being ended gets nothing any more.
            RuntimeState::Started | RuntimeState::RestoreReady if self.sandbox.is_ending() => {
                return self.register(poller, waker);
            }
            RuntimeState::Started if self.sandbox.launch != Launch::None => {
                return self.register(poller, waker);
            }
            RuntimeState::Started => {
                self.state = RuntimeState::RestoreReady;
                self.runtime_is_initialised(now);
            }
            // The same one looks again.
            RuntimeState::RestoreReady if self.pollers.iter().any(|(id, _)| *id == poller) => {}
            // The platform names this state here, and not RestoreReady.
            _ => return NextPoll::Refused(self.refuse(RuntimeState::Ready)),
        }
        if !self.is_free() {
            return self.register(poller, waker);
        }
        if self.queue.is_empty() {
            self.idle(now);
            return self.register(poller, waker);
        }
        self.forget_poller(poller);
        self.begin_restore(now);
        NextPoll::Deliver(())
    }

    fn begin_restore(&mut self, now: Instant) {
        self.stalled = None;
        self.thaw();
        self.sandbox.drain_log(now);
        if self.fresh.is_none() {
            self.sandbox.log.begin();
        }
        self.sandbox.log.write_lines(platform_log::RESTORE_START);
        self.sandbox.tell_restore_start(now);
        let deadline = now + self.sandbox.config.restore_timeout;
        self.restore = Some(Restore { started: now, deadline: Some(deadline) });
        self.state = RuntimeState::Restoring;
        self.sandbox.arm(deadline);
    }

    /// The first `/next` after the restore: its hooks have run.
    pub(super) fn end_restore(&mut self, now: Instant) {
        let Some(restore) = self.restore.take() else { return };
        let duration = now.duration_since(restore.started);
        self.sandbox.drain_log(now);
        self.sandbox.tell_restore_end(success(), duration, now);
        let line = platform_log::restore_report_line(duration, InvocationStatus::Success, None);
        self.sandbox.log.write_lines(&line);
        self.restored = Some(duration);
    }

    /// Whether a failed hook may be reported now.
    pub fn begin_restore_error(&self) -> Result<(), Refusal> {
        if self.state == RuntimeState::Restoring && !self.sandbox.is_ending() {
            Ok(())
        } else {
            Err(self.refuse(RuntimeState::RestoreError))
        }
    }

    /// The runtime reported that a hook failed: the waiting invocation gets the body, and the process is expected to
    /// exit.
    pub fn finish_restore_error(
        &mut self,
        payload: Bytes,
        content_type: HeaderValue,
        error_type: String,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.begin_restore_error()?;
        self.state = RuntimeState::RestoreError;
        let cause = InitFailureCause::Posted { payload, content_type };
        self.fail_restore(InitFailure { status: InvocationStatus::Error, error_type, cause }, now);
        self.expect_exit(now);
        Ok(())
    }

    /// The time of the restore is up: kill the process.
    pub(super) fn expire_restore(&mut self, now: Instant) {
        let limit = self.sandbox.config.restore_timeout;
        let failure = InitFailure {
            status: InvocationStatus::Timeout,
            error_type: HOOK_TIMEOUT.to_owned(),
            cause: InitFailureCause::Message(timeout_message(limit)),
        };
        self.fail_restore(failure, now);
        self.end_process_after_timeout(now);
    }

    /// Something ended that should not, for `reason`. Returns whether that was in a restore.
    pub(super) fn fail_restore_of(&mut self, error_type: &str, reason: &str, now: Instant) -> bool {
        if self.restore.is_none() {
            return false;
        }
        let failure = InitFailure {
            status: InvocationStatus::Error,
            error_type: error_type.to_owned(),
            cause: InitFailureCause::Message(reason.to_owned()),
        };
        self.fail_restore(failure, now);
        true
    }

    /// The invocation that the restore was for is answered with its failure.
    fn fail_restore(&mut self, failure: InitFailure, now: Instant) {
        let duration =
            self.restore.take().map_or(Duration::ZERO, |restore| now.duration_since(restore.started));
        self.sandbox.drain_log(now);
        let ended_with = self.sandbox.failed_init(failure.status, &failure.error_type);
        self.sandbox.tell_restore_end(ended_with, duration, now);
        let error_type = Some(failure.error_type.as_str());
        self.init_report = Some(platform_log::restore_report_line(duration, failure.status, error_type));
        self.fail_waiting(failure, now);
    }

    /// With SnapStart an init has a report of its own, for it belongs to no invocation.
    pub(super) fn report_snapshot_init(&mut self, now: Instant) {
        if let Some(fresh) = self.fresh.filter(|_| self.sandbox.config.snap_start) {
            self.sandbox.drain_log(now);
            let (phase, status) = (InitPhase::Init, InvocationStatus::Success);
            let line = platform_log::init_report_line(fresh.init, phase, status, None);
            self.sandbox.log.write_lines(&line);
        }
    }
}

fn timeout_message(limit: Duration) -> String {
    format!("Task timed out after {:.2} seconds in the Restore phase", limit.as_secs_f64())
}
