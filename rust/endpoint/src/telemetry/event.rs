//! The events of the catalogue and their JSON (spec extensions-telemetry 2.5 and 2.6).

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::subscription::{Api, Schema, Streams};
use crate::error_document::{is_json, push_json_string};
use crate::invocation::InvocationStatus;

/// Something that happened, as subscribers are told of it.
#[derive(Debug, Clone)]
pub struct Event {
    pub time: SystemTime,
    pub record: Record,
}

/// How a phase ended; the error's type is that of the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub status: InvocationStatus,
    pub error_type: Option<String>,
}

impl Status {
    /// As events spell it: what the platform caused is a failure, and what the customer caused an error.
    fn word(&self) -> &'static str {
        let of_platform = self.error_type.as_ref().is_some_and(|kind| kind.starts_with("Sandbox."));
        match self.status {
            InvocationStatus::Error if of_platform => "failure",
            status => status.as_str(),
        }
    }
}

/// Where an init takes place: in the Init phase, or within the invocation that needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitPhase {
    Init,
    Invoke,
}

impl InitPhase {
    /// The name in events and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Invoke => "invoke",
        }
    }
}

/// A part of an invocation's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub name: &'static str,
    pub start: SystemTime,
    pub duration: Duration,
}

/// What all events of an invocation say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoked {
    pub request_id: String,
    pub tenant_id: Option<String>,
    /// The trace header, where the request is traced.
    pub trace: Option<String>,
}

/// The environment itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub function_name: String,
    pub function_version: String,
    pub id: String,
    pub max_memory_mb: u64,
}

/// The figures of a REPORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    pub duration: Duration,
    /// `None` on Managed Instances.
    pub more: Option<MoreMetrics>,
}

/// The figures of an invocation that had the environment to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoreMetrics {
    pub billed_duration_ms: u64,
    pub memory_size_mb: u64,
    pub max_memory_used_mb: u64,
    pub init_duration: Option<Duration>,
    pub restore_duration: Option<Duration>,
}

/// Where a line of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Function,
    Extension,
}

/// The events' contents.
#[derive(Debug, Clone)]
pub enum Record {
    InitStart {
        initialization_type: &'static str,
        phase: InitPhase,
        instance: Instance,
    },
    InitRuntimeDone {
        initialization_type: &'static str,
        phase: InitPhase,
        status: Status,
    },
    InitReport {
        initialization_type: &'static str,
        phase: InitPhase,
        status: Status,
        duration: Duration,
    },
    RestoreStart {
        instance: Instance,
    },
    RestoreRuntimeDone {
        status: Status,
    },
    RestoreReport {
        status: Status,
        duration: Duration,
    },
    Start {
        invoked: Invoked,
        version: String,
        function_arn: String,
    },
    RuntimeDone {
        invoked: Invoked,
        status: Status,
        /// `None` if the runtime was never given the event.
        duration: Option<Duration>,
        produced_bytes: usize,
        spans: Vec<Span>,
    },
    /// `platform.end`, of the Logs API only.
    End {
        request_id: String,
    },
    /// `platform.fault`, of the Logs API only: the text of the old log lines.
    Fault {
        text: String,
    },
    Report {
        invoked: Invoked,
        status: Status,
        metrics: Metrics,
        spans: Vec<Span>,
    },
    Extension {
        name: String,
        state: &'static str,
        events: Vec<&'static str>,
        error_type: Option<String>,
    },
    Subscription {
        api: Api,
        name: String,
        state: &'static str,
        streams: Streams,
    },
    LogsDropped {
        reason: &'static str,
        records: usize,
        bytes: usize,
    },
    /// One line of output, with its line end.
    Line {
        origin: Origin,
        text: String,
        /// The function logs in JSON.
        json: bool,
    },
}

impl Event {
    /// Whether a subscriber to `streams` gets it.
    pub fn is_in(&self, streams: Streams) -> bool {
        match &self.record {
            Record::Line { origin: Origin::Function, .. } => streams.function,
            Record::Line { origin: Origin::Extension, .. } => streams.extension,
            _ => streams.platform,
        }
    }

    /// Roughly the memory it takes.
    pub fn size(&self) -> usize {
        match &self.record {
            Record::Line { text, .. } => text.len() + 64,
            _ => 512,
        }
    }

