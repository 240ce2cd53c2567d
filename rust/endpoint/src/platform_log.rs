//! The platform's own log lines, text form (spec extensions-telemetry 4.1). Nowhere else are they written.

use std::fmt::Write;
use std::time::Duration;

use crate::invocation::InvocationStatus;

/// `START RequestId: … Version: …`
pub fn start_line(request_id: &str, version: &str) -> String {
    format!("START RequestId: {request_id} Version: {version}\n")
}

/// A failed init; a successful on-demand init writes no line.
pub fn init_report_line(init: Duration, status: InvocationStatus, error_type: Option<&str>) -> String {
    let mut line = format!("INIT_REPORT Init Duration: {:.2} ms\tPhase: init", milliseconds(init));
    push_status(&mut line, status, error_type);
    line.push('\n');
    line
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
    // The line ends with a tab unless a status follows.
    if report.status != InvocationStatus::Success {
        lines.pop();
    }
    push_status(&mut lines, report.status, report.error_type);
    lines.push('\n');
    lines
}

/// Billed time: since August 2025 the init of an on-demand function is billed too (spec extensions-telemetry 3.7).
pub fn billed_duration_ms(duration: Duration, init: Option<Duration>) -> u64 {
    let micros = (duration + init.unwrap_or_default()).as_nanos().div_ceil(1_000_000);
    u64::try_from(micros).unwrap_or(u64::MAX)
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
            billed_duration_ms: billed_duration_ms(duration, init),
            memory_size_mb: 128,
            max_memory_used_mb: 41,
            init_duration: init,
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
        let line = |status, kind| init_report_line(Duration::from_micros(612_330), status, kind);
        assert_eq!(
            line(InvocationStatus::Error, Some("Runtime.ExitError")),
            "INIT_REPORT Init Duration: 612.33 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n"
        );
        assert_eq!(
            line(InvocationStatus::Timeout, None),
            "INIT_REPORT Init Duration: 612.33 ms\tPhase: init\tStatus: timeout\n"
        );
    }

    #[test]
    fn billing_rounds_the_sum_up() {
        let init = Some(Duration::from_micros(463_512));
        assert_eq!(billed_duration_ms(Duration::from_micros(1_233_960), init), 1698);
        assert_eq!(billed_duration_ms(Duration::from_millis(3), None), 3);
    }
}
