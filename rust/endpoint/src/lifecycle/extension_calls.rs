//! What extensions do to the phases: what they ask for may be what a phase waits for, and one that ends is the end of it
//! (spec extensions-telemetry 1.6, 3.1 and 3.3).

use std::task::Waker;
use std::time::Instant;

use uuid::Uuid;

use super::Lifecycle;
use super::current::Outcome;
use super::processes::{InitFailure, InitFailureCause};
use super::runtime_calls::RuntimeState;
use crate::error_document::{self, ErrorDocument};
use crate::extensions::{Event, EventPoll, ShutdownReason};
use crate::invocation::InvocationStatus;
use crate::platform_log;
use crate::process::Exit;
use crate::sandbox::ExtensionEnd;

impl Lifecycle {
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

    /// Because of an extension the environment cannot go on: whatever runs fails, and all processes end.
    fn fail_environment(&mut self, error_type: &str, reason: &str, now: Instant) {
        if self.init.is_some() {
            let failure = InitFailure {
                status: InvocationStatus::Error,
                error_type: error_type.to_owned(),
                cause: InitFailureCause::Message(reason.to_owned()),
            };
            self.fail_init(failure, now);
        } else if self.fail_restore_of(error_type, reason, now) {
            // Who waited for the restore was told.
        } else if let Some(current) = &mut self.current
            && current.outcome.is_none()
        {
            current.outcome = Some(Outcome::error(error_type));
            let failure = ErrorDocument::of_request(error_type, &current.invocation.request_id, reason);
            self.fail_current(failure, InvocationStatus::Error, now);
            self.sandbox.drain_log(now);
            self.tell_runtime_done(now);
        }
        if !self.end_processes(ShutdownReason::Failure, now) {
            self.environment_gone(now);
        }
    }

    /// An extension asks for its next event, which may be what a phase waits for.
    fn extensions_changed(&mut self, now: Instant) {
        if self.sandbox.is_ending() || !self.sandbox.extensions.are_ready() {
            return;
        }
        match self.state {
            RuntimeState::Ready | RuntimeState::RestoreReady
                if self.sandbox.extensions.are_initialising() =>
            {
                self.end_init(now);
            }
            RuntimeState::Ready if self.current.is_some() && !self.awaits_delivery() => {
                self.finish_current(now);
            }
            _ => return,
        }
        if self.queue.is_empty() {
            self.idle(now);
        }
        self.pump(now);
    }

    /// The runtime asked for its first event: extensions cannot register any more, and init is over when they have
    /// asked for theirs.
    pub(super) fn runtime_is_initialised(&mut self, now: Instant) {
        self.sandbox.extensions.close_registration();
        if self.sandbox.extensions.are_ready() {
            self.end_init(now);
        }
    }

    /// The current invocation goes to the extensions that asked for it.
    pub(super) fn tell_extensions(&mut self) {
        let Some(current) =
            self.current.as_mut().filter(|_| self.sandbox.extensions.any_subscribed_to_invoke())
        else {
            return;
        };
        current.extended = true;
        let invocation = &current.invocation;
        let trace_id = invocation.trace_id.to_str().unwrap_or_default();
        let function_arn = invocation
            .invoked_function_arn
            .as_ref()
            .and_then(|arn| arn.to_str().ok())
            .unwrap_or(&self.sandbox.function_arn);
        let event = Event::invoke(&invocation.request_id, function_arn, trace_id, current.deadline_ms);
        for name in self.sandbox.extensions.invoke(event, &mut self.sandbox.effects.pollers) {
            self.sandbox.log.write_lines(&platform_log::lost_event_line(name));
        }
    }

    /// Whether the runtime can be given an invocation.
    pub(super) fn is_free(&self) -> bool {
        (self.current.is_none() || self.awaits_delivery()) && self.sandbox.extensions.are_ready()
    }
}
