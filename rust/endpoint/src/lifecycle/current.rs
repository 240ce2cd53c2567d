//! The invocation an environment is busy with: from its delivery to the REPORT line.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::Lifecycle;
use super::runtime_calls::{Delivery, Posted, Refusal, RuntimeState};
use crate::environment::EnvironmentConfig;
use crate::error_document::{self, ErrorDocument};
use crate::identifiers;
use crate::invocation::{
    Answer, FinishWaiter, Invocation, InvocationStatus, InvokeResult, JSON, Phases, Waiter,
};
use crate::log_capture::LogCapture;
use crate::platform_log::{self, Report};
use crate::sandbox::Effects;

/// A successful init that no invocation has reported yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FreshInit {
    pub(crate) init: Duration,
    pub(crate) process_start: Option<Duration>,
    pub(crate) runtime_init: Option<Duration>,
}

/// How an invocation ended, where the runtime did not simply poll again.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) status: InvocationStatus,
    pub(crate) error_type: String,
}

/// What a REPORT says.
pub(crate) struct Figures {
    pub(crate) duration: Duration,
    pub(crate) init_duration: Option<Duration>,
    pub(crate) billed_duration_ms: u64,
    pub(crate) max_memory_used_mb: u64,
    /// The platform's view: an error the function itself reported is a success here.
    pub(crate) status: InvocationStatus,
    pub(crate) error_type: Option<String>,
}

/// The invocation the environment is busy with.
pub(crate) struct Current {
    pub(crate) invocation: Invocation,
    pub(crate) attempt: u64,
    pub(crate) invocation_id: HeaderValue,
    pub(crate) deadline_ms: u64,
    /// When its Duration began: with its delivery, or with the init that is run again for it. `None` if there was
    /// neither.
    pub(crate) began: Option<Instant>,
    /// `None` until the event reaches a runtime, and for good if init fails.
    pub(crate) delivered: Option<Instant>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) paused: bool,
    /// The init before it, which it reports.
    pub(crate) fresh: Option<FreshInit>,
    /// The init within it (`suppressed_init`), which is part of its Duration.
    pub(crate) suppressed_init: Option<FreshInit>,
    /// How long it waited for an init that failed, and for the end of that.
    pub(crate) failed_init: Option<Duration>,
    pub(crate) restored: Option<Duration>,
    pub(crate) answer: Option<Answer>,
    /// When the head of the answer came.
    pub(crate) answer_began: Option<Instant>,
    pub(crate) answered: Option<Instant>,
    /// When the runtime polled again; extensions may still be at work then.
    pub(crate) runtime_done: Option<Instant>,
    /// Telemetry was told of its start.
    pub(crate) start_told: bool,
    /// Extensions work on it, too.
    pub(crate) extended: bool,
    /// The platform's own complaint about the answer.
    pub(crate) platform_error: Option<String>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) queued: Duration,
}

impl Lifecycle {
    /// The next invocation goes to the runtime, if one waits: the one for which init was run again, or the first in the
    /// queue.
    pub(super) fn deliver(&mut self, now: Instant) -> Option<Delivery> {
        let mut current = if self.awaits_delivery() { self.current.take() } else { None };
        if current.is_none() {
            let invocation = self.queue.pop_front()?;
            self.sandbox.drain_log(now);
            let (fresh, restored) = (self.fresh.take(), self.restored.take());
            if fresh.is_none() && restored.is_none() {
                self.sandbox.log.begin();
            }
            self.attempts += 1;
            self.sandbox.arm(now + invocation.timeout);
            let limited = self.sandbox.config.limits;
            current = Some(Current::new(invocation, self.attempts, fresh, restored, limited, now));
        }
        let mut current = current?;
        self.stalled = None;
        self.thaw();
        self.watch_memory(now);
        self.sandbox.drain_log(now);
        if !current.invocation.quiet {
            let request_id = &current.invocation.request_id;
            let line = platform_log::start_line(request_id, &self.sandbox.config.function_version);
            self.sandbox.log.write_lines(&line);
        }
        current.delivered = Some(now);
        let delivery = current.delivery();
        self.sandbox.tell_start(&mut current, now);
        self.current = Some(current);
        self.tell_extensions();
        self.state = RuntimeState::Running;
        Some(delivery)
    }

