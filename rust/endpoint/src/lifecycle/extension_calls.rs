//! What extensions ask of the environment (spec extensions-telemetry 1 and 2), and what comes of it.

use std::task::Waker;
use std::time::Instant;

use uuid::Uuid;

use super::Lifecycle;
use super::processes::ProcessSlot;
use super::runtime_calls::RuntimeState;
use crate::extensions::{Event, EventPoll, Refusal, ReportedError};
use crate::platform_log;
use crate::telemetry::{self, Api, Record};

impl Lifecycle {
    /// `POST /extension/register`. The last external extension to register lets the runtime start.
    pub fn register_extension(&mut self, name: &str, body: &[u8], now: Instant) -> Result<Uuid, Refusal> {
        let id = self.extensions.register(name, body)?;
        if matches!(self.process, ProcessSlot::AwaitsExtensions) && self.extensions.all_external_registered()
        {
            self.process = ProcessSlot::Wanted;
            self.effects.process_changed = true;
        }
        // Whoever came before this one may have been all that was waited for.
        self.extensions_changed(now);
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
    pub fn poll_event(&mut self, id: Uuid, poller: u64, waker: &Waker, now: Instant) -> EventPoll {
        let looked = self.extensions.poll_event(id, poller, waker);
        if matches!(looked, EventPoll::Pending) {
            self.extensions_changed(now);
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

    /// An extension asks for its next event, which may be what a phase waits for.
    fn extensions_changed(&mut self, now: Instant) {
        if self.is_ending() || !self.extensions.are_ready() {
            return;
        }
        match self.state {
            RuntimeState::Ready | RuntimeState::RestoreReady if self.extensions.are_initialising() => {
                self.end_init(now);
            }
            RuntimeState::Ready if self.current.is_some() => self.finish_current(now),
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
        self.extensions.close_registration();
        if self.extensions.are_ready() {
            self.end_init(now);
        }
    }

    /// The current invocation goes to the extensions that asked for it.
    pub(super) fn tell_extensions(&mut self) {
        let Some(current) = self.current.as_mut().filter(|_| self.extensions.any_subscribed_to_invoke())
        else {
            return;
        };
        current.extended = true;
        let invocation = &current.invocation;
        let trace_id = invocation.trace_id.to_str().unwrap_or_default();
        let event = Event::invoke(&invocation.request_id, &self.function_arn, trace_id, current.deadline_ms);
        for name in self.extensions.invoke(event, &mut self.effects.pollers) {
            self.log.write_lines(&platform_log::lost_event_line(name));
        }
    }

    /// Whether the environment can turn to another invocation.
    pub(super) fn is_free(&self) -> bool {
        self.current.is_none() && self.extensions.are_ready()
    }
}
