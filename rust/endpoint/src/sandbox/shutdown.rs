//! The Shutdown phase, which is also the body of every reset (spec extensions-telemetry 3.4): the runtime first, then
//! the last telemetry, then the extensions.
//!
//! Without extensions there is nothing of it but SIGKILL.

use std::time::{Duration, Instant};

use super::{Ending, ProcessSlot, REAP_LIMIT, Sandbox};
use crate::extensions::{Event, ShutdownReason};
use crate::lifecycle::current::unix_ms;

/// What an environment has in all, from SIGTERM to the last SIGKILL.
const BUDGET: Duration = Duration::from_secs(2);
/// The runtime's part of it.
const RUNTIME_SHARE: Duration = Duration::from_millis(300);
/// The runtime's part, and the whole budget, where an internal extension lives in it.
const RUNTIME_SHARE_WITH_EXTENSION: Duration = Duration::from_millis(500);

/// The runtime's part of it on Managed Instances, with extensions of whichever kind (spec extensions-telemetry 6).
const MANAGED_RUNTIME_SHARE: Duration = Duration::from_millis(600);

/// What is left to the extensions then.
const EXTENSIONS_SHARE: Duration = Duration::from_millis(1500);

/// The extensions on their way out; the runtime is gone.
#[derive(Debug)]
pub(crate) struct ExtensionShutdown {
    step: Step,
    pub(crate) deadline: Option<Instant>,
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

impl ExtensionShutdown {
    /// Whether they were killed and their end is waited for.
    pub(crate) fn is_kill(&self) -> bool {
        self.step == Step::Killed
    }
}

/// How far it is with the end of all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There was none to end.
    Nothing,
    /// Their end will be told.
    UnderWay,
    /// All of them are gone, and the machine says so with [`Sandbox::reset`].
    All,
}

impl Sandbox {
    /// Whether processes are on their way out.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some() || self.extension_shutdown.is_some()
    }

    /// End all processes, the runtime's first.
    pub(crate) fn end_processes(&mut self, reason: ShutdownReason, now: Instant) -> Ended {
        let (internal, external) = (self.extensions.registered(false), self.extensions.registered(true));
        if self.extension_shutdown.is_some() || (self.ending.is_some() && (internal || external)) {
            // It is under way.
            return Ended::UnderWay;
        }
        // A process that stands still hears no signal.
        self.thaw();
        self.shutdown_reason = reason;
        self.shutdown_began = Some(now);
        if matches!(self.process, ProcessSlot::Running(_)) || !self.extension_processes.is_empty() {
            self.telemetry.shutdown(reason.as_str(), now);
        }
        let ProcessSlot::Running(process) = &mut self.process else {
            if self.extension_processes.is_empty() {
                return Ended::Nothing;
            }
            self.process = ProcessSlot::None;
            return self.shut_extensions_down(now);
        };
        let share = match (internal, external) {
            (true, _) | (_, true) if self.config.max_concurrency.is_some() => MANAGED_RUNTIME_SHARE,
            (true, _) => RUNTIME_SHARE_WITH_EXTENSION,
            (false, true) => RUNTIME_SHARE,
            // Nobody asked for time, and none is given.
            (false, false) => {
                self.kill_process(now);
                return Ended::UnderWay;
            }
        };
        self.peak_kb = self.peak_kb.max(process.peak_memory_kb());
        process.terminate();
        self.ending = Some(Ending { deadline: now + share, killed: false });
        self.arm(now + share);
        Ended::UnderWay
    }

    /// The runtime is gone, by itself or not: the turn of the others.
    pub(crate) fn process_gone(&mut self, now: Instant) -> Ended {
        if self.extension_shutdown.is_some() {
            return Ended::UnderWay;
        }
        if self.shutdown_began.is_none() {
            // It ended by itself.
            self.shutdown_reason = ShutdownReason::Failure;
            self.shutdown_began = Some(now);
            self.telemetry.shutdown(self.shutdown_reason.as_str(), now);
        }
        self.shut_extensions_down(now)
    }

    pub(crate) fn shut_extensions_down(&mut self, now: Instant) -> Ended {
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
        Ended::UnderWay
    }

    /// The last telemetry was sent, or could not be.
    pub(crate) fn telemetry_flushed(&mut self, now: Instant) -> Ended {
        if self.extension_shutdown.as_ref().is_some_and(|shutdown| shutdown.step == Step::Flushing) {
            return self.tell_extensions_to_end(now);
        }
        Ended::UnderWay
    }

    fn tell_extensions_to_end(&mut self, now: Instant) -> Ended {
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
        self.extensions_ended()
    }

    /// One of them is gone, or all of them are.
    pub(super) fn extensions_ended(&self) -> Ended {
        let told = self.extension_shutdown.as_ref().is_some_and(|shutdown| shutdown.step != Step::Flushing);
        if told && self.extension_processes.is_empty() { Ended::All } else { Ended::UnderWay }
    }

    /// The extensions' time is up, if it is.
    pub(crate) fn expire_extensions(&mut self, now: Instant) -> Ended {
        let Some(shutdown) = &mut self.extension_shutdown else { return Ended::UnderWay };
        if shutdown.deadline.is_none_or(|deadline| deadline > now) {
            return Ended::UnderWay;
        }
        if shutdown.step == Step::Killed {
            // They cannot be killed (a hung device, say). Whoever waits must not hang with them.
            self.extension_processes.clear();
            return Ended::All;
        }
        shutdown.step = Step::Killed;
        shutdown.deadline = Some(now + REAP_LIMIT);
        for (_, process) in &self.extension_processes {
            process.kill();
        }
        self.arm(now + REAP_LIMIT);
        Ended::UnderWay
    }
}
