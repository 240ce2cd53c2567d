//! What extensions ask of the environment (spec extensions-telemetry 1 and 2), and the processes of external ones:
//! launched before the runtime, missed when they end too early (3.1 and 3.3).

use std::task::Waker;
use std::time::Instant;

use uuid::Uuid;

use super::{Ended, ProcessSlot, Sandbox};
use crate::error::EndpointError;
use crate::error_document;
use crate::extensions::{EventPoll, Refusal, ReportedError};
use crate::platform_log;
use crate::process::{Exit, RuntimeProcess};
use crate::telemetry::{self, Api, Origin, Record};

/// What the end of an extension's process means.
pub(crate) enum ExtensionEnd {
    /// It was nobody's.
    Unknown,
    /// It was to end.
    Expected(Ended),
    /// The environment cannot go on: the fatal error, and how the process ended.
    Fatal(&'static str, String),
}

impl Sandbox {
    /// Whether extensions are not switched off.
    pub fn can_have_extensions(&self) -> bool {
        !self.config.extensions_off
    }

    /// `POST /extension/register`. The last external extension to register lets the runtime start.
    pub(crate) fn register_extension(&mut self, name: &str, body: &[u8]) -> Result<Uuid, Refusal> {
        let id = self.extensions.register(name, body)?;
        if matches!(self.process, ProcessSlot::AwaitsExtensions) && self.extensions.all_external_registered()
        {
            self.process = ProcessSlot::Wanted;
            self.effects.process_changed = true;
        }
        Ok(id)
    }

    /// Whether the identifier is an extension's of this generation.
    pub fn is_registered(&self, id: Uuid) -> bool {
        self.extensions.find(id).is_some()
    }

    /// Whether it is that of an extension with a process of its own.
    pub fn is_external(&self, id: Uuid) -> bool {
        self.extensions.find(id).is_some_and(|extension| self.extensions.is_external(extension.name()))
    }

    /// `GET /extension/event/next` of poller `poller`.
    pub(crate) fn poll_event(&mut self, id: Uuid, poller: u64, waker: &Waker, now: Instant) -> EventPoll {
        let looked = self.extensions.poll_event(id, poller, waker);
        if let EventPoll::Deliver(event) = &looked
            && let Some(extension) = self.extensions.find(id)
        {
            self.telemetry.extension_event(extension.name(), &event.body, now);
        }
        looked
    }

    /// The client of a waiting request hung up.
    pub fn abandon_event_poll(&mut self, id: Uuid, poller: u64) {
        self.extensions.abandon_poll(id, poller);
    }

    /// `POST /extension/init/error` or `/extension/exit/error`.
    pub fn report_extension_error(
        &mut self,
        id: Uuid,
        kind: ReportedError,
        error_type: &str,
    ) -> Result<(), Refusal> {
        self.extensions.report_error(id, kind, error_type)
    }

    /// `PUT /telemetry` or `/logs`.
    pub fn subscribe(
        &mut self,
        id: Uuid,
        api: Api,
        body: &[u8],
        now: Instant,
    ) -> Result<(), telemetry::Refusal> {
        let name = self.extensions.find(id).map(|extension| extension.name().to_owned()).unwrap_or_default();
        self.drain_log(now);
        let accepted = self.telemetry.subscribe(&name, api, body, now)?;
        self.effects.subscribers.append(&mut self.telemetry.started);
        self.log.write_lines(&platform_log::subscription_line(api, &name, accepted));
        let record = Record::Subscription { api, name, state: accepted.state, streams: accepted.streams };
        self.telemetry.record(record, now);
        Ok(())
    }

    // ---- processes ---------------------------------------------------------------------------------------------

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

    /// An extension's executable cannot be started. Whether that matters still.
    pub(crate) fn extension_start_failed(&mut self, name: &str, error_type: &str) -> bool {
        let matters = self.extensions.launched(name);
        if matters {
            self.extensions.launch_failed(name, error_type);
        }
        matters
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
    pub(crate) fn extension_exited(&mut self, pid: i32, exit: Exit) -> ExtensionEnd {
        let Some(index) = self.extension_processes.iter().position(|(_, process)| process.pid == pid) else {
            return ExtensionEnd::Unknown;
        };
        let (name, _) = self.extension_processes.remove(index);
        if self.is_ending() {
            self.extensions.ended_in_shutdown(&name, exit);
            return ExtensionEnd::Expected(self.extensions_ended());
        }
        let error_type = self.extensions.fatal_error(error_document::EXTENSION_CRASH);
        ExtensionEnd::Fatal(error_type, exit.of_extension())
    }

    /// One line that an extension printed.
    pub fn extension_line(&mut self, name: &str, line: &str, now: Instant) {
        self.drain_log(now);
        self.log.write_extension_line(name, line);
        self.telemetry.line(Origin::Extension, line, now);
    }
}
