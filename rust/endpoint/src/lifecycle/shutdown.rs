//! The Shutdown phase, which is also the body of every reset (spec extensions-telemetry 3.4): the runtime first, then
//! the last telemetry, then the extensions.
//!
//! Without extensions there is nothing of it but SIGKILL.

use std::time::{Duration, Instant};

use super::current::unix_ms;
use super::processes::{Ending, ProcessSlot};
use super::{Lifecycle, REAP_LIMIT};
use crate::extensions::{Event, ShutdownReason};

/// What an environment has in all, from SIGTERM to the last SIGKILL.
const BUDGET: Duration = Duration::from_secs(2);
/// The runtime's part of it.
const RUNTIME_SHARE: Duration = Duration::from_millis(300);
/// The runtime's part, and the whole budget, where an internal extension lives in it.
const RUNTIME_SHARE_WITH_EXTENSION: Duration = Duration::from_millis(500);

/// What is left to the extensions then.
const EXTENSIONS_SHARE: Duration = Duration::from_millis(1500);

/// The extensions on their way out; the runtime is gone.
#[derive(Debug)]
pub(super) struct ExtensionShutdown {
    step: Step,
    pub(super) deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Their last telemetry is being sent.
    Flushing,
    /// They were told.
    Told,
    /// Their time was up.
    Killed,
}

impl Lifecycle {
    /// Whether processes are on their way out.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some() || self.extension_shutdown.is_some()
    }

    /// End all processes, the runtime's first. `false` if there is none.
    pub(super) fn end_processes(&mut self, reason: ShutdownReason, now: Instant) -> bool {
        let (internal, external) = (self.extensions.registered(false), self.extensions.registered(true));
        if self.extension_shutdown.is_some() || (self.ending.is_some() && (internal || external)) {
            // It is under way.
            return true;
        }
        // A process that stands still hears no signal.
        self.thaw();
        self.shutdown_reason = reason;
        self.shutdown_began = Some(now);
        let ProcessSlot::Running(process) = &mut self.process else {
            if self.extension_processes.is_empty() {
                return false;
            }
            self.process = ProcessSlot::None;
            self.shut_extensions_down(now);
            return true;
        };
        let share = match (internal, external) {
            (true, _) => RUNTIME_SHARE_WITH_EXTENSION,
            (false, true) => RUNTIME_SHARE,
            // Nobody asked for time, and none is given.
            (false, false) => return self.kill_process(now),
        };
        self.peak_kb = self.peak_kb.max(process.peak_memory_kb());
        process.terminate();
        self.ending = Some(Ending { deadline: now + share, killed: false });
        self.arm(now + share);
        true
    }

    /// The runtime is gone: the turn of the others.
    pub(super) fn shut_extensions_down(&mut self, now: Instant) {
        self.ending = None;
        self.thaw();
        self.drain_log(now);
        self.telemetry.function_output_ends(now);
        // The function's last line ends here, whatever is printed from now on.
        self.log.write_lines("");
        let subscribers = self.telemetry.subscribers();
        if subscribers.is_empty() {
            return self.tell_extensions_to_end(now);
        }
        self.effects.flush.extend(subscribers);
        // The flush has a limit of its own and always comes to an end.
        self.extension_shutdown = Some(ExtensionShutdown { step: Step::Flushing, deadline: None });
    }

    /// The last telemetry was sent, or could not be.
    pub fn telemetry_flushed(&mut self, now: Instant) {
        if self.extension_shutdown.as_ref().is_some_and(|shutdown| shutdown.step == Step::Flushing) {
            self.tell_extensions_to_end(now);
        }
    }

    fn tell_extensions_to_end(&mut self, now: Instant) {
        // The time of the flush is not theirs.
        let deadline = (self.shutdown_began.unwrap_or(now) + BUDGET).max(now + EXTENSIONS_SHARE);
        self.extension_shutdown = Some(ExtensionShutdown { step: Step::Told, deadline: Some(deadline) });
        let event = Event::shutdown(self.shutdown_reason, unix_ms(deadline.saturating_duration_since(now)));
        let unsubscribed = self.extensions.shut_down(event, &mut self.effects.pollers);
        for (name, process) in &self.extension_processes {
            if unsubscribed.contains(name) {
                process.kill();
            }
        }
        self.arm(deadline);
        self.extension_gone(now);
    }

    /// One of them is gone, or all of them are.
    pub(super) fn extension_gone(&mut self, now: Instant) {
        let told = self.extension_shutdown.as_ref().is_some_and(|shutdown| shutdown.step != Step::Flushing);
        if told && self.extension_processes.is_empty() {
            self.environment_gone(now);
        }
    }

    /// The extensions' time is up.
    pub(super) fn expire_extensions(&mut self, now: Instant) {
        let Some(shutdown) = &mut self.extension_shutdown else { return };
        if shutdown.step == Step::Killed {
            // They cannot be killed (a hung device, say). Whoever waits must not hang with them.
            self.extension_processes.clear();
            return self.environment_gone(now);
        }
        shutdown.step = Step::Killed;
        shutdown.deadline = Some(now + REAP_LIMIT);
        for (_, process) in &self.extension_processes {
            process.kill();
        }
        self.arm(now + REAP_LIMIT);
    }
}
