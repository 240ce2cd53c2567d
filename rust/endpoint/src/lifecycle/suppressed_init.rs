//! An init within an invocation, which AWS calls suppressed: where it takes place, and what becomes of one that fails
//! (spec extensions-telemetry 3.1 and 3.3, runtime-api 7.1).
//!
//! An environment has one Init phase, before its first invocation. When that fails, and after each reset, the init is
//! run within the next invocation: under the function's time limit and as part of its Duration. What fails then is the
//! invocation. With SnapStart there is none of it: its init belongs to a snapshot and not to an invocation, and one
//! that fails is the answer of the first invocation (AWS would refuse to publish the version).

use std::time::Instant;

use super::Lifecycle;
use super::current::{Current, FreshInit, Outcome};
use super::processes::{Init, InitFailure, InitFailureCause};
use crate::error_document::SANDBOX_TIMEDOUT;
use crate::invocation::{Invocation, InvocationStatus};
use crate::telemetry::InitPhase;

impl Lifecycle {
    /// The first waiting invocation needs an init: an Init phase of its own, or one within the invocation.
    pub(super) fn begin_init_for_invocation(&mut self, now: Instant) {
        if !self.init_phase_over || self.sandbox.config.snap_start {
            return self.begin_init(InitPhase::Init, now);
        }
        let Some(invocation) = self.queue.pop_front() else { return };
        let failed_init =
            self.failed_init.map(|requested| now.duration_since(requested.max(invocation.submitted)));
        self.begin_init(InitPhase::Invoke, now);
        let current = self.initialised_in(invocation, now);
        let queued = current.queued.saturating_sub(failed_init.unwrap_or_default());
        self.current = Some(Current { failed_init, queued, ..current });
    }

    fn initialised_in(&mut self, invocation: Invocation, now: Instant) -> Current {
        self.attempts += 1;
        self.sandbox.arm(now + invocation.timeout);
        Current::new(invocation, self.attempts, None, None, self.sandbox.config.limits, now)
    }

    /// Whether the current invocation waits for the end of its init, or for a runtime that fetches it.
    pub(super) fn awaits_delivery(&self) -> bool {
        self.current.as_ref().is_some_and(Current::awaits_delivery)
    }

    /// Init failed. In the Init phase that is no invocation's error yet: the first one will try again.
    pub(super) fn fail_init(&mut self, failure: InitFailure, now: Instant) {
        let init = self.init.take();
        self.init_failed = true;
        let phase = self.report_failed_init(init.as_ref(), failure.status, &failure.error_type, now);
        if phase == InitPhase::Invoke {
            self.fail_with_init(&failure, now);
        } else if !self.sandbox.config.snap_start {
            self.init_phase_over = true;
            self.failed_init = Some(init.map_or(now, |init| init.requested));
        } else if self.current.is_none() && !self.queue.is_empty() {
            self.fail_waiting(failure, now);
        } else {
            self.init_failure = Some(failure);
        }
    }

    /// The time limit of the Init phase has passed.
    pub(super) fn expire_init(&mut self, now: Instant) {
        let failure = InitFailure {
            status: InvocationStatus::Timeout,
            error_type: SANDBOX_TIMEDOUT.to_owned(),
            cause: InitFailureCause::Timeout(self.sandbox.config.init_timeout),
        };
        self.fail_init(failure, now);
        self.end_process_after_timeout(now);
    }

    /// The function's time limit has passed: if that was in the init within the invocation, it has failed with it.
    pub(super) fn expire_suppressed_init(&mut self, now: Instant) {
        if let Some(init) = self.init.take() {
            self.report_failed_init(Some(&init), InvocationStatus::Timeout, SANDBOX_TIMEDOUT, now);
        }
    }

    /// Tell of the end of an init that failed. Returns where it took place; one that nobody asked for counts as an
    /// Init phase.
    fn report_failed_init(
        &mut self,
        init: Option<&Init>,
        status: InvocationStatus,
        error_type: &str,
        now: Instant,
    ) -> InitPhase {
        let ended = init.map(|init| FreshInit::of(init, now));
        let phase = init.map_or(InitPhase::Init, |init| init.phase);
        let mut duration = ended.map(|ended| ended.init).unwrap_or_default();
        if phase == InitPhase::Init && status == InvocationStatus::Timeout {
            // The platform stops its clock at the limit, as for an invocation.
            duration = duration.min(self.sandbox.config.init_timeout);
        }
        self.init_report = Some(self.sandbox.fail_init(phase, duration, status, error_type, now));
        if phase == InitPhase::Invoke
            && let Some(current) = &mut self.current
        {
            current.suppressed_init = ended;
        }
        phase
    }

    /// The current invocation fails with the init within it.
    fn fail_with_init(&mut self, failure: &InitFailure, now: Instant) {
        let Some(current) = &mut self.current else { return };
        current.outcome = Some(Outcome { status: failure.status, error_type: failure.error_type.clone() });
        let (payload, content_type) = failure.document(&current.invocation.request_id);
        let error_type = Some(failure.error_type.clone());
        let answer = current.answer_of(payload, Some(content_type), error_type, failure.status);
        self.give_answer(answer, now);
        self.tell_runtime_done(now);
    }
}
