//! A clock that is put forward: time limits run out, the rest goes on.

use std::os::unix::process::ExitStatusExt as _;

use super::*;

const BOTH: &str = r#"{"events":["INVOKE","SHUTDOWN"]}"#;
const SHARE: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(900);

impl Environment {
    /// As the environment of a virtual clock does it.
    fn jump(&mut self, by: Duration) {
        self.now += by;
        self.lifecycle.skip(by);
        self.lifecycle.expire(self.now);
    }
}

#[test]
fn a_jump_past_the_time_limit_ends_the_invocation_there() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.next();
    environment.jump(LONG);
    let result = environment.result();
    assert_eq!(result.failure_type().unwrap(), "Sandbox.Timedout");
    assert_eq!(result.duration, TIMEOUT);
}

#[test]
fn a_jump_short_of_the_time_limit_counts_as_time() {
    let mut environment = Environment::new();
    environment.submit("id");
    environment.next();
    environment.jump(Duration::from_millis(2999));
    environment.respond("id", "1").unwrap();
    environment.next();
    let result = environment.result();
    assert_eq!((result.duration, result.billed_duration_ms), (Duration::from_millis(2999), 2999));
}

#[test]
fn a_kill_has_its_real_time_after_a_jump() {
    let mut environment = Environment::new();
    environment.submit("id");
    let process = environment.started();
    environment.next();
    environment.pass(TIMEOUT);
    let kill = environment.lifecycle.next_deadline().unwrap();
    assert_eq!(kill, environment.now + REAP_LIMIT);
    environment.jump(LONG);
    assert!(environment.lifecycle.sandbox.has_process(), "it is not given up");
    assert_eq!(environment.lifecycle.next_deadline(), Some(kill + LONG));
    environment.exited(&process, Exit::Signal { signal: libc::SIGKILL, core_dumped: false });
    assert_eq!(environment.result().failure_type().unwrap(), "Sandbox.Timedout");
}

#[test]
fn a_runtime_that_reported_a_failed_init_has_its_real_time_to_exit() {
    let mut environment = Environment::new();
    environment.submit("id");
    let mut process = environment.started();
    environment.init_error("{}").unwrap();
    environment.jump(LONG);
    assert!(process.0.try_wait().unwrap().is_none(), "it is not killed");
    environment.pass(EXIT_GRACE);
    process.0.wait().unwrap();
}

#[test]
fn freezing_and_looks_at_memory_keep_their_distance() {
    let mut environment = Environment::new();
    environment.submit("id");
    let _process = environment.started();
    environment.next();
    environment.respond("id", "1").unwrap();
    environment.next();
    environment.result();
    let (freeze, memory) = (environment.lifecycle.freeze_at, environment.lifecycle.memory_at);
    assert!(freeze.is_some() && memory.is_some());
    environment.jump(LONG);
    assert_eq!(environment.lifecycle.freeze_at, freeze.map(|at| at + LONG));
    assert_eq!(environment.lifecycle.memory_at, memory.map(|at| at + LONG));
}

#[test]
fn the_graces_of_the_shutdown_phase_run_out() {
    let (mut environment, id, mut runtime, mut extension) = Environment::running_with_external(BOTH);
    environment.gets(id);
    environment.waits(id);
    environment.respond("id", "42").unwrap();
    environment.next();
    environment.result();
    environment.lifecycle.close(environment.now);
    assert_eq!(runtime.0.wait().unwrap().signal(), Some(libc::SIGTERM));
    environment.jump(SHARE);
    assert!(environment.lifecycle.sandbox.ending.as_ref().unwrap().killed);
    environment.exited(&runtime, Exit::Status(0));
    environment.jump(LONG);
    assert_eq!(extension.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    let given_up =
        |environment: &Environment| environment.lifecycle.sandbox.extension_shutdown.as_ref()?.deadline;
    assert_eq!(given_up(&environment), Some(environment.now + REAP_LIMIT));
    environment.jump(LONG);
    assert_eq!(given_up(&environment), Some(environment.now + REAP_LIMIT));
    assert!(environment.lifecycle.sandbox.has_process(), "it is not given up");
    environment.extension_exits(&extension, Exit::Signal { signal: libc::SIGKILL, core_dumped: false });
    assert!(!environment.lifecycle.sandbox.has_process());
}

#[test]
fn only_an_invocation_that_a_runtime_is_at_work_on_is_handed_out() {
    let mut environment = Environment::new();
    environment.submit("id");
    assert_eq!(environment.lifecycle.handed_out(), 0);
    environment.next();
    assert_eq!(environment.lifecycle.handed_out(), 1);
    environment.respond("id", "1").unwrap();
    assert_eq!(environment.lifecycle.handed_out(), 0);
}