    /// Its JSON; `None` if the schema does not know it.
    pub fn json(&self, schema: Schema) -> Option<String> {
        let logs = schema < Schema::V2022_07_01;
        let kind = match &self.record {
            Record::InitStart { .. } if !logs => "platform.initStart",
            Record::InitRuntimeDone { .. } if !logs => "platform.initRuntimeDone",
            Record::InitReport { .. } if !logs => "platform.initReport",
            Record::RestoreStart { .. } if !logs => "platform.restoreStart",
            Record::RestoreRuntimeDone { .. } if !logs => "platform.restoreRuntimeDone",
            Record::RestoreReport { .. } if !logs => "platform.restoreReport",
            Record::Start { .. } => "platform.start",
            Record::RuntimeDone { .. } if schema >= Schema::V2021_03_18 => "platform.runtimeDone",
            Record::End { .. } if logs => "platform.end",
            Record::Fault { .. } if logs => "platform.fault",
            Record::Report { .. } => "platform.report",
            Record::Extension { .. } => "platform.extension",
            Record::Subscription { api: Api::Telemetry, .. } if !logs => "platform.telemetrySubscription",
            Record::Subscription { api: Api::Logs, .. } if logs => "platform.logsSubscription",
            Record::LogsDropped { .. } => "platform.logsDropped",
            Record::Line { origin: Origin::Function, .. } => "function",
            Record::Line { origin: Origin::Extension, .. } => "extension",
            _ => return None,
        };
        let mut json = String::with_capacity(256);
        json.push_str("{\"time\":\"");
        push_time(&mut json, self.time);
        let _ = write!(json, "\",\"type\":\"{kind}\",\"record\":");
        self.record.write(&mut json, schema);
        json.push('}');
        Some(json)
    }
}

impl Record {
    fn write(&self, json: &mut String, schema: Schema) {
        let mut object = Object::begin(json);
        match self {
            Self::InitStart { initialization_type, phase, instance } => {
                object.init(initialization_type, *phase);
                object.instance(instance);
            }
            Self::InitRuntimeDone { initialization_type, phase, status } => {
                object.init(initialization_type, *phase);
                object.status(status);
            }
            Self::InitReport { initialization_type, phase, status, duration } => {
                object.init(initialization_type, *phase);
                object.status(status);
                object.object("metrics", |metrics| metrics.milliseconds("durationMs", *duration));
            }
            Self::RestoreStart { instance } => object.instance(instance),
            Self::RestoreRuntimeDone { status } => object.status(status),
            Self::RestoreReport { status, duration } => {
                object.status(status);
                object.object("metrics", |metrics| metrics.milliseconds("durationMs", *duration));
            }
            Self::Start { invoked, version, function_arn } => {
                object.text("requestId", &invoked.request_id);
                if schema >= Schema::V2025_01_29 {
                    object.text("functionArn", function_arn);
                }
                object.text("version", version);
                object.invoked(invoked, schema);
            }
            Self::RuntimeDone { invoked, status, duration, produced_bytes, spans } => {
                object.text("requestId", &invoked.request_id);
                if schema < Schema::V2022_07_01 {
                    object.text("status", status.word());
                    return object.end();
                }
                object.status(status);
                if let Some(duration) = duration {
                    object.object("metrics", |metrics| {
                        metrics.milliseconds("durationMs", *duration);
                        metrics.number("producedBytes", *produced_bytes as u64);
                    });
                }
                object.spans(spans);
                object.invoked(invoked, schema);
            }
            Self::End { request_id } => object.text("requestId", request_id),
            Self::Report { invoked, status, metrics: figures, spans } => {
                object.text("requestId", &invoked.request_id);
                if schema >= Schema::V2022_07_01 {
                    object.status(status);
                }
                object.object("metrics", |metrics| {
                    metrics.milliseconds("durationMs", figures.duration);
                    let Some(figures) = &figures.more else { return };
                    metrics.number("billedDurationMs", figures.billed_duration_ms);
                    metrics.number("memorySizeMB", figures.memory_size_mb);
                    metrics.number("maxMemoryUsedMB", figures.max_memory_used_mb);
                    if let Some(init) = figures.init_duration {
                        metrics.milliseconds("initDurationMs", init);
                    }
                    if let Some(restore) = figures.restore_duration {
                        metrics.milliseconds("restoreDurationMs", restore);
                    }
                });
                if schema >= Schema::V2022_07_01 {
                    object.spans(spans);
                }
                object.invoked(invoked, schema);
            }
            Self::Extension { name, state, events, error_type } => {
                object.text("name", name);
                object.text("state", state);
                object.texts("events", events.iter().copied());
                if let Some(error_type) = error_type {
                    object.text("errorType", error_type);
                }
            }
            Self::Subscription { name, state, streams, .. } => {
                object.text("name", name);
                object.text("state", state);
                object.texts("types", streams.names());
            }
            Self::LogsDropped { reason, records, bytes } => {
                object.text("reason", reason);
                object.number("droppedRecords", *records as u64);
                object.number("droppedBytes", *bytes as u64);
            }
            Self::Fault { text } => return object.replace_by_text(text),
            Self::Line { text, json, .. } => {
                let line = text.trim_end();
                if *json && schema >= Schema::V2022_12_13 && line.starts_with('{') && is_json(line.as_bytes())
                {
                    return object.replace_by_json(line);
                }
                return object.replace_by_text(text);
            }
        }
        object.end();
    }
}

