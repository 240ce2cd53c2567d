//! What extensions do on Managed Instances (spec extensions-telemetry 1.1 and 6): init waits for them, none is told of an
//! invocation, and one that ends is the end of the environment.

use std::task::Waker;
use std::time::Instant;

use uuid::Uuid;

use super::Managed;
use crate::error::EndpointError;
use crate::error_document;
use crate::extensions::{EventPoll, ShutdownReason};
use crate::process::{Exit, RuntimeProcess};
use crate::sandbox::ExtensionEnd;

impl Managed {
    /// An extension's executable was started. The time of the first init runs from then on at the latest.
    pub fn extension_started(
        &mut self,
        name: &str,
        process: RuntimeProcess,
        now: Instant,
    ) -> Result<(), EndpointError> {
        self.sandbox.extension_started(name, process)?;
        if let Some(init) = &mut self.init {
            let deadline = *init.deadline.get_or_insert(now + self.sandbox.config.init_timeout);
            self.sandbox.arm(deadline);
        }
        Ok(())
    }

    /// `GET /extension/event/next` of poller `poller`.
    pub fn poll_event(&mut self, id: Uuid, poller: u64, waker: &Waker, now: Instant) -> EventPoll {
        let looked = self.sandbox.poll_event(id, poller, waker, now);
        if matches!(looked, EventPoll::Pending) {
            self.extensions_changed(now);
        }
        looked
    }

    /// An extension's executable cannot be started: init fails.
    pub fn extension_start_failed(&mut self, name: &str, error_type: &str, message: &str, now: Instant) {
        if self.sandbox.extension_start_failed(name, error_type) {
            self.fail_environment(error_document::EXTENSION_LAUNCH_ERROR, message, now);
        }
    }

    /// An extension's process was reaped, and everything it printed was read.
    pub fn extension_exited(&mut self, pid: i32, exit: Exit, now: Instant) {
        match self.sandbox.extension_exited(pid, exit) {
            ExtensionEnd::Unknown => {}
            ExtensionEnd::Expected(ended) => self.settle(ended, now),
            ExtensionEnd::Fatal(error_type, reason) => self.fail_environment(error_type, &reason, now),
        }
    }

    /// The last telemetry was sent, or could not be.
    pub fn telemetry_flushed(&mut self, now: Instant) {
        let ended = self.sandbox.telemetry_flushed(now);
        self.settle(ended, now);
    }

    /// One of them asks for an event, which may be what init waits for.
    fn extensions_changed(&mut self, now: Instant) {
        if !self.sandbox.is_ending() {
            self.end_init_if_ready(now);
            self.pump(now);
        }
    }

    /// Because of an extension the environment cannot go on: whatever runs fails, and all processes end.
    fn fail_environment(&mut self, error_type: &str, reason: &str, now: Instant) {
        self.fail_everything(error_type, reason, now);
        if !self.end_processes(ShutdownReason::Failure, now) {
            self.process_gone(now);
        }
    }
}
