//! When the environment's processes stand still (spec extensions-telemetry 3.5): the whole policy.
//!
//! They are frozen when nothing is left for them to do: the runtime polls for the next invocation, its answer to the
//! last one was read to the end, the extensions are done with it, and none waits. Not at once, but after [`DELAY`]: to
//! stop and wake a process costs some 100 µs, which invocations that follow each other closely must not pay, and on AWS
//! too the freeze comes a moment later. They go on before an event is handed to them.
//!
//! Where control groups can be used, each environment has one from its first freeze on: an environment that is never
//! frozen, such as that of one invocation, does not pay for it. That freeze comes some 10 ms later than the others, when
//! all processes have been taken in. Elsewhere, and where that fails, they are stopped with signals.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Lifecycle;
use super::runtime_calls::RuntimeState;
use crate::control_group::{ControlGroup, FreezerChoice, Version};
use crate::process_tree::Held;
use crate::reaper::Reaper;
use crate::sandbox::ProcessSlot;

/// From the poll for the next invocation to the freeze.
const DELAY: Duration = Duration::from_millis(5);

/// What stops the processes of one environment.
#[derive(Debug)]
pub(crate) struct Freezer {
    choice: FreezerChoice,
    /// From the first freeze to the end of the processes.
    group: Option<Arc<ControlGroup>>,
    /// The programs that are in the group, by pid.
    inside: Vec<i32>,
    /// Programs are being taken in.
    entering: bool,
    frozen: bool,
}

/// Programs to be taken into a control group, off the endpoint's thread.
#[derive(Debug)]
pub struct Entry {
    group: Arc<ControlGroup>,
    programs: Vec<i32>,
    reapers: Vec<Held>,
}

impl Entry {
    /// Take them in: 10 ms. The result is for [`Lifecycle::entered`].
    pub fn run(&self) -> io::Result<()> {
        self.group.take_in(&self.reapers)
    }
}

impl Freezer {
    pub(crate) fn new(choice: FreezerChoice) -> Self {
        Self { choice, group: None, inside: Vec::new(), entering: false, frozen: false }
    }

    /// The version of the control group that is used; none: signals.
    pub(crate) fn version(&self) -> Option<Version> {
        self.choice.version()
    }

    /// The processes are all gone, and the group goes, too.
    pub(crate) fn reset(&mut self) {
        let before = std::mem::replace(self, Self::new(self.choice));
        if let Some(group) = before.group {
            group.remove();
        }
    }

    /// Signals from now on.
    fn give_up(&mut self) {
        self.choice = FreezerChoice::Signals;
    }

    fn group(&mut self) -> Option<Arc<ControlGroup>> {
        let version = self.version()?;
        if self.group.is_none() {
            self.group = ControlGroup::new(version).map(Arc::new);
        }
        self.group.clone()
    }

    pub(crate) fn frozen(&self) -> bool {
        self.frozen
    }

    /// Let the group go on.
    pub(crate) fn thaw(&mut self) {
        if let Some(group) = self.group.as_ref().filter(|_| self.frozen) {
            // A group that is gone has nobody in it.
            let _ = group.set_frozen(false);
            self.frozen = false;
        }
    }
}

impl Lifecycle {
    /// The runtime and the extensions wait, and nothing waits for them.
    pub(super) fn idle(&mut self, now: Instant) {
        if self.sandbox.config.freeze {
            self.freeze_at = Some(now + DELAY);
            self.sandbox.arm(now + DELAY);
        }
    }

    /// Something is about to be handed to the runtime, or asked of it.
    pub(super) fn thaw(&mut self) {
        self.freeze_at = None;
        self.sandbox.thaw();
    }

    /// The time has come to freeze, unless the environment is busy again.
    pub(super) fn freeze(&mut self) {
        self.freeze_at = None;
        if !self.has_nothing_to_do() {
            return;
        }
        let Some(group) = self.sandbox.freezer.group() else { return self.freeze_with_signals() };
        let mut outside: Vec<(i32, Arc<Reaper>)> = Vec::new();
        for process in self.sandbox.all_processes() {
            outside.extend(process.reaper().map(|reaper| (process.pid, Arc::clone(reaper))));
        }
        if outside.is_empty() {
            // They are nobody's children, or about to become ours.
            return self.freeze_with_signals();
        }
        outside.retain(|(program, _)| !self.sandbox.freezer.inside.contains(program));
        if outside.is_empty() {
            self.freeze_group(&group);
        } else if !self.sandbox.freezer.entering {
            self.enter(group, &outside);
        }
    }

    fn enter(&mut self, group: Arc<ControlGroup>, outside: &[(i32, Arc<Reaper>)]) {
        let held: io::Result<Vec<Held>> = outside.iter().map(|(_, reaper)| reaper.hold()).collect();
        let Ok(reapers) = held else {
            self.sandbox.freezer.give_up();
            return self.freeze_with_signals();
        };
        for (_, reaper) in outside {
            reaper.tell_group(group.path());
        }
        let programs = outside.iter().map(|(program, _)| *program).collect();
        self.sandbox.freezer.entering = true;
        self.sandbox.effects.entries.push(Entry { group, programs, reapers });
    }

    /// Programs are in their group, or could not be taken in.
    pub fn entered(&mut self, entry: Entry, result: &io::Result<()>) {
        let current =
            self.sandbox.freezer.group.as_ref().is_some_and(|group| Arc::ptr_eq(group, &entry.group));
        if !current {
            // The processes that it was for are gone.
            return;
        }
        self.sandbox.freezer.entering = false;
        match result {
            Ok(()) => self.sandbox.freezer.inside.extend(entry.programs),
            Err(_) => self.sandbox.freezer.give_up(),
        }
        if self.freeze_at.is_none() {
            self.freeze();
        }
    }

    fn freeze_group(&mut self, group: &ControlGroup) {
        self.pause_telemetry();
        if self.sandbox.freezer.frozen {
            // Who has come to it since then stands still like the others.
            return;
        }
        if group.set_frozen(true).is_ok() {
            self.sandbox.freezer.frozen = true;
        } else {
            self.sandbox.freezer.give_up();
            self.freeze_with_signals();
        }
    }

    fn freeze_with_signals(&mut self) {
        self.pause_telemetry();
        for process in self.sandbox.all_processes() {
            process.freeze();
        }
    }

    fn pause_telemetry(&mut self) {
        if matches!(self.sandbox.process, ProcessSlot::Running(_)) {
            // Whatever is being sent to an extension arrives when it goes on.
            self.sandbox.telemetry.pause(true);
        }
    }

    /// Whether the runtime and the extensions wait, and nothing waits for them.
    pub(super) fn has_nothing_to_do(&self) -> bool {
        matches!(self.state, RuntimeState::Ready | RuntimeState::RestoreReady)
            && !self.pollers.is_empty()
            && self.current.is_none()
            && self.is_free()
            && self.queue.is_empty()
            && !self.sandbox.is_ending()
    }
}
