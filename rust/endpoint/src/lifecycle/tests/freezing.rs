//! When the freeze comes; that processes stop and go on is in `process_tree` and in the integration tests.

use super::*;

#[test]
fn a_runtime_that_was_quicker_than_its_starter_is_frozen_too() {
    let mut environment = Environment::new();
    environment.submit("a");
    assert!(environment.lifecycle.take_start());
    environment.delivered();
    environment.respond("a", "1").unwrap();
    assert!(matches!(environment.next(), NextPoll::Pending));
    environment.now += Duration::from_secs(1);
    environment.lifecycle.expire(environment.now);
    assert_eq!(environment.lifecycle.freeze_at, None, "there was nothing to freeze");
    let _process = environment.started();
    assert!(environment.lifecycle.freeze_at.is_some());
}