/// A JSON object that is being written at the end of a text.
struct Object<'a> {
    json: &'a mut String,
    start: usize,
}

impl<'a> Object<'a> {
    fn begin(json: &'a mut String) -> Self {
        let start = json.len();
        json.push('{');
        Self { json, start }
    }

    fn end(self) {
        self.json.push('}');
    }

    /// A text in place of the object.
    fn replace_by_text(self, text: &str) {
        self.json.truncate(self.start);
        push_json_string(self.json, text);
    }

    /// JSON text in place of the object.
    fn replace_by_json(self, json: &str) {
        self.json.truncate(self.start);
        self.json.push_str(json);
    }

    /// Names are ours and need no escapes.
    fn name(&mut self, name: &str) {
        if !self.json.ends_with('{') {
            self.json.push(',');
        }
        let _ = write!(self.json, "\"{name}\":");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        push_json_string(self.json, value);
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _ = write!(self.json, "{value}");
    }

    /// Milliseconds with the resolution of a microsecond.
    fn milliseconds(&mut self, name: &str, value: Duration) {
        self.name(name);
        let micros = value.as_micros();
        let _ = write!(self.json, "{}", micros / 1000);
        if !micros.is_multiple_of(1000) {
            let fraction = format!("{:03}", micros % 1000);
            let _ = write!(self.json, ".{}", fraction.trim_end_matches('0'));
        }
    }

    fn texts(&mut self, name: &str, values: impl Iterator<Item = &'static str>) {
        self.name(name);
        self.json.push('[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.json.push(',');
            }
            push_json_string(self.json, value);
        }
        self.json.push(']');
    }

    fn object(&mut self, name: &str, write: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let mut object = Object::begin(self.json);
        write(&mut object);
        object.end();
    }

    fn init(&mut self, initialization_type: &str, phase: InitPhase) {
        self.text("initializationType", initialization_type);
        self.text("phase", phase.as_str());
    }

    fn instance(&mut self, instance: &Instance) {
        self.text("functionName", &instance.function_name);
        self.text("functionVersion", &instance.function_version);
        self.text("instanceId", &instance.id);
        self.number("instanceMaxMemory", instance.max_memory_mb);
    }

    fn status(&mut self, status: &Status) {
        self.text("status", status.word());
        if let Some(error_type) = &status.error_type {
            self.text("errorType", error_type);
        }
    }

    fn spans(&mut self, spans: &[Span]) {
        if spans.is_empty() {
            return;
        }
        self.name("spans");
        self.json.push('[');
        for (index, span) in spans.iter().enumerate() {
            if index > 0 {
                self.json.push(',');
            }
            let mut object = Object::begin(self.json);
            object.text("name", span.name);
            let mut start = String::new();
            push_time(&mut start, span.start);
            object.text("start", &start);
            object.milliseconds("durationMs", span.duration);
            object.end();
        }
        self.json.push(']');
    }

    fn invoked(&mut self, invoked: &Invoked, schema: Schema) {
        if schema < Schema::V2022_07_01 {
            return;
        }
        if let Some(tenant_id) = &invoked.tenant_id {
            self.text("tenantId", tenant_id);
        }
        if let Some(trace) = &invoked.trace {
            self.object("tracing", |tracing| {
                tracing.text("type", "X-Amzn-Trace-Id");
                tracing.text("value", trace);
            });
        }
    }
}

/// ISO 8601 in UTC with milliseconds.
pub(super) fn push_time(text: &mut String, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date_of(days);
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    );
}

