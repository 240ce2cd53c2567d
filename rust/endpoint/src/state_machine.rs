//! The state machine that an environment's configuration asks for, behind one face.

use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::environment::EnvironmentConfig;
use crate::error::EndpointError;
use crate::invocation::Invocation;
use crate::lifecycle::{Effects, Lifecycle, NextPoll, Posted, Refusal, RuntimeState};
use crate::log_capture::LogCapture;
use crate::managed::Managed;
use crate::process::{Ended, RuntimeProcess};

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

    /// Do something where there are extensions; `None` where there are none: on Managed Instances, so far.
    pub fn with_extensions<R>(&mut self, change: impl FnOnce(&mut Lifecycle) -> R) -> Option<R> {
        match self {
            Self::Single(machine) => Some(change(machine)),
            Self::Managed(_) => None,
        }
    }

    pub fn drain_log(&mut self, now: Instant) {
        match self {
            Self::Single(machine) => machine.drain_log(now),
            Self::Managed(machine) => machine.log.drain(),
        }
    }

    pub fn log(&mut self) -> &mut LogCapture {
        forward!(self, machine => &mut machine.log)
    }

    pub fn effects(&mut self) -> &mut Effects {
        forward!(self, machine => &mut machine.effects)
    }

    // ---- the invoker's side ------------------------------------------------------------------------------------

    pub fn submit(
        &mut self,
        invocations: impl IntoIterator<Item = Invocation>,
        now: Instant,
    ) -> Result<(), EndpointError> {
        forward!(self, machine => machine.submit(invocations, now))
    }

    pub fn pause_timeout(&mut self) {
        forward!(self, machine => machine.pause_timeout());
    }

    pub fn close(&mut self, now: Instant) {
        forward!(self, machine => machine.close(now));
    }

    pub fn is_closed(&self) -> bool {
        forward!(self, machine => machine.is_closed())
    }

    // ---- time --------------------------------------------------------------------------------------------------

    pub fn next_deadline(&mut self) -> Option<Instant> {
        forward!(self, machine => machine.next_deadline())
    }

    pub fn expire(&mut self, now: Instant) {
        forward!(self, machine => machine.expire(now));
    }

    // ---- the process -------------------------------------------------------------------------------------------

    pub fn has_process(&self) -> bool {
        forward!(self, machine => machine.has_process())
    }

    pub fn take_start(&mut self) -> bool {
        forward!(self, machine => machine.take_start())
    }

    pub fn process_starting(&mut self, now: Instant) {
        forward!(self, machine => machine.process_starting(now));
    }

    pub fn process_started(&mut self, process: RuntimeProcess, now: Instant) -> Result<(), EndpointError> {
        forward!(self, machine => machine.process_started(process, now))
    }

    pub fn start_failed(&mut self, message: &str, now: Instant) {
        forward!(self, machine => machine.start_failed(message, now));
    }

    pub fn process_ended(&mut self, pid: i32) {
        forward!(self, machine => machine.process_ended(pid));
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
            Self::Managed(machine) => machine.begin_answer(request_id, invocation_id),
        }
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