    /// An invocation that no runtime will see.
    pub(super) fn undelivered(&mut self, invocation: Invocation, outcome: Outcome, now: Instant) -> Current {
        self.attempts += 1;
        Current::undelivered(invocation, self.attempts, outcome, now)
    }

    /// Answer the current invocation with a document of the platform, unless the runtime has answered it.
    pub(super) fn fail_current(&mut self, document: ErrorDocument, status: InvocationStatus, now: Instant) {
        if let Some(current) = self.current.as_ref().filter(|current| current.answer.is_none()) {
            let answer = current.answer_of(document.body, None, Some(document.error_type), status);
            self.give_answer(answer, now);
        }
    }

    pub(super) fn give_answer(&mut self, answer: Answer, now: Instant) {
        if let Some(current) = &mut self.current {
            current.give_answer(answer, &mut self.sandbox.effects, now);
        }
    }

    /// The invocation is over: write its last lines and tell who waits for them.
    pub(super) fn finish_current(&mut self, now: Instant) {
        self.sandbox.drain_log(now);
        if let Some(line) = self.init_report.take() {
            self.sandbox.log.write_lines(&line);
        }
        let Some(current) = self.current.take() else { return };
        let quiet = current.invocation.quiet;
        let memory_kb = if quiet { 0 } else { self.reported_memory_kb(current.outcome.as_ref()) };
        if current.answer.is_some() && self.sandbox.telemetry.is_wanted() {
            let figures = current.figures(&self.sandbox.config, memory_kb, now);
            self.sandbox.tell_report(&current, &figures, now);
        }
        let Some((waiter, mut result)) =
            current.finish(&self.sandbox.config, &mut self.sandbox.log, memory_kb, now)
        else {
            return;
        };
        result.log_tail = self.sandbox.log.tail();
        result.log = self.sandbox.log.take_whole();
        result.extension_log = self.sandbox.log.take_extensions();
        self.sandbox.effects.finishes.push((waiter, result));
    }

    /// Telemetry is told that the runtime is done with the current invocation.
    pub(super) fn tell_runtime_done(&mut self, now: Instant) {
        if let Some(current) = &mut self.current {
            self.sandbox.tell_runtime_done(current, now);
        }
    }
}

impl Current {
    /// An invocation whose Duration begins now, with its delivery or with an init of its own.
    pub(crate) fn new(
        invocation: Invocation,
        attempt: u64,
        fresh: Option<FreshInit>,
        restored: Option<Duration>,
        limited: bool,
        now: Instant,
    ) -> Self {
        Self {
            attempt,
            // A UUID is always a valid header value.
            invocation_id: HeaderValue::try_from(identifiers::request_id()).unwrap_or(JSON),
            deadline_ms: unix_ms(invocation.timeout),
            began: Some(now),
            delivered: None,
            deadline: limited.then(|| now + invocation.timeout),
            paused: !limited,
            fresh,
            suppressed_init: None,
            failed_init: None,
            restored,
            answer: None,
            answer_began: None,
            answered: None,
            runtime_done: None,
            start_told: false,
            extended: false,
            platform_error: None,
            outcome: None,
            queued: queued_before_init(&invocation, fresh, restored, now),
            invocation,
        }
    }

    /// An invocation that no runtime will see.
    pub(crate) fn undelivered(invocation: Invocation, attempt: u64, outcome: Outcome, now: Instant) -> Self {
        Self {
            attempt,
            invocation_id: HeaderValue::from_static(""),
            deadline_ms: 0,
            began: None,
            delivered: None,
            deadline: None,
            paused: false,
            fresh: None,
            suppressed_init: None,
            failed_init: None,
            restored: None,
            answer: None,
            answer_began: None,
            answered: None,
            runtime_done: None,
            start_told: false,
            extended: false,
            platform_error: None,
            outcome: Some(outcome),
            queued: now.duration_since(invocation.submitted),
            invocation,
        }
    }