/// The date so many days after 1970-01-01. Years begin in March here, so that the leap day is the last of a year.
pub fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    fn json(record: Record, schema: Schema) -> String {
        Event { time: at(1_767_261_600_010), record }.json(schema).expect("the schema knows the event")
    }

    /// The record's part of the newest schema.
    fn record(record: Record) -> String {
        let json = json(record, Schema::V2022_12_13);
        json.split_once("\"record\":").unwrap().1.strip_suffix('}').unwrap().to_owned()
    }

    fn success() -> Status {
        Status { status: InvocationStatus::Success, error_type: None }
    }

    fn instance() -> Instance {
        Instance {
            function_name: "orders".to_owned(),
            function_version: "$LATEST".to_owned(),
            id: "i".to_owned(),
            max_memory_mb: 256,
        }
    }

    fn invoked() -> Invoked {
        Invoked { request_id: "id".to_owned(), tenant_id: None, trace: None }
    }

    fn line(text: &str, json: bool) -> Record {
        Record::Line { origin: Origin::Function, text: text.to_owned(), json }
    }

    fn start() -> Record {
        Record::Start { invoked: invoked(), version: "7".to_owned(), function_arn: "arn:x".to_owned() }
    }

    fn runtime_done() -> Record {
        Record::RuntimeDone {
            invoked: invoked(),
            status: success(),
            duration: Some(Duration::from_micros(26_900)),
            produced_bytes: 42,
            spans: vec![Span {
                name: "responseLatency",
                start: at(1_767_261_600_404),
                duration: Duration::from_micros(20_125),
            }],
        }
    }

    fn report() -> Record {
        Record::Report {
            invoked: invoked(),
            status: success(),
            metrics: Metrics {
                duration: Duration::from_micros(45_800),
                more: Some(MoreMetrics {
                    billed_duration_ms: 439,
                    memory_size_mb: 256,
                    max_memory_used_mb: 61,
                    init_duration: Some(Duration::from_micros(392_901)),
                    restore_duration: None,
                }),
            },
            spans: Vec::new(),
        }
    }

    #[test]
    fn times_are_iso_8601() {
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_261_600_010, "2026-01-01T10:00:00.010Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut text = String::new();
            push_time(&mut text, at(milliseconds));
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn init_is_reported_in_three_events() {
        let start = Record::InitStart {
            initialization_type: "on-demand",
            phase: InitPhase::Init,
            instance: instance(),
        };
        assert_eq!(
            json(start, Schema::V2022_07_01),
            r#"{"time":"2026-01-01T10:00:00.010Z","type":"platform.initStart","record":{"initializationType":"on-demand","phase":"init","functionName":"orders","functionVersion":"$LATEST","instanceId":"i","instanceMaxMemory":256}}"#
        );
        let failed =
            Status { status: InvocationStatus::Error, error_type: Some("Extension.Crash".to_owned()) };
        let done = Record::InitRuntimeDone {
            initialization_type: "snap-start",
            phase: InitPhase::Invoke,
            status: failed,
        };
        assert_eq!(
            record(done),
            r#"{"initializationType":"snap-start","phase":"invoke","status":"error","errorType":"Extension.Crash"}"#
        );
        let report = Record::InitReport {
            initialization_type: "on-demand",
            phase: InitPhase::Init,
            status: success(),
            duration: Duration::from_micros(392_501),
        };
        assert_eq!(
            record(report),
            r#"{"initializationType":"on-demand","phase":"init","status":"success","metrics":{"durationMs":392.501}}"#
        );
    }

    #[test]
    fn a_restore_is_reported_in_three_events() {
        let json = record(Record::RestoreStart { instance: instance() });
        assert!(
            json.starts_with(r#"{"functionName":"orders","functionVersion":"$LATEST","instanceId":"i","#)
        );
        assert_eq!(record(Record::RestoreRuntimeDone { status: success() }), r#"{"status":"success"}"#);
        let report = Record::RestoreReport { status: success(), duration: Duration::from_micros(300_700) };
        assert_eq!(record(report), r#"{"status":"success","metrics":{"durationMs":300.7}}"#);
    }

    #[test]
    fn an_invocation_is_start_runtime_done_and_report() {
        assert_eq!(record(start()), r#"{"requestId":"id","version":"7"}"#);
        assert_eq!(
            record(runtime_done()),
            r#"{"requestId":"id","status":"success","metrics":{"durationMs":26.9,"producedBytes":42},"spans":[{"name":"responseLatency","start":"2026-01-01T10:00:00.404Z","durationMs":20.125}]}"#
        );
        assert_eq!(
            record(report()),
            r#"{"requestId":"id","status":"success","metrics":{"durationMs":45.8,"billedDurationMs":439,"memorySizeMB":256,"maxMemoryUsedMB":61,"initDurationMs":392.901}}"#
        );
    }

    #[test]
    fn the_newest_schema_names_the_function() {
        assert!(json(start(), Schema::V2025_01_29).contains(r#""functionArn":"arn:x","version":"7""#));
    }

    #[test]
    fn tenant_and_trace_are_told_where_there_are_any() {
        let invoked = Invoked {
            request_id: "id".to_owned(),
            tenant_id: Some("blue".to_owned()),
            trace: Some("Root=1-a;Sampled=1".to_owned()),
        };
        let start = Record::Start { invoked, version: "7".to_owned(), function_arn: String::new() };
        assert_eq!(
            record(start.clone()),
            r#"{"requestId":"id","version":"7","tenantId":"blue","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1-a;Sampled=1"}}"#
        );
        assert!(json(start, Schema::V2020_08_15).ends_with(r#""record":{"requestId":"id","version":"7"}}"#));
    }

    #[test]
    fn the_logs_api_has_its_own_events() {
        let known = |record: Record, schema| Event { time: at(0), record }.json(schema).is_some();
        let end = || Record::End { request_id: "id".to_owned() };
        let fault = || Record::Fault { text: "RequestId: id Error: x\nY\n".to_owned() };
        for schema in [Schema::V2020_08_15, Schema::V2021_03_18] {
            assert!(known(end(), schema) && known(fault(), schema) && known(start(), schema));
        }
        assert!(!known(end(), Schema::V2022_07_01) && !known(fault(), Schema::V2022_07_01));
        assert!(!known(runtime_done(), Schema::V2020_08_15));
        assert!(
            json(runtime_done(), Schema::V2021_03_18)
                .ends_with(r#""record":{"requestId":"id","status":"success"}}"#)
        );
        assert!(
            json(fault(), Schema::V2020_08_15)
                .ends_with(r#""type":"platform.fault","record":"RequestId: id Error: x\nY\n"}"#)
        );
        let report = json(report(), Schema::V2020_08_15);
        assert!(report.contains(r#""record":{"requestId":"id","metrics":{"durationMs":45.8,"#), "{report}");
        let init = Record::InitRuntimeDone {
            initialization_type: "on-demand",
            phase: InitPhase::Init,
            status: success(),
        };
        assert!(!known(init, Schema::V2021_03_18));
    }

    #[test]
    fn each_api_reports_its_own_subscriptions() {
        let streams = Streams { platform: true, function: true, extension: false };
        let of = |api| Record::Subscription { api, name: "obs.py".to_owned(), state: "Subscribed", streams };
        let expected = r#""record":{"name":"obs.py","state":"Subscribed","types":["platform","function"]}}"#;
        let telemetry = json(of(Api::Telemetry), Schema::V2022_07_01);
        assert!(telemetry.contains("platform.telemetrySubscription") && telemetry.ends_with(expected));
        let logs = json(of(Api::Logs), Schema::V2020_08_15);
        assert!(logs.contains("platform.logsSubscription") && logs.ends_with(expected));
        assert!(Event { time: at(0), record: of(Api::Logs) }.json(Schema::V2022_07_01).is_none());
    }

    #[test]
    fn extensions_and_losses_are_reported() {
        let extension = Record::Extension {
            name: "bad.py".to_owned(),
            state: "LaunchError",
            events: Vec::new(),
            error_type: Some("PermissionDenied".to_owned()),
        };
        assert_eq!(
            record(extension),
            r#"{"name":"bad.py","state":"LaunchError","events":[],"errorType":"PermissionDenied"}"#
        );
        let dropped = Record::LogsDropped { reason: "slow", records: 3, bytes: 99 };
        assert_eq!(record(dropped), r#"{"reason":"slow","droppedRecords":3,"droppedBytes":99}"#);
    }

    #[test]
    fn a_line_is_a_text_unless_the_function_logs_in_json() {
        assert_eq!(record(line("hello\n", false)), r#""hello\n""#);
        assert_eq!(record(line("{\"level\": \"INFO\"}\n", true)), r#"{"level": "INFO"}"#);
        assert_eq!(record(line("{\"level\": \"INFO\"}\n", false)), r#""{\"level\": \"INFO\"}\n""#);
        assert_eq!(record(line("{broken\n", true)), r#""{broken\n""#);
        let old = json(line("{}\n", true), Schema::V2022_07_01);
        assert!(old.ends_with(r#""type":"function","record":"{}\n"}"#), "older schemas have texts only");
    }

    #[test]
    fn subscribers_get_their_streams_only() {
        let only = |platform, function, extension| Streams { platform, function, extension };
        let event = |record| Event { time: at(0), record };
        assert!(event(start()).is_in(only(true, false, false)));
        assert!(!event(start()).is_in(only(false, true, true)));
        assert!(event(line("x", false)).is_in(only(false, true, false)));
        let extension = Record::Line { origin: Origin::Extension, text: String::new(), json: false };
        assert!(event(extension.clone()).is_in(only(false, false, true)));
        assert!(!event(extension).is_in(only(true, true, false)));
    }
}
