//! The platform's events, told at the moments that spec extensions-telemetry 2.7 lists.

use std::time::{Duration, Instant};

use super::{ProcessSlot, Sandbox};
use crate::error_document::error_message_of;
use crate::invocation::InvocationStatus;
use crate::lifecycle::current::{Current, Figures, Outcome};
use crate::platform_log;
use crate::telemetry::{self, InitPhase, Instance, Invoked, Metrics, MoreMetrics, Record, Span, Status};

/// What the platform calls a failure without a recorded cause.
const UNKNOWN: &str = "Runtime.Unknown";

impl Sandbox {
    /// Take what the function has printed so far.
    pub fn drain_log(&mut self, now: Instant) {
        let telemetry = &mut self.telemetry;
        self.log.drain_with(|bytes| telemetry.function_output(bytes, now));
    }

    fn instance(&self) -> Instance {
        Instance {
            function_name: self.config.function_name.clone(),
            function_version: self.config.function_version.clone(),
            id: self.instance_id.clone(),
            max_memory_mb: self.config.memory_size_mb,
        }
    }

    fn initialization_type(&self) -> &'static str {
        if self.is_managed() {
            "lambda-managed-instances"
        } else if self.config.snap_start {
            "snap-start"
        } else {
            "on-demand"
        }
    }

    pub(crate) fn tell_init_start(&mut self, phase: InitPhase, now: Instant) {
        let initialization_type = self.initialization_type();
        let record = Record::InitStart { initialization_type, phase, instance: self.instance() };
        self.telemetry.record(record, now);
    }

    /// The end of init: the runtime, each extension, the report. Nobody can subscribe after it.
    fn tell_init_end(
        &mut self,
        phase: InitPhase,
        status: Status,
        duration: Duration,
        runtime: bool,
        now: Instant,
    ) {
        let initialization_type = self.initialization_type();
        if runtime {
            let status = status.clone();
            self.telemetry.record(Record::InitRuntimeDone { initialization_type, phase, status }, now);
        }
        for extension in self.extensions.iter() {
            self.log.write_lines(&platform_log::extension_line(extension));
            let record = Record::Extension {
                name: extension.name().to_owned(),
                state: extension.state().name(),
                events: extension.subscribed().names().collect(),
                error_type: extension.error_type().map(str::to_owned),
            };
            self.telemetry.record(record, now);
        }
        self.telemetry.record(Record::InitReport { initialization_type, phase, status, duration }, now);
    }

    /// The end of an init or a restore that failed. One that took too long has a type, too: what an extension reported.
    pub(crate) fn failed_init(&self, status: InvocationStatus, error_type: &str) -> Status {
        let unknown = self.extensions.fatal_error(UNKNOWN);
        let error_type = if status == InvocationStatus::Error { error_type } else { unknown };
        Status { status, error_type: Some(error_type.to_owned()) }
    }

    /// The runtime, and every extension, has asked for its first event. `duration` is that of an init that somebody
    /// asked for.
    pub(crate) fn end_init(&mut self, phase: InitPhase, duration: Option<Duration>, now: Instant) {
        if self.extensions.any_registered() || self.telemetry.has_subscribers() {
            self.drain_log(now);
            self.tell_init_end(phase, success(), duration.unwrap_or_default(), true, now);
        }
        self.extensions.end_init();
        self.telemetry.close_subscriptions();
        if matches!(self.process, ProcessSlot::Wanted) {
            // Somebody else's runtime came first: no process is wanted any more.
            self.process = ProcessSlot::None;
        }
    }

    /// Init failed. Returns the log's line about it.
    pub(crate) fn fail_init(
        &mut self,
        phase: InitPhase,
        duration: Duration,
        status: InvocationStatus,
        error_type: &str,
        now: Instant,
    ) -> String {
        let runtime = !matches!(self.process, ProcessSlot::AwaitsExtensions);
        self.drain_log(now);
        let ended_with = self.failed_init(status, error_type);
        self.tell_init_end(phase, ended_with, duration, runtime, now);
        platform_log::init_report_line(duration, phase, status, Some(error_type))
    }

    pub(crate) fn tell_restore_start(&mut self, now: Instant) {
        let instance = self.instance();
        self.telemetry.record(Record::RestoreStart { instance }, now);
    }

    pub(crate) fn tell_restore_end(&mut self, status: Status, duration: Duration, now: Instant) {
        self.telemetry.record(Record::RestoreRuntimeDone { status: status.clone() }, now);
        self.telemetry.record(Record::RestoreReport { status, duration }, now);
    }

    /// An invocation begins, after the init within it. Told once.
    pub(crate) fn tell_start(&mut self, current: &mut Current, now: Instant) {
        if current.start_told || !self.is_told(current) {
            return;
        }
        current.start_told = true;
        let record = self.start_of(current);
        self.telemetry.record(record, now);
    }

    fn start_of(&self, current: &Current) -> Record {
        let named = current.invocation.invoked_function_arn.as_ref().and_then(|arn| arn.to_str().ok());
        Record::Start {
            invoked: current.invoked(),
            version: self.config.function_version.clone(),
            function_arn: named.unwrap_or(&self.function_arn).to_owned(),
        }
    }

    /// The runtime is done with an invocation: it has polled, or it never will, maybe because init failed within the
    /// invocation. Told once, after its start.
    pub(crate) fn tell_runtime_done(&mut self, current: &mut Current, now: Instant) {
        if current.began.is_none() || current.runtime_done.is_some() {
            return;
        }
        current.runtime_done = Some(now);
        if !self.is_told(current) {
            return;
        }
        self.tell_start(current, now);
        let record = Record::RuntimeDone {
            invoked: current.invoked(),
            status: status_of(current.outcome.as_ref(), current.platform_error.as_deref()),
            duration: current.delivered.map(|delivered| now.duration_since(delivered)),
            produced_bytes: current.produced_bytes(),
            spans: current.spans(now),
        };
        self.telemetry.record(record, now);
    }

    /// The invocation is over.
    pub(crate) fn tell_report(&mut self, current: &Current, figures: &Figures, now: Instant) {
        if current.invocation.quiet {
            return;
        }
        let invoked = current.invoked();
        let request_id = invoked.request_id.clone();
        if !current.start_told {
            self.telemetry.record(self.start_of(current), now);
        }
        if let (Some(error_type), Some(fault)) = (&figures.error_type, current.fault()) {
            let text = format!("{fault}\n{error_type}\n");
            self.telemetry.record(Record::Fault { text }, now);
        }
        self.telemetry.record(Record::End { request_id }, now);
        let mut status = status_of(current.outcome.as_ref(), current.platform_error.as_deref());
        if self.is_managed() {
            // There it says less about time and memory, which the invocations share, and all there is about the answer.
            if let Some(answer) = current.answer.as_ref().filter(|answer| answer.is_error)
                && status.status == InvocationStatus::Success
            {
                status = Status { status: InvocationStatus::Error, error_type: answer.error_type.clone() };
            }
            let metrics = Metrics { duration: figures.duration, more: None };
            let spans = current.response_spans();
            return self.telemetry.record(Record::Report { invoked, status, metrics, spans }, now);
        }
        let more = MoreMetrics {
            billed_duration_ms: figures.billed_duration_ms,
            memory_size_mb: self.config.memory_size_mb,
            max_memory_used_mb: figures.max_memory_used_mb,
            init_duration: figures.init_duration,
            restore_duration: current.restored,
        };
        let metrics = Metrics { duration: figures.duration, more: Some(more) };
        let spans = match current.runtime_done {
            Some(done) if status.status == InvocationStatus::Success => {
                vec![span("extensionOverhead", done, now)]
            }
            _ => Vec::new(),
        };
        self.telemetry.record(Record::Report { invoked, status, metrics, spans }, now);
    }

    /// Whether anybody is to be told of it.
    fn is_told(&self, current: &Current) -> bool {
        !current.invocation.quiet && self.telemetry.is_wanted()
    }
}

