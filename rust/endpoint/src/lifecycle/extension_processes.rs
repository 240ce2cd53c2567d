//! The processes of external extensions: launched before the runtime, missed when they end too early (spec
//! extensions-telemetry 3.1 and 3.3).

use std::time::Instant;

use super::Lifecycle;
use super::current::Outcome;
use super::processes::{InitFailure, InitFailureCause};
use crate::error::EndpointError;
use crate::error_document::{self, ErrorDocument};
use crate::extensions::ShutdownReason;
use crate::invocation::InvocationStatus;
use crate::process::{Exit, RuntimeProcess};
use crate::telemetry::Origin;

impl Lifecycle {
    /// Take the request to launch an extension, if there is one: its name.
    pub fn take_extension_launch(&mut self) -> Option<String> {
        self.extensions.take_launch()
    }

    /// An extension's executable was started.
    pub fn extension_started(&mut self, name: &str, process: RuntimeProcess) -> Result<(), EndpointError> {
        // Meanwhile another extension may have failed, or init may have taken too long.
        if !self.extensions.launched(name) || self.closed || self.is_ending() {
            return Err(EndpointError::Closed);
        }
        self.extension_processes.push((name.to_owned(), process));
        Ok(())
    }

    /// An extension's executable cannot be started: init fails.
    pub fn extension_start_failed(&mut self, name: &str, error_type: &str, message: &str, now: Instant) {
        if !self.extensions.launched(name) {
            return;
        }
        self.extensions.launch_failed(name, error_type);
        self.fail_environment(error_document::EXTENSION_LAUNCH_ERROR, message, now);
    }

    /// An extension's process has ended and is about to be reaped: it is not signalled any more.
    pub fn extension_ended(&mut self, pid: i32) {
        if let Some((_, process)) =
            self.extension_processes.iter_mut().find(|(_, process)| process.pid == pid)
        {
            process.ended();
        }
    }

    /// An extension's process was reaped, and everything it printed was read.
    pub fn extension_exited(&mut self, pid: i32, exit: Exit, now: Instant) {
        let Some(index) = self.extension_processes.iter().position(|(_, process)| process.pid == pid) else {
            return;
        };
        let (name, _) = self.extension_processes.remove(index);
        if self.is_ending() {
            self.extensions.ended_in_shutdown(&name, exit);
            self.extension_gone(now);
        } else {
            self.fail_environment(self.extensions.fatal_error(), &exit.of_extension(), now);
        }
    }

    /// One line that an extension printed.
    pub fn extension_line(&mut self, name: &str, line: &str, now: Instant) {
        self.drain_log(now);
        self.log.write_extension_line(name, line);
        self.telemetry.line(Origin::Extension, line, now);
    }

    /// Because of an extension the environment cannot go on: whatever runs fails, and all processes end.
    fn fail_environment(&mut self, error_type: &str, reason: &str, now: Instant) {
        if let Some(init) = self.init.take() {
            let failure = InitFailure {
                status: InvocationStatus::Error,
                error_type: error_type.to_owned(),
                cause: InitFailureCause::Message(reason.to_owned()),
            };
            self.fail_init(failure, now.duration_since(init.requested), now);
        } else if self.fail_restore_of(error_type, reason, now) {
            // Who waited for the restore was told.
        } else if let Some(current) = &mut self.current
            && current.outcome.is_none()
        {
            current.outcome = Some(Outcome::error(error_type));
            let failure = ErrorDocument::of_request(error_type, &current.invocation.request_id, reason);
            self.fail_current(failure, InvocationStatus::Error, now);
        }
        if !self.end_processes(ShutdownReason::Failure, now) {
            self.environment_gone(now);
        }
    }
}
