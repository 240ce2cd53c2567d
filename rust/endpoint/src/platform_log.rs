//! The platform's own log lines, text form (spec extensions-telemetry 4.1). Nowhere else are they written.

use std::fmt::Write;
use std::time::Duration;

use crate::extensions::Extension;
use crate::invocation::InvocationStatus;
use crate::telemetry::{Accepted, Api, InitPhase};

/// `START RequestId: … Version: …`
pub fn start_line(request_id: &str, version: &str) -> String {
    format!("START RequestId: {request_id} Version: {version}\n")
}

/// A failed init, or one that was for a snapshot; another successful init writes no line.
pub fn init_report_line(
    init: Duration,
    phase: InitPhase,
    status: InvocationStatus,
    error_type: Option<&str>,
) -> String {
    let mut line = format!("INIT_REPORT Init Duration: {:.2} ms", milliseconds(init));
    if status != InvocationStatus::Success {
        line.push_str("\tPhase: ");
        line.push_str(phase.as_str());
    }
    push_status(&mut line, status, error_type);
    line.push('\n');
    line
}

/// A restore begins. The platform names its managed runtime here; ours is whatever the user runs.
pub const RESTORE_START: &str = "RESTORE_START Runtime Version: unknown\tRuntime Version ARN: unknown\n";

/// The end of a restore, after-restore hooks included.
pub fn restore_report_line(restore: Duration, status: InvocationStatus, error_type: Option<&str>) -> String {
    let mut line = format!("RESTORE_REPORT Restore Duration: {:.2} ms", milliseconds(restore));
    push_status(&mut line, status, error_type);
    line.push('\n');
    line
}

/// An extension at the end of init.
pub fn extension_line(extension: &Extension) -> String {
    let events: Vec<&str> = extension.subscribed().names().collect();
    let (name, state) = (extension.name(), extension.state().name());
    let mut line = format!("EXTENSION\tName: {name}\tState: {state}\tEvents: [{}]", events.join(", "));
    if let Some(error_type) = extension.error_type() {
        line.push_str("\tError Type: ");
        line.push_str(error_type);
    }
    line.push('\n');
    line
}

/// An extension subscribed to telemetry or logs.
pub fn subscription_line(api: Api, name: &str, accepted: Accepted) -> String {
    let kind = if api == Api::Logs { "LOGS" } else { "TELEMETRY" };
    let types: Vec<String> = accepted.streams.names().map(capitalised).collect();
    format!("{kind}\tName: {name}\tState: {}\tTypes: [{}]\n", accepted.state, types.join(", "))
}

fn capitalised(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_ascii_uppercase() + rest
}

/// Lambda does not say this; whoever looks for the reason of a timeout will want to know.
pub fn lost_event_line(name: &str) -> String {
    format!(
        "The extension {name} closed its connection while it waited for an event: this one is lost, and the \
         invocation waits for an extension that does not know of it\n"
    )
}

/// The figures of one REPORT line.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    pub request_id: &'a str,
    pub duration: Duration,
    pub billed_duration_ms: u64,
    pub memory_size_mb: u64,
    pub max_memory_used_mb: u64,
    /// For the first invocation after a successful init.
    pub init_duration: Option<Duration>,
    /// For the first invocation after a restore.
    pub restore_duration: Option<Duration>,
    /// The platform's view: an error the function itself reported is a success here.
    pub status: InvocationStatus,
    pub error_type: Option<&'a str>,
}

/// `END` and `REPORT`, written together: nothing comes between them.
pub fn end_and_report_lines(report: &Report<'_>) -> String {
    let mut lines = String::with_capacity(320);
    // Writing to a String cannot fail.
    let _ = write!(
        lines,
        "END RequestId: {id}\nREPORT RequestId: {id}\tDuration: {duration:.2} ms\tBilled Duration: {billed} ms\t\
         Memory Size: {size} MB\tMax Memory Used: {used} MB\t",
        id = report.request_id,
        duration = milliseconds(report.duration),
        billed = report.billed_duration_ms,
        size = report.memory_size_mb,
        used = report.max_memory_used_mb,
    );
    if let Some(init) = report.init_duration {
        let _ = write!(lines, "Init Duration: {:.2} ms\t", milliseconds(init));
    }
    if let Some(restore) = report.restore_duration {
        let billed = whole_milliseconds(restore);
        let _ = write!(
            lines,
            "Restore Duration: {:.2} ms\tBilled Restore Duration: {billed} ms\t",
            milliseconds(restore)
        );
    }
    // The line ends with a tab unless a status follows.
    if report.status != InvocationStatus::Success {
        lines.pop();
    }
    push_status(&mut lines, report.status, report.error_type);
    lines.push('\n');
    lines
}

/// Billed time: since August 2025 the init of an on-demand function is billed too (spec extensions-telemetry 3.7). A
/// restore is billed in whole milliseconds of its own.
pub fn billed_duration_ms(duration: Duration, init: Option<Duration>, restore: Option<Duration>) -> u64 {
    whole_milliseconds(duration + init.unwrap_or_default()) + restore.map_or(0, whole_milliseconds)
}

fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn push_status(line: &mut String, status: InvocationStatus, error_type: Option<&str>) {
    if status == InvocationStatus::Success {
        return;
    }
    line.push_str("\tStatus: ");
    line.push_str(status.as_str());
    if let Some(error_type) = error_type.filter(|_| status == InvocationStatus::Error) {
        line.push_str("\tError Type: ");
        line.push_str(error_type);
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: InvocationStatus, error_type: Option<&str>, init: Option<Duration>) -> String {
        let duration = Duration::from_micros(12_340);
        end_and_report_lines(&Report {
            request_id: "8f1c",
            duration,
            billed_duration_ms: billed_duration_ms(duration, init, None),
            memory_size_mb: 128,
            max_memory_used_mb: 41,
            init_duration: init,
            restore_duration: None,
            status,
            error_type,
        })
    }

    #[test]
    fn a_warm_success_ends_with_a_tab_and_no_status() {
        assert_eq!(
            report(InvocationStatus::Success, None, None),
            "END RequestId: 8f1c\nREPORT RequestId: 8f1c\tDuration: 12.34 ms\tBilled Duration: 13 ms\t\
             Memory Size: 128 MB\tMax Memory Used: 41 MB\t\n"
        );
    }

    #[test]
    fn init_is_shown_and_billed_on_the_first_invocation() {
        assert!(report(InvocationStatus::Success, None, Some(Duration::from_micros(121_900))).ends_with(
            "\tDuration: 12.34 ms\tBilled Duration: 135 ms\tMemory Size: 128 MB\tMax Memory Used: 41 MB\t\
                 Init Duration: 121.90 ms\t\n"
        ));
    }

    #[test]
    fn failures_end_with_a_status() {
        assert!(
            report(InvocationStatus::Timeout, Some("Sandbox.Timedout"), None)
                .ends_with("\tMax Memory Used: 41 MB\tStatus: timeout\n")
        );
        assert!(
            report(InvocationStatus::Error, Some("Runtime.ExitError"), None)
                .ends_with("\tMax Memory Used: 41 MB\tStatus: error\tError Type: Runtime.ExitError\n")
        );
    }

    #[test]
    fn a_failed_init_has_its_own_report() {
        let duration = Duration::from_micros(612_330);
        let line = |status, kind| init_report_line(duration, InitPhase::Init, status, kind);
        assert_eq!(
            line(InvocationStatus::Error, Some("Runtime.ExitError")),
            "INIT_REPORT Init Duration: 612.33 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n"
        );
        assert_eq!(
            init_report_line(duration, InitPhase::Invoke, InvocationStatus::Error, Some("Extension.Crash")),
            "INIT_REPORT Init Duration: 612.33 ms\tPhase: invoke\tStatus: error\tError Type: Extension.Crash\n"
        );
        assert_eq!(
            line(InvocationStatus::Timeout, None),
            "INIT_REPORT Init Duration: 612.33 ms\tPhase: init\tStatus: timeout\n"
        );
        assert_eq!(line(InvocationStatus::Success, None), "INIT_REPORT Init Duration: 612.33 ms\n");
    }

    #[test]
    fn a_restore_has_a_report_and_is_billed_by_itself() {
        let restore = Duration::from_micros(225_010);
        let line = |status, kind| restore_report_line(restore, status, kind);
        assert_eq!(line(InvocationStatus::Success, None), "RESTORE_REPORT Restore Duration: 225.01 ms\n");
        assert_eq!(
            line(InvocationStatus::Error, Some("Runtime.AfterRestoreError")),
            "RESTORE_REPORT Restore Duration: 225.01 ms\tStatus: error\tError Type: Runtime.AfterRestoreError\n"
        );
        let duration = Duration::from_micros(19_270);
        let lines = end_and_report_lines(&Report {
            request_id: "8f1c",
            duration,
            billed_duration_ms: billed_duration_ms(duration, None, Some(restore)),
            memory_size_mb: 128,
            max_memory_used_mb: 41,
            init_duration: None,
            restore_duration: Some(restore),
            status: InvocationStatus::Success,
            error_type: None,
        });
        assert!(lines.ends_with(
            "\tDuration: 19.27 ms\tBilled Duration: 246 ms\tMemory Size: 128 MB\tMax Memory Used: 41 MB\t\
             Restore Duration: 225.01 ms\tBilled Restore Duration: 226 ms\t\n"
        ));
    }

    #[test]
    fn extensions_and_subscriptions_have_lines_of_their_own() {
        let mut extensions =
            crate::extensions::Extensions::new(vec!["obs.py".to_owned(), "bad".to_owned()], false);
        extensions.register("obs.py", br#"{"events":["SHUTDOWN","INVOKE"]}"#).unwrap();
        extensions.launch_failed("bad", "PermissionDenied");
        let lines: Vec<String> = extensions.iter().map(extension_line).collect();
        assert_eq!(
            lines,
            [
                "EXTENSION\tName: obs.py\tState: Registered\tEvents: [INVOKE, SHUTDOWN]\n",
                "EXTENSION\tName: bad\tState: LaunchError\tEvents: []\tError Type: PermissionDenied\n",
            ]
        );
        let streams = crate::telemetry::Streams { platform: true, function: true, extension: false };
        let accepted = Accepted { state: "Subscribed", streams };
        assert_eq!(
            subscription_line(Api::Telemetry, "obs.py", accepted),
            "TELEMETRY\tName: obs.py\tState: Subscribed\tTypes: [Platform, Function]\n"
        );
        assert!(subscription_line(Api::Logs, "old", accepted).starts_with("LOGS\tName: old\tState: "));
    }

    #[test]
    fn billing_rounds_the_sum_up() {
        let init = Some(Duration::from_micros(463_512));
        assert_eq!(billed_duration_ms(Duration::from_micros(1_233_960), init, None), 1698);
        assert_eq!(billed_duration_ms(Duration::from_millis(3), None, None), 3);
    }
}