impl Current {
    fn invoked(&self) -> Invoked {
        let text = |value: &hyper::header::HeaderValue| {
            value.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        Invoked {
            request_id: self.invocation.request_id.clone(),
            tenant_id: self.invocation.tenant_id.as_ref().and_then(text),
            // Whoever does not trace a request has no use for its trace id.
            trace: text(&self.invocation.trace_id).filter(|trace| trace.contains("Sampled=1")),
        }
    }

    fn spans(&self, done: Instant) -> Vec<Span> {
        let mut spans = self.response_spans();
        if let (false, Some(answered)) = (spans.is_empty(), self.answered) {
            spans.push(span("runtimeOverhead", answered, done));
        }
        spans
    }

    fn response_spans(&self) -> Vec<Span> {
        match (self.delivered, self.answer_began, self.answered) {
            (Some(delivered), Some(began), Some(answered)) => {
                vec![span("responseLatency", delivered, began), span("responseDuration", began, answered)]
            }
            _ => Vec::new(),
        }
    }

    /// The platform's words for what went wrong, where it had to answer itself.
    fn fault(&self) -> Option<String> {
        let failed = self.outcome.as_ref().is_some_and(|outcome| outcome.status == InvocationStatus::Error);
        let answer = self.answer.as_ref().filter(|_| failed && self.answer_began.is_none())?;
        error_message_of(&answer.payload)
    }

    fn produced_bytes(&self) -> usize {
        self.answer.as_ref().filter(|answer| !answer.is_error).map_or(0, |answer| answer.payload.len())
    }
}

fn span(name: &'static str, from: Instant, to: Instant) -> Span {
    Span { name, start: telemetry::wall(from), duration: to.saturating_duration_since(from) }
}

/// The platform's view: an error that the function reported is a success.
fn status_of(outcome: Option<&Outcome>, platform_error: Option<&str>) -> Status {
    match (outcome, platform_error) {
        (Some(outcome), _) => failed(outcome.status, &outcome.error_type),
        (None, Some(error_type)) => failed(InvocationStatus::Error, error_type),
        (None, None) => success(),
    }
}

/// Nothing went wrong.
pub(crate) fn success() -> Status {
    Status { status: InvocationStatus::Success, error_type: None }
}

/// Something did; a timeout has no type.
pub(crate) fn failed(status: InvocationStatus, error_type: &str) -> Status {
    let error_type = (status == InvocationStatus::Error).then(|| error_type.to_owned());
    Status { status, error_type }
}
