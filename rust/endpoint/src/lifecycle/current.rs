//! The invocation an environment is busy with: from its delivery to the REPORT line.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::Lifecycle;
use super::processes::ProcessSlot;
use super::runtime_calls::{Delivery, RuntimeState};
use crate::error_document::{self, ErrorDocument};
use crate::identifiers;
use crate::invocation::{Answer, Invocation, InvocationStatus, InvokeResult, JSON, Phases, Waiter};
use crate::platform_log::{self, Report};

/// A successful init that no invocation has reported yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct FreshInit {
    pub(super) init: Duration,
    pub(super) process_start: Option<Duration>,
    pub(super) runtime_init: Option<Duration>,
}

/// How an invocation ended, where the runtime did not simply poll again.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) status: InvocationStatus,
    pub(super) error_type: String,
}

/// The invocation the environment is busy with.
pub(super) struct Current {
    pub(super) invocation: Invocation,
    pub(super) attempt: u64,
    pub(super) invocation_id: HeaderValue,
    pub(super) deadline_ms: u64,
    /// `None` if the event never reaches a runtime, because init failed.
    pub(super) delivered: Option<Instant>,
    pub(super) deadline: Option<Instant>,
    pub(super) paused: bool,
    pub(super) fresh: Option<FreshInit>,
    pub(super) answer: Option<Answer>,
    pub(super) answered: Option<Instant>,
    /// The platform's own complaint about the answer.
    pub(super) platform_error: Option<String>,
    pub(super) outcome: Option<Outcome>,
    pub(super) queued: Duration,
}

impl Lifecycle {
    pub(super) fn deliver(&mut self, invocation: Invocation, now: Instant) -> Delivery {
        self.stalled = None;
        self.log.drain();
        let fresh = self.fresh.take();
        if fresh.is_none() {
            self.log.begin();
        }
        if !invocation.quiet {
            let line = platform_log::start_line(&invocation.request_id, &self.config.function_version);
            self.log.write_lines(&line);
        }
        self.attempts += 1;
        let deadline = now + invocation.timeout;
        let invocation_id = identifiers::request_id();
        let current = Current {
            attempt: self.attempts,
            // A UUID is always a valid header value.
            invocation_id: HeaderValue::try_from(invocation_id).unwrap_or(JSON),
            deadline_ms: unix_ms(invocation.timeout),
            delivered: Some(now),
            deadline: Some(deadline),
            paused: false,
            fresh,
            answer: None,
            answered: None,
            platform_error: None,
            outcome: None,
            queued: queued_before_init(&invocation, fresh, now),
            invocation,
        };
        let delivery = current.delivery();
        self.current = Some(current);
        self.state = RuntimeState::Running;
        self.arm(deadline);
        delivery
    }

    /// An invocation that no runtime will see.
    pub(super) fn undelivered(&mut self, invocation: Invocation, outcome: Outcome, now: Instant) -> Current {
        self.attempts += 1;
        Current {
            attempt: self.attempts,
            invocation_id: HeaderValue::from_static(""),
            deadline_ms: 0,
            delivered: None,
            deadline: None,
            paused: false,
            fresh: None,
            answer: None,
            answered: None,
            platform_error: None,
            outcome: Some(outcome),
            queued: now.duration_since(invocation.submitted),
            invocation,
        }
    }

    /// Answer the current invocation with a document of the platform, unless the runtime has answered it.
    pub(super) fn fail_current(&mut self, document: ErrorDocument, status: InvocationStatus, now: Instant) {
        if let Some(current) = self.current.as_ref().filter(|current| current.answer.is_none()) {
            let answer = current.answer_of(document.body, None, Some(document.error_type), status);
            self.give_answer(answer, now);
        }
    }

    pub(super) fn give_answer(&mut self, answer: Answer, now: Instant) {
        let Some(current) = &mut self.current else { return };
        current.answered = Some(now);
        match std::mem::replace(&mut current.invocation.waiter, Waiter::Nobody) {
            Waiter::Answer(waiter) => self.effects.answers.push((waiter, answer.clone())),
            other => current.invocation.waiter = other,
        }
        current.answer = Some(answer);
    }

