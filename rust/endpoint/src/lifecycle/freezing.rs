//! When the environment's processes stand still (spec extensions-telemetry 3.5): the whole policy.
//!
//! They are frozen when nothing is left for them to do: the runtime polls for the next invocation, its answer to the
//! last one was read to the end, the extensions are done with it, and none waits. Not at once, but after [`DELAY`]: to
//! stop and wake a process costs some 100 µs, which invocations that follow each other closely must not pay, and on AWS
//! too the freeze comes a moment later. They go on before an event is handed to them.

use std::time::{Duration, Instant};

use super::Lifecycle;
use super::processes::ProcessSlot;
use super::runtime_calls::RuntimeState;

/// From the poll for the next invocation to the freeze.
const DELAY: Duration = Duration::from_millis(5);

impl Lifecycle {
    /// The runtime and the extensions wait, and nothing waits for them.
    pub(super) fn idle(&mut self, now: Instant) {
        if self.config.freeze {
            self.freeze_at = Some(now + DELAY);
            self.arm(now + DELAY);
        }
    }

    /// Something is about to be handed to the runtime, or asked of it.
    pub(super) fn thaw(&mut self) {
        self.freeze_at = None;
        for (_, process) in &mut self.extension_processes {
            process.thaw();
        }
        if let ProcessSlot::Running(process) = &mut self.process {
            process.thaw();
        }
        self.telemetry.pause(false);
    }

    /// The time has come to freeze, unless the environment is busy again.
    pub(super) fn freeze(&mut self) {
        self.freeze_at = None;
        if !self.has_nothing_to_do() {
            return;
        }
        if let ProcessSlot::Running(process) = &mut self.process {
            // Whatever is being sent to an extension arrives when it goes on.
            self.telemetry.pause(true);
            process.freeze();
        }
        for (_, process) in &mut self.extension_processes {
            process.freeze();
        }
    }

    /// Whether the runtime and the extensions wait, and nothing waits for them.
    pub(super) fn has_nothing_to_do(&self) -> bool {
        matches!(self.state, RuntimeState::Ready | RuntimeState::RestoreReady)
            && !self.pollers.is_empty()
            && self.is_free()
            && self.queue.is_empty()
            && !self.is_ending()
    }
}
