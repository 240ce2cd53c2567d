//! A runtime that was started by hand, in a development environment say: there is no process to watch, so that its
//! connections tell when it is gone.
//!
//! When the last of them is closed, the environment is what it was before the runtime came: the next one initialises
//! itself, may report that it failed to, and gets what waits. An invocation that was not answered by then is left alone
//! until the next runtime comes, for there are runtimes that make a connection for each request. One that comes and
//! asks for something else than to answer is a new one: then the invocation fails, as if the process had been seen to
//! end.

use std::time::Instant;

use super::Lifecycle;
use super::current::{Current, Outcome};
use super::runtime_calls::RuntimeState;
use crate::error_document::{self, ErrorDocument};
use crate::invocation::InvocationStatus;

impl Lifecycle {
    /// The last connection of the runtime is closed.
    pub fn runtime_left(&mut self, now: Instant) {
        if self.sandbox.closed {
            return;
        }
        if self.current.as_ref().is_some_and(Current::is_with_runtime) {
            self.runtime_left = true;
        } else {
            self.start_afresh(now);
        }
    }

    /// A runtime asks for an event, or reports a failed init: if the last one had left, this is another.
    pub fn greet_new_runtime(&mut self, now: Instant) {
        // One that has reported a failed init does not ask for events.
        let failed = self.sandbox.config.by_hand && self.state == RuntimeState::InitError;
        if !self.runtime_left && !failed {
            return;
        }
        if let Some(current) = self.current.as_mut().filter(|current| current.is_with_runtime()) {
            current.outcome = Some(Outcome::error(error_document::RUNTIME_EXIT_ERROR));
            let (kind, reason) = (error_document::RUNTIME_EXIT_ERROR, "Runtime closed its connections");
            let failure = ErrorDocument::of_request(kind, &current.invocation.request_id, reason);
            self.fail_current(failure, InvocationStatus::Error, now);
            self.tell_runtime_done(now);
        }
        self.start_afresh(now);
    }

    fn start_afresh(&mut self, now: Instant) {
        self.runtime_left = false;
        // Whoever started the runtime has seen why it failed, and starts another because of it.
        self.init_failure = None;
        self.failed_init = None;
        self.init_phase_over = false;
        self.init_report = None;
        self.restore = None;
        self.environment_gone(now);
    }
}