    /// The figures of the REPORT.
    pub(crate) fn figures(&self, config: &EnvironmentConfig, memory_kb: u64, now: Instant) -> Figures {
        let elapsed = self.began.map_or(Duration::ZERO, |began| now.duration_since(began));
        let timed_out = self.outcome.as_ref().is_some_and(|o| o.status == InvocationStatus::Timeout);
        // The platform stops its clock at the limit; how long the kill takes is not the function's time.
        let duration = if timed_out && !self.paused { elapsed.min(self.invocation.timeout) } else { elapsed };
        // With SnapStart the init belongs to the snapshot and not to an invocation.
        let init_duration = self.fresh.map(|fresh| fresh.init).filter(|_| !config.snap_start);
        let (status, error_type) = match (&self.outcome, &self.platform_error) {
            (Some(outcome), _) => (outcome.status, Some(outcome.error_type.clone())),
            (None, Some(error_type)) => (InvocationStatus::Error, Some(error_type.clone())),
            (None, None) => (InvocationStatus::Success, None),
        };
        Figures {
            duration,
            init_duration,
            billed_duration_ms: platform_log::billed_duration_ms(duration, init_duration, self.restored),
            max_memory_used_mb: memory_kb.div_ceil(1024),
            status,
            error_type,
        }
    }

    /// The end of the invocation: its last lines are written to the log. Returns who waits for them, and the result
    /// without its log.
    pub(crate) fn finish(
        self,
        config: &EnvironmentConfig,
        log: &mut LogCapture,
        memory_kb: u64,
        now: Instant,
    ) -> Option<(FinishWaiter, Box<InvokeResult>)> {
        let figures = self.figures(config, memory_kb, now);
        let answer = self.answer?;
        let Figures { duration, init_duration, billed_duration_ms, max_memory_used_mb, status, error_type } =
            figures;
        if !self.invocation.quiet {
            let request_id = &self.invocation.request_id;
            if self.delivered.is_none() {
                log.write_lines(&platform_log::start_line(request_id, &config.function_version));
            }
            log.write_lines(&platform_log::end_and_report_lines(&Report {
                request_id,
                duration,
                billed_duration_ms,
                memory_size_mb: config.memory_size_mb,
                max_memory_used_mb,
                init_duration,
                restore_duration: self.restored,
                status,
                error_type: error_type.as_deref(),
            }));
        }
        let Waiter::Finish(waiter) = self.invocation.waiter else { return None };
        // An error that the function reported is an error to the caller, though the platform logs a success.
        let (status, error_type) = if status == InvocationStatus::Success && answer.is_error {
            (InvocationStatus::Error, answer.error_type.clone())
        } else {
            (status, error_type)
        };
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let response = between(self.delivered, self.answered);
        let init = self.fresh.or(self.suppressed_init);
        let result = InvokeResult {
            answer,
            executed_version: config.function_version.clone(),
            status,
            error_type,
            log_tail: Bytes::new(),
            log: Bytes::new(),
            extension_log: Bytes::new(),
            init_duration: self.fresh.map(|fresh| fresh.init),
            restore_duration: self.restored,
            duration,
            billed_duration_ms,
            response_latency: response.unwrap_or_default(),
            max_memory_used_mb,
            phases: Phases {
                queued: Some(self.queued),
                failed_init: self.failed_init,
                process_start: init.and_then(|init| init.process_start),
                runtime_init: init.and_then(|init| init.runtime_init),
                restore: self.restored,
                response,
                after_response: self
                    .delivered
                    .and_then(|_| between(self.answered, Some(self.runtime_done.unwrap_or(now)))),
                extensions: between(self.runtime_done.filter(|_| self.extended), Some(now)),
            },
            delivered_at: self.delivered,
        };
        Some((waiter, Box::new(result)))
    }