    /// The invocation is over: write its last lines and tell who waits for them.
    pub(super) fn finish_current(&mut self, now: Instant) {
        self.log.drain();
        if let Some(line) = self.init_report.take() {
            self.log.write_lines(&line);
        }
        let Some(current) = self.current.take() else { return };
        let Some(answer) = current.answer else { return };
        let quiet = current.invocation.quiet;
        let elapsed = current.delivered.map_or(Duration::ZERO, |delivered| now.duration_since(delivered));
        let timed_out = current.outcome.as_ref().is_some_and(|o| o.status == InvocationStatus::Timeout);
        // The platform stops its clock at the limit; how long the kill takes is not the function's time.
        let duration =
            if timed_out && !current.paused { elapsed.min(current.invocation.timeout) } else { elapsed };
        let init_duration = current.fresh.map(|fresh| fresh.init);
        let billed_duration_ms = platform_log::billed_duration_ms(duration, init_duration);
        let max_memory_used_mb = if quiet { 0 } else { self.peak_memory_kb().div_ceil(1024) };
        let (status, error_type) = match (current.outcome, current.platform_error) {
            (Some(outcome), _) => (outcome.status, Some(outcome.error_type)),
            (None, Some(error_type)) => (InvocationStatus::Error, Some(error_type)),
            (None, None) => (InvocationStatus::Success, None),
        };
        if !quiet {
            let request_id = &current.invocation.request_id;
            if current.delivered.is_none() {
                let line = platform_log::start_line(request_id, &self.config.function_version);
                self.log.write_lines(&line);
            }
            let lines = platform_log::end_and_report_lines(&Report {
                request_id,
                duration,
                billed_duration_ms,
                memory_size_mb: self.config.memory_size_mb,
                max_memory_used_mb,
                init_duration,
                status,
                error_type: error_type.as_deref(),
            });
            self.log.write_lines(&lines);
        }
        let Waiter::Finish(waiter) = current.invocation.waiter else { return };
        // An error that the function reported is an error to the caller, though the platform logs a success.
        let (status, error_type) = if status == InvocationStatus::Success && answer.is_error {
            (InvocationStatus::Error, answer.error_type.clone())
        } else {
            (status, error_type)
        };
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let response = between(current.delivered, current.answered);
        let result = InvokeResult {
            answer,
            executed_version: self.config.function_version.clone(),
            status,
            error_type,
            log_tail: self.log.tail(),
            log: self.log.take_whole(),
            init_duration,
            duration,
            billed_duration_ms,
            response_latency: response.unwrap_or_default(),
            max_memory_used_mb,
            phases: Phases {
                queued: Some(current.queued),
                process_start: current.fresh.and_then(|fresh| fresh.process_start),
                runtime_init: current.fresh.and_then(|fresh| fresh.runtime_init),
                response,
                after_response: current.delivered.and_then(|_| between(current.answered, Some(now))),
            },
            delivered_at: current.delivered,
        };
        self.effects.finishes.push((waiter, Box::new(result)));
    }

    pub(super) fn peak_memory_kb(&mut self) -> u64 {
        if let ProcessSlot::Running(process) = &mut self.process {
            self.peak_kb = process.peak_memory_kb();
        }
        self.peak_kb
    }
}

impl Current {
    pub(super) fn is(&self, request_id: &str) -> bool {
        self.invocation.request_id == request_id
    }

    pub(super) fn delivery(&self) -> Delivery {
        Delivery {
            request_id: self.invocation.request_id_header.clone(),
            invocation_id: self.invocation_id.clone(),
            deadline_ms: self.deadline_ms,
            trace_id: self.invocation.trace_id.clone(),
            client_context: self.invocation.client_context.clone(),
            cognito_identity: self.invocation.cognito_identity.clone(),
            tenant_id: self.invocation.tenant_id.clone(),
            content_type: self.invocation.content_type.clone(),
            event: self.invocation.event.clone(),
        }
    }

    pub(super) fn answer_of(
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
        }
    }
}

impl Outcome {
    pub(super) fn error(error_type: &str) -> Self {
        Self { status: InvocationStatus::Error, error_type: error_type.to_owned() }
    }

    pub(super) fn timeout() -> Self {
        Self { status: InvocationStatus::Timeout, error_type: error_document::SANDBOX_TIMEDOUT.to_owned() }
    }
}

/// The time before the environment turned to this invocation: its own init is not waiting.
fn queued_before_init(invocation: &Invocation, fresh: Option<FreshInit>, now: Instant) -> Duration {
    now.duration_since(invocation.submitted).saturating_sub(fresh.map_or(Duration::ZERO, |fresh| fresh.init))
}

/// Unix time in milliseconds, `ahead` from now.
fn unix_ms(ahead: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from((now + ahead).as_millis()).unwrap_or(u64::MAX)
}
