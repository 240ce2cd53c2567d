//! When the freeze comes, and what stops the processes; that they stop and go on is in `process_tree`, `control_group` and
//! the integration tests.

use std::io;

use super::*;
use crate::control_group::FreezerChoice;
use crate::reaper::{ProgramSpec, Reaper};

fn sleeper() -> Arc<Reaper> {
    let spec = ProgramSpec {
        program: "/bin/sleep".into(),
        arguments: ["sleep", "60"].map(Into::into).to_vec(),
        process_group: true,
        ..ProgramSpec::default()
    };
    Arc::new(Reaper::start(&spec, None).unwrap())
}

/// An environment with a frozen-to-be process, after its first poll.
fn idle_with_process(freezer: FreezerChoice) -> (Environment, Arc<Reaper>) {
    let mut environment = Environment::with(EnvironmentConfig { freezer, ..EnvironmentConfig::default() });
    let reaper = sleeper();
    environment.lifecycle.process_started(RuntimeProcess::under(&reaper, true), environment.now).unwrap();
    assert!(matches!(environment.next(), NextPoll::Pending));
    (environment, reaper)
}

/// One of those that make a group, if this process may make any.
fn group() -> Option<FreezerChoice> {
    let version = FreezerChoice::Auto.version().map(FreezerChoice::Group);
    if version.is_none() {
        eprintln!("skipped: this process may make no control groups");
    }
    version
}

impl Environment {
    /// What the endpoint's thread does with programs to be taken in.
    fn enter(&mut self) -> usize {
        let entries = std::mem::take(&mut self.lifecycle.sandbox.effects.entries);
        let count = entries.len();
        for entry in entries {
            let result = entry.run();
            self.lifecycle.entered(entry, &result);
        }
        count
    }
}

#[test]
fn the_first_freeze_waits_for_the_group_and_later_ones_do_not() {
    let Some(choice) = group() else { return };
    let (mut environment, _reaper) = idle_with_process(choice);
    assert_eq!(environment.enter(), 0, "nothing is done before the first freeze");
    environment.pass(Duration::from_secs(1));
    assert!(!environment.lifecycle.sandbox.freezer.frozen());
    assert_eq!(environment.enter(), 1);
    assert!(environment.lifecycle.sandbox.freezer.frozen());
    environment.submit("a");
    assert!(!environment.lifecycle.sandbox.freezer.frozen());
    environment.delivered();
    environment.respond("a", "1").unwrap();
    assert!(matches!(environment.next(), NextPoll::Pending));
    environment.pass(Duration::from_secs(1));
    assert!(environment.lifecycle.sandbox.freezer.frozen());
    assert_eq!(environment.enter(), 0);
}

#[test]
fn an_invocation_that_comes_while_processes_are_taken_in_is_not_delayed() {
    let Some(choice) = group() else { return };
    let (mut environment, _reaper) = idle_with_process(choice);
    environment.pass(Duration::from_secs(1));
    environment.submit("a");
    environment.delivered();
    assert_eq!(environment.enter(), 1);
    assert!(!environment.lifecycle.sandbox.freezer.frozen());
    environment.respond("a", "1").unwrap();
    assert!(matches!(environment.next(), NextPoll::Pending));
    environment.pass(Duration::from_secs(1));
    assert!(environment.lifecycle.sandbox.freezer.frozen());
}

#[test]
fn who_comes_to_a_frozen_environment_is_frozen_too() {
    let Some(choice) = group() else { return };
    let (mut environment, _reaper) = idle_with_process(choice);
    environment.pass(Duration::from_secs(1));
    assert_eq!(environment.enter(), 1);
    let late = sleeper();
    let process = RuntimeProcess::under(&late, true);
    environment.lifecycle.sandbox.extension_processes.push(("late".to_owned(), process));
    environment.lifecycle.freeze();
    assert_eq!(environment.enter(), 1);
    assert!(environment.lifecycle.sandbox.freezer.frozen());
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", late.program())).unwrap();
    assert!(groups.contains("/caloric-"), "{groups}");
}

#[test]
fn where_the_group_fails_there_are_signals() {
    let Some(choice) = group() else { return };
    let (mut environment, _reaper) = idle_with_process(choice);
    environment.pass(Duration::from_secs(1));
    assert_ne!(environment.lifecycle.sandbox.freezer_name(), "signals");
    let entry = environment.lifecycle.sandbox.effects.entries.pop().unwrap();
    environment.lifecycle.entered(entry, &Err(io::Error::from_raw_os_error(libc::EACCES)));
    assert_eq!(environment.lifecycle.sandbox.freezer_name(), "signals");
    assert!(!environment.lifecycle.sandbox.freezer.frozen());
    assert_eq!(environment.enter(), 0);
}

#[test]
fn a_late_entry_does_not_freeze_the_next_process() {
    let Some(choice) = group() else { return };
    let (mut environment, reaper) = idle_with_process(choice);
    environment.pass(Duration::from_secs(1));
    let entry = environment.lifecycle.sandbox.effects.entries.pop().unwrap();
    let ended = Ended { exit: Exit::Status(1), max_rss_kb: 0 };
    environment.lifecycle.process_exited(reaper.program(), ended, environment.now);
    let result = entry.run();
    assert!(result.is_err(), "the group is gone for good");
    environment.lifecycle.entered(entry, &result);
    assert_ne!(
        environment.lifecycle.sandbox.freezer_name(),
        "signals",
        "which the next process does not pay for"
    );
}

#[test]
fn signals_need_no_group() {
    let (mut environment, _reaper) = idle_with_process(FreezerChoice::Signals);
    environment.pass(Duration::from_secs(1));
    assert_eq!(environment.enter(), 0);
    assert_eq!(environment.lifecycle.sandbox.freezer_name(), "signals");
}

#[test]
fn a_runtime_that_was_quicker_than_its_starter_is_frozen_too() {
    let mut environment = Environment::new();
    environment.submit("a");
    assert!(environment.lifecycle.sandbox.take_start());
    environment.delivered();
    environment.respond("a", "1").unwrap();
    assert!(matches!(environment.next(), NextPoll::Pending));
    environment.now += Duration::from_secs(1);
    environment.lifecycle.expire(environment.now);
    assert_eq!(environment.lifecycle.freeze_at, None, "there was nothing to freeze");
    let _process = environment.started();
    assert!(environment.lifecycle.freeze_at.is_some());
}