    /// What the runtime posted, as the caller's answer.
    pub(crate) fn posted(&mut self, posted: Posted) -> Answer {
        match posted {
            Posted::Response { payload, content_type } => {
                self.answer_of(payload, content_type, None, InvocationStatus::Success)
            }
            Posted::Error { payload, content_type, error_type } => {
                self.answer_of(payload, content_type, Some(error_type), InvocationStatus::Error)
            }
            Posted::Streamed { content_type } => {
                self.answer_of(Bytes::new(), content_type, None, InvocationStatus::Success)
            }
            Posted::Failed(document) => {
                self.platform_error = Some(document.error_type.clone());
                self.answer_of(document.body, None, Some(document.error_type), InvocationStatus::Error)
            }
        }
    }

    /// Keep the answer, and hand it to who waits for no more than that.
    pub(crate) fn give_answer(&mut self, answer: Answer, effects: &mut Effects, now: Instant) {
        self.answered = Some(now);
        // Who waits for pieces sees that there are none to come.
        self.invocation.pieces = None;
        match std::mem::replace(&mut self.invocation.waiter, Waiter::Nobody) {
            Waiter::Answer(waiter) => effects.answers.push((waiter, answer.clone())),
            other => self.invocation.waiter = other,
        }
        self.answer = Some(answer);
    }

    /// Whether a runtime has it and has not answered.
    pub(crate) fn is_with_runtime(&self) -> bool {
        self.delivered.is_some() && self.answer.is_none() && self.outcome.is_none()
    }

    /// Whether its event has still to reach a runtime, and may.
    pub(crate) fn awaits_delivery(&self) -> bool {
        self.began.is_some() && self.delivered.is_none() && self.outcome.is_none()
    }

    pub(crate) fn is(&self, request_id: &str) -> bool {
        self.invocation.request_id == request_id
    }

    /// Whether an answer that names an attempt means this one; one that names none, as of an older client, does.
    pub(crate) fn check_attempt(&self, invocation_id: Option<&[u8]>) -> Result<(), Refusal> {
        match invocation_id {
            Some(id) if !id.is_empty() && id != self.invocation_id.as_bytes() => Err(Refusal::OtherAttempt),
            _ => Ok(()),
        }
    }

    pub(crate) fn delivery(&self) -> Delivery {
        Delivery {
            request_id: self.invocation.request_id_header.clone(),
            invocation_id: self.invocation_id.clone(),
            deadline_ms: self.deadline_ms,
            times_out: self.began.unwrap_or(self.invocation.submitted) + self.invocation.timeout,
            trace_id: self.invocation.trace_id.clone(),
            client_context: self.invocation.client_context.clone(),
            cognito_identity: self.invocation.cognito_identity.clone(),
            tenant_id: self.invocation.tenant_id.clone(),
            invoked_function_arn: self.invocation.invoked_function_arn.clone(),
            content_type: self.invocation.content_type.clone(),
            event: self.invocation.event.clone(),
        }
    }

    pub(crate) fn answer_of(
        &self,
        payload: Bytes,
        content_type: Option<HeaderValue>,
        error_type: Option<String>,
        status: InvocationStatus,
    ) -> Answer {
        Answer {
            request_id: self.invocation.request_id.clone(),
            payload,
            content_type: content_type.unwrap_or(JSON),
            is_error: status != InvocationStatus::Success,
            error_type,
            trace_id: self.invocation.trace_id.clone(),
            status,
            service_error: None,
        }
    }
}

impl Outcome {
    pub(crate) fn error(error_type: &str) -> Self {
        Self { status: InvocationStatus::Error, error_type: error_type.to_owned() }
    }

    pub(crate) fn timeout() -> Self {
        Self { status: InvocationStatus::Timeout, error_type: error_document::SANDBOX_TIMEDOUT.to_owned() }
    }
}

/// The time before the environment turned to this invocation: its own init and restore are no waiting.
fn queued_before_init(
    invocation: &Invocation,
    fresh: Option<FreshInit>,
    restored: Option<Duration>,
    now: Instant,
) -> Duration {
    let own = fresh.map_or(Duration::ZERO, |fresh| fresh.init) + restored.unwrap_or_default();
    now.duration_since(invocation.submitted).saturating_sub(own)
}

/// Unix time in milliseconds, `ahead` from now.
pub(crate) fn unix_ms(ahead: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from((now + ahead).as_millis()).unwrap_or(u64::MAX)
}
