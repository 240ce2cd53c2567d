//! The platform's events, told at the moments that spec extensions-telemetry 2.7 lists.

use std::time::{Duration, Instant};

use super::Lifecycle;
use super::current::{Current, Figures, Outcome};
use crate::error_document::error_message_of;
use crate::invocation::InvocationStatus;
use crate::platform_log;
use crate::telemetry::{self, Invoked, Metrics, Record, Sandbox, Span, Status};

/// What the platform calls a failure without a recorded cause.
const UNKNOWN: &str = "Runtime.Unknown";

impl Lifecycle {
    /// Take what the function has printed so far.
    pub fn drain_log(&mut self, now: Instant) {
        let telemetry = &mut self.telemetry;
        self.log.drain_with(|bytes| telemetry.function_output(bytes, now));
    }

    fn sandbox(&self) -> Sandbox {
        Sandbox {
            function_name: self.config.function_name.clone(),
            function_version: self.config.function_version.clone(),
            instance_id: self.instance_id.clone(),
            max_memory_mb: self.config.memory_size_mb,
        }
    }

    fn initialization_type(&self) -> &'static str {
        if self.config.snap_start { "snap-start" } else { "on-demand" }
    }

    pub(super) fn tell_init_start(&mut self, now: Instant) {
        let record =
            Record::InitStart { initialization_type: self.initialization_type(), sandbox: self.sandbox() };
        self.telemetry.record(record, now);
    }

    /// The end of init: the runtime, each extension, the report. Nobody can subscribe after it.
    pub(super) fn tell_init_end(&mut self, status: Status, duration: Duration, runtime: bool, now: Instant) {
        let initialization_type = self.initialization_type();
        if runtime {
            let status = status.clone();
            self.telemetry.record(Record::InitRuntimeDone { initialization_type, status }, now);
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
        self.telemetry.record(Record::InitReport { initialization_type, status, duration }, now);
    }

    pub(super) fn tell_restore_start(&mut self, now: Instant) {
        let sandbox = self.sandbox();
        self.telemetry.record(Record::RestoreStart { sandbox }, now);
    }

    pub(super) fn tell_restore_end(&mut self, status: Status, duration: Duration, now: Instant) {
        self.telemetry.record(Record::RestoreRuntimeDone { status: status.clone() }, now);
        self.telemetry.record(Record::RestoreReport { status, duration }, now);
    }

    /// The current invocation begins.
    pub(super) fn tell_start(&mut self, now: Instant) {
        let Some(current) = self.current_told() else { return };
        let record = self.start_of(current);
        self.telemetry.record(record, now);
    }

    fn start_of(&self, current: &Current) -> Record {
        Record::Start {
            invoked: current.invoked(),
            version: self.config.function_version.clone(),
            function_arn: self.function_arn.clone(),
        }
    }

    /// The runtime is done with the current invocation: it has polled, or it never will. Told once.
    pub(super) fn tell_runtime_done(&mut self, now: Instant) {
        let Some(current) = &mut self.current else { return };
        if current.runtime_done.is_some() {
            return;
        }
        current.runtime_done = Some(now);
        let Some(current) = self.current_told() else { return };
        let Some(delivered) = current.delivered else { return };
        let record = Record::RuntimeDone {
            invoked: current.invoked(),
            status: status_of(current.outcome.as_ref(), current.platform_error.as_deref()),
            duration: now.duration_since(delivered),
            produced_bytes: current.produced_bytes(),
            spans: current.spans(now),
        };
        self.telemetry.record(record, now);
    }

    /// The invocation is over.
    pub(super) fn tell_report(&mut self, current: &Current, figures: &Figures, now: Instant) {
        if current.invocation.quiet {
            return;
        }
        let invoked = current.invoked();
        let request_id = invoked.request_id.clone();
        if current.delivered.is_none() {
            self.telemetry.record(self.start_of(current), now);
        }
        if let (Some(error_type), Some(fault)) = (&figures.error_type, current.fault()) {
            let text = format!("{fault}\n{error_type}\n");
            self.telemetry.record(Record::Fault { text }, now);
        }
        self.telemetry.record(Record::End { request_id }, now);
        let metrics = Metrics {
            duration: figures.duration,
            billed_duration_ms: figures.billed_duration_ms,
            memory_size_mb: self.config.memory_size_mb,
            max_memory_used_mb: figures.max_memory_used_mb,
            init_duration: figures.init_duration,
            restore_duration: current.restored,
        };
        let status = status_of(current.outcome.as_ref(), current.platform_error.as_deref());
        let spans = match current.runtime_done {
            Some(done) if status.status == InvocationStatus::Success => {
                vec![span("extensionOverhead", done, now)]
            }
            _ => Vec::new(),
        };
        self.telemetry.record(Record::Report { invoked, status, metrics, spans }, now);
    }

    /// The current invocation, if anybody is to be told of it.
    fn current_told(&self) -> Option<&Current> {
        self.current.as_ref().filter(|current| !current.invocation.quiet && self.telemetry.is_wanted())
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
        match (self.delivered, self.answer_began, self.answered) {
            (Some(delivered), Some(began), Some(answered)) => vec![
                span("responseLatency", delivered, began),
                span("responseDuration", began, answered),
                span("runtimeOverhead", answered, done),
            ],
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
pub(super) fn success() -> Status {
    Status { status: InvocationStatus::Success, error_type: None }
}

/// Something did; a timeout has no type.
pub(super) fn failed(status: InvocationStatus, error_type: &str) -> Status {
    let error_type = (status == InvocationStatus::Error).then(|| error_type.to_owned());
    Status { status, error_type }
}

/// The end of an init or a restore that failed.
pub(super) fn failed_init(status: InvocationStatus, error_type: &str) -> Status {
    let error_type = if status == InvocationStatus::Error { error_type } else { UNKNOWN };
    Status { status, error_type: Some(error_type.to_owned()) }
}
