//! The memory limit (spec runtime-api 7.3): the whole policy.
//!
//! While an init or an invocation runs, its processes are looked at every [`INTERVAL`]. When they use more than the
//! function's setting, or the runtime's own peak since the phase began was higher, everything is killed and the phase
//! fails with `Runtime.OutOfMemory`. What came and went between two looks in other processes is not seen.

use std::time::{Duration, Instant};

use super::Lifecycle;
use super::current::Outcome;
use super::processes::{InitFailure, InitFailureCause};
use crate::error_document::{self, ErrorDocument};
use crate::invocation::InvocationStatus;
use crate::process::Exit;
use crate::sandbox::ProcessSlot;

const INTERVAL: Duration = Duration::from_millis(100);

impl Lifecycle {
    /// A phase begins: have its memory looked at.
    pub(super) fn watch_memory(&mut self, now: Instant) {
        // What was used before is not this phase's fault.
        self.phase_peak_kb = self.sandbox.peak_kb;
        if self.memory_at.is_none() {
            self.memory_at = Some(now + INTERVAL);
            self.sandbox.arm(now + INTERVAL);
        }
    }

    /// Look, if a phase is still running.
    pub(super) fn check_memory(&mut self, now: Instant) {
        self.memory_at = None;
        let runs =
            self.init.is_some() || self.current.as_ref().is_some_and(|current| current.outcome.is_none());
        let ProcessSlot::Running(process) = &mut self.sandbox.process else { return };
        if !runs || self.sandbox.ending.is_some() {
            return;
        }
        let config = &self.sandbox.config;
        let limit_kb = if config.limits { config.memory_size_mb * 1024 } else { u64::MAX };
        // Extensions share the function's memory.
        let extensions_kb: u64 =
            self.sandbox.extension_processes.iter_mut().map(|(_, process)| process.sample_memory_kb()).sum();
        let used_kb = process.sample_memory_kb() + extensions_kb;
        self.sandbox.peak_kb = self.sandbox.peak_kb.max(process.peak_memory_kb()).max(used_kb);
        if used_kb > limit_kb
            || (self.sandbox.peak_kb > limit_kb && self.sandbox.peak_kb > self.phase_peak_kb)
        {
            self.end_for_memory(now);
        } else {
            self.memory_at = Some(now + INTERVAL);
        }
    }

    fn end_for_memory(&mut self, now: Instant) {
        let reason = Exit::Signal { signal: libc::SIGKILL, core_dumped: false }.reason();
        if self.init.is_some() {
            let failure = InitFailure {
                status: InvocationStatus::Error,
                error_type: error_document::RUNTIME_OUT_OF_MEMORY.to_owned(),
                cause: InitFailureCause::Message(reason),
            };
            self.fail_init(failure, now);
        } else if let Some(current) = &mut self.current {
            current.outcome = Some(Outcome::error(error_document::RUNTIME_OUT_OF_MEMORY));
            let request_id = current.invocation.request_id.clone();
            let failure =
                ErrorDocument::of_request(error_document::RUNTIME_OUT_OF_MEMORY, &request_id, &reason);
            self.fail_current(failure, InvocationStatus::Error, now);
            self.tell_runtime_done(now);
        }
        self.sandbox.kill_process(now);
    }

    /// The peak for the report of an invocation. The platform's figure for one that ran out of memory is the setting.
    pub(super) fn reported_memory_kb(&mut self, outcome: Option<&Outcome>) -> u64 {
        match outcome {
            Some(outcome) if outcome.error_type == error_document::RUNTIME_OUT_OF_MEMORY => {
                self.sandbox.config.memory_size_mb * 1024
            }
            _ => self.sandbox.peak_memory_kb(),
        }
    }
}
