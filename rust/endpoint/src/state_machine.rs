//! The state machine that an environment's configuration asks for, behind one face.

use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::environment::{Activity, EnvironmentConfig};
use crate::error::EndpointError;
use uuid::Uuid;

use crate::extensions::{EventPoll, ShutdownReason};
use crate::invocation::Invocation;
use crate::lifecycle::freezing::Entry;
use crate::lifecycle::{Lifecycle, NextPoll, Posted, Refusal, RuntimeState};
use crate::managed::Managed;
use crate::process::{Ended, Exit, RuntimeProcess};
use crate::response_stream::PieceSender;
use crate::sandbox::Sandbox;

/// What an environment is, to those who call it. The methods are those of the machines.
pub enum StateMachine {
    /// One invocation at a time.
    Single(Box<Lifecycle>),
    /// Several at once.
    Managed(Box<Managed>),
}

/// Managed Instances are not restored from snapshots. The routes are there only with SnapStart, so nobody gets to hear it.
const NO_SNAPSHOT: Refusal =
    Refusal::InvalidTransition { from: RuntimeState::Started, to: RuntimeState::RestoreReady };

macro_rules! forward {
    ($self:ident, $machine:ident => $call:expr) => {
        match $self {
            Self::Single($machine) => $call,
            Self::Managed($machine) => $call,
        }
    };
}

impl StateMachine {
    pub fn new(config: EnvironmentConfig) -> Self {
        match config.max_concurrency {
            None => Self::Single(Box::new(Lifecycle::new(config))),
            Some(slots) => Self::Managed(Box::new(Managed::new(config, slots.get(), Instant::now()))),
        }
    }

    /// What does not depend on how invocations are run.
    pub fn sandbox(&mut self) -> &mut Sandbox {
        forward!(self, machine => &mut machine.sandbox)
    }

    fn sandbox_ref(&self) -> &Sandbox {
        forward!(self, machine => &machine.sandbox)
    }

    /// Do something where there can be extensions; `None` where they are switched off.
    pub fn with_extensions<R>(&mut self, change: impl FnOnce(&mut Self) -> R) -> Option<R> {
        self.sandbox().can_have_extensions().then(|| change(self))
    }

    pub fn is_closed(&self) -> bool {
        self.sandbox_ref().closed
    }

    /// What stops the processes, as its option is called.
    pub fn freezer_name(&self) -> String {
        self.sandbox_ref().freezer_name()
    }

    /// Programs are in their control group, or could not be taken in.
    pub fn entered(&mut self, entry: Entry, result: &io::Result<()>) {
        if let Self::Single(machine) = self {
            machine.entered(entry, result);
        }
    }

    // ---- the extensions ----------------------------------------------------------------------------------------

    pub fn extension_started(
        &mut self,
        name: &str,
        process: RuntimeProcess,
        now: Instant,
    ) -> Result<(), EndpointError> {
        match self {
            Self::Single(machine) => machine.sandbox.extension_started(name, process),
            Self::Managed(machine) => machine.extension_started(name, process, now),
        }
    }

    pub fn poll_event(&mut self, id: Uuid, poller: u64, waker: &Waker, now: Instant) -> EventPoll {
        forward!(self, machine => machine.poll_event(id, poller, waker, now))
    }

    pub fn extension_start_failed(&mut self, name: &str, error_type: &str, message: &str, now: Instant) {
        forward!(self, machine => machine.extension_start_failed(name, error_type, message, now));
    }

    pub fn extension_exited(&mut self, pid: i32, exit: Exit, now: Instant) {
        forward!(self, machine => machine.extension_exited(pid, exit, now));
    }

    pub fn telemetry_flushed(&mut self, now: Instant) {
        forward!(self, machine => machine.telemetry_flushed(now));
    }

    // ---- the invoker's side ------------------------------------------------------------------------------------

    pub fn submit(
        &mut self,
        invocations: impl IntoIterator<Item = Invocation>,
        now: Instant,
    ) -> Result<(), EndpointError> {
        forward!(self, machine => machine.submit(invocations, now))
    }

    /// Whether [`Self::submit`] takes any.
    pub fn takes_invocations(&self) -> bool {
        let sandbox = self.sandbox_ref();
        !sandbox.closed && !sandbox.retired
    }

    /// No more invocations come. Those that wait are returned, and are somebody else's; what runs goes on to its end,
    /// and [`Self::has_served`] says when to close.
    pub fn retire(&mut self) -> Vec<Invocation> {
        self.sandbox().retired = true;
        forward!(self, machine => machine.take_waiting())
    }

    /// Whether it was retired and is to be closed now.
    pub fn has_served(&self) -> bool {
        let sandbox = self.sandbox_ref();
        sandbox.retired && !sandbox.closed && forward!(self, machine => machine.has_no_invocation())
    }

    /// Managed Instances are prepared from the beginning.
    pub fn prepare(&mut self, now: Instant) {
        if let Self::Single(machine) = self {
            machine.prepare(now);
        }
    }

    pub fn activity(&self) -> Activity {
        forward!(self, machine => machine.activity())
    }

    pub fn pause_timeout(&mut self) {
        forward!(self, machine => machine.pause_timeout());
    }

    /// On Managed Instances nobody is told a reason.
    pub fn close_for(&mut self, reason: ShutdownReason, now: Instant) {
        forward!(self, machine => machine.close_for(reason, now));
    }

    // ---- time --------------------------------------------------------------------------------------------------

    pub fn next_deadline(&mut self) -> Option<Instant> {
        forward!(self, machine => machine.next_deadline())
    }

    pub fn expire(&mut self, now: Instant) {
        forward!(self, machine => machine.expire(now));
    }

    pub fn skip(&mut self, by: Duration) {
        forward!(self, machine => machine.skip(by));
    }

    pub fn handed_out(&self) -> usize {
        forward!(self, machine => machine.handed_out())
    }

    // ---- the process -------------------------------------------------------------------------------------------

    pub fn has_process(&self) -> bool {
        self.sandbox_ref().has_process()
    }

    pub fn process_ids(&self) -> Vec<i32> {
        self.sandbox_ref().process_ids()
    }

    pub fn take_start(&mut self) -> bool {
        self.sandbox().take_start()
    }

    pub fn process_starting(&mut self) {
        self.sandbox().process_starting();
    }

    pub fn process_ended(&mut self, pid: i32) {
        self.sandbox().process_ended(pid);
    }

    pub fn launch_ended(&mut self) {
        forward!(self, machine => machine.launch_ended());
    }

    pub fn process_started(&mut self, process: RuntimeProcess, now: Instant) -> Result<(), EndpointError> {
        forward!(self, machine => machine.process_started(process, now))
    }

    pub fn start_failed(&mut self, message: &str, now: Instant) {
        forward!(self, machine => machine.start_failed(message, now));
    }

    pub fn process_exited(&mut self, pid: i32, ended: Ended, now: Instant) {
        forward!(self, machine => machine.process_exited(pid, ended, now));
    }

    // ---- the runtime's calls -----------------------------------------------------------------------------------

    pub fn poll_next(&mut self, poller: u64, waker: &Waker, now: Instant) -> NextPoll {
        forward!(self, machine => machine.poll_next(poller, waker, now))
    }

    pub fn poll_restore(&mut self, poller: u64, waker: &Waker, now: Instant) -> NextPoll<()> {
        match self {
            Self::Single(machine) => machine.poll_restore(poller, waker, now),
            Self::Managed(_) => NextPoll::Refused(NO_SNAPSHOT),
        }
    }

    pub fn drop_poller(&mut self, poller: u64, now: Instant) {
        forward!(self, machine => machine.drop_poller(poller, now));
    }

    pub fn begin_answer(
        &mut self,
        request_id: &str,
        invocation_id: Option<&[u8]>,
        upload: RuntimeState,
        now: Instant,
    ) -> Result<u64, Refusal> {
        match self {
            Self::Single(machine) => machine.begin_answer(request_id, invocation_id, upload, now),
            Self::Managed(machine) => machine.begin_answer(request_id, invocation_id, now),
        }
    }

    pub fn take_pieces(&mut self, attempt: u64) -> Option<PieceSender> {
        forward!(self, machine => machine.take_pieces(attempt))
    }

    pub fn finish_answer(&mut self, attempt: u64, posted: Posted, now: Instant) -> Result<(), Refusal> {
        forward!(self, machine => machine.finish_answer(attempt, posted, now))
    }

    pub fn begin_restore_error(&self) -> Result<(), Refusal> {
        match self {
            Self::Single(machine) => machine.begin_restore_error(),
            Self::Managed(_) => Err(NO_SNAPSHOT),
        }
    }

    pub fn finish_restore_error(
        &mut self,
        payload: Bytes,
        content_type: HeaderValue,
        error_type: String,
        now: Instant,
    ) -> Result<(), Refusal> {
        match self {
            Self::Single(machine) => machine.finish_restore_error(payload, content_type, error_type, now),
            Self::Managed(_) => Err(NO_SNAPSHOT),
        }
    }

    /// The last connection of a runtime that was started by hand is closed. Managed Instances have none.
    pub fn runtime_left(&mut self, now: Instant) {
        if let Self::Single(machine) = self {
            machine.runtime_left(now);
        }
    }

    pub fn greet_new_runtime(&mut self, now: Instant) {
        if let Self::Single(machine) = self {
            machine.greet_new_runtime(now);
        }
    }

    pub fn begin_init_error(&self) -> Result<(), Refusal> {
        forward!(self, machine => machine.begin_init_error())
    }

    pub fn finish_init_error(
        &mut self,
        payload: Bytes,
        content_type: HeaderValue,
        error_type: String,
        now: Instant,
    ) -> Result<(), Refusal> {
        forward!(self, machine => machine.finish_init_error(payload, content_type, error_type, now))
    }
}
