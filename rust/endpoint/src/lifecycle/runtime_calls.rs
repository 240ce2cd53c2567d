//! What a runtime may call when (spec runtime-api 1.8), and what comes of it.

use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::Lifecycle;
use super::current::Outcome;
use super::processes::{InitFailure, InitFailureCause};
use crate::error_document::ErrorDocument;
use crate::invocation::InvocationStatus;
use crate::response_stream::PieceSender;
use crate::sandbox::Launch;

/// What the runtime did last, as the platform names it in its 403 messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeState {
    Started,
    InitError,
    Ready,
    Running,
    InvocationResponse,
    InvocationErrorResponse,
    ResponseSent,
    /// SnapStart: blocked in `/restore/next`.
    RestoreReady,
    /// SnapStart: told that it was restored, and not polling yet.
    Restoring,
    RestoreError,
}

impl RuntimeState {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::InitError => "InitError",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InvocationResponse => "InvocationResponse",
            Self::InvocationErrorResponse => "InvocationErrorResponse",
            Self::ResponseSent => "RuntimeResponseSentState",
            Self::RestoreReady => "RestoreReady",
            Self::Restoring => "Restoring",
            Self::RestoreError => "RuntimeRestoreErrorState",
        }
    }
}

/// Why a call of the runtime is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400: the id is not the current invocation's.
    InvalidRequestId,
    /// 403: not now.
    InvalidTransition { from: RuntimeState, to: RuntimeState },
    /// 410: the invocation is over.
    InvokeTimeout,
    /// The answer names another attempt of the invocation than the one that runs.
    OtherAttempt,
    /// 500: more `/next` than the environment has slots (Managed Instances).
    TooManyIdleRuntimes,
}

/// Everything a runtime is told about an invocation.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub request_id: HeaderValue,
    pub invocation_id: HeaderValue,
    pub deadline_ms: u64,
    /// When its time limit runs out.
    pub times_out: Instant,
    pub trace_id: HeaderValue,
    pub client_context: Option<HeaderValue>,
    pub cognito_identity: Option<HeaderValue>,
    pub tenant_id: Option<HeaderValue>,
    pub invoked_function_arn: Option<HeaderValue>,
    pub content_type: HeaderValue,
    pub event: Bytes,
}

/// The outcome of one look at `/next`, or at `/restore/next`, which delivers nothing.
#[derive(Debug)]
pub enum NextPoll<T = Box<Delivery>> {
    Deliver(T),
    Refused(Refusal),
    /// The poller is registered and will be woken.
    Pending,
}

/// What a runtime posted for an invocation, or what became of its attempt to.
#[derive(Debug)]
pub enum Posted {
    Response {
        payload: Bytes,
        content_type: Option<HeaderValue>,
    },
    Error {
        payload: Bytes,
        content_type: Option<HeaderValue>,
        error_type: String,
    },
    /// The caller has had all of it, piece by piece.
    Streamed {
        content_type: Option<HeaderValue>,
    },
    /// The platform does not pass the answer on and says why.
    Failed(ErrorDocument),
}

impl Lifecycle {
    /// `GET /next` of poller `poller`.
    pub fn poll_next(&mut self, poller: u64, waker: &Waker, now: Instant) -> NextPoll {
        self.greet_new_runtime(now);
        match self.state {
            RuntimeState::InitError
            | RuntimeState::InvocationResponse
            | RuntimeState::InvocationErrorResponse
            | RuntimeState::RestoreReady
            | RuntimeState::RestoreError => {
                return NextPoll::Refused(self.refuse(RuntimeState::Ready));
            }
            // A process that is being ended gets nothing any more.
            _ if self.sandbox.is_ending() => return self.register(poller, waker),
            RuntimeState::Started if self.sandbox.launch != Launch::None => {
                return self.register(poller, waker);
            }
            RuntimeState::Running => {
                if let Some(current) = &self.current {
                    // Polling without having answered is no error: the same event again (spec 1.8, rule 1).
                    let delivery = current.delivery();
                    self.forget_poller(poller);
                    return NextPoll::Deliver(Box::new(delivery));
                }
            }
            RuntimeState::Started => {
                self.state = RuntimeState::Ready;
                self.runtime_is_initialised(now);
            }
            RuntimeState::ResponseSent => {
                self.state = RuntimeState::Ready;
                self.sandbox.drain_log(now);
                self.tell_runtime_done(now);
                if self.sandbox.extensions.are_ready() {
                    self.finish_current(now);
                }
            }
            RuntimeState::Restoring => {
                self.end_restore(now);
                self.state = RuntimeState::Ready;
            }
            RuntimeState::Ready => {}
        }
        if !self.is_free() {
            return self.register(poller, waker);
        }
        let Some(delivery) = self.deliver(now) else {
            self.idle(now);
            return self.register(poller, waker);
        };
        self.forget_poller(poller);
        NextPoll::Deliver(Box::new(delivery))
    }

    /// A poller went away; if it had been woken for an invocation, another one is.
    pub fn drop_poller(&mut self, poller: u64, now: Instant) {
        self.forget_poller(poller);
        self.pump(now);
    }

    /// The head of an answer has arrived: may it be given now? The id comes before the state (spec 1.8, rule 2).
    ///
    /// Returns the attempt, to be named when the body is complete.
    pub fn begin_answer(
        &mut self,
        request_id: &str,
        invocation_id: Option<&[u8]>,
        upload: RuntimeState,
        now: Instant,
    ) -> Result<u64, Refusal> {
        // In the init within it an invocation is the current one already.
        let Some(current) =
            self.current.as_ref().filter(|current| current.began.is_some() && current.is(request_id))
        else {
            let late = self.expired.iter().any(|expired| expired == request_id);
            return Err(if late { Refusal::InvokeTimeout } else { Refusal::InvalidRequestId });
        };
        current.check_attempt(invocation_id)?;
        let is_over =
            |outcome: &Outcome| current.delivered.is_some() || outcome.status == InvocationStatus::Timeout;
        if current.outcome.as_ref().is_some_and(is_over) {
            return Err(Refusal::InvokeTimeout);
        }
        if self.state != RuntimeState::Running {
            return Err(self.refuse(upload));
        }
        let attempt = current.attempt;
        self.runtime_left = false;
        self.state = upload;
        if let Some(current) = &mut self.current {
            current.answer_began = Some(now);
        }
        Ok(attempt)
    }

    /// Where a response is to be streamed to that [`Self::begin_answer`] has begun; `None`: it is collected.
    pub fn take_pieces(&mut self, attempt: u64) -> Option<PieceSender> {
        self.current.as_mut().filter(|current| current.attempt == attempt)?.invocation.pieces.take()
    }

    /// The whole body was taken, or the upload broke off.
    pub fn finish_answer(&mut self, attempt: u64, posted: Posted, now: Instant) -> Result<(), Refusal> {
        let Some(current) = self.current.as_mut().filter(|current| {
            current.attempt == attempt && current.answer.is_none() && current.outcome.is_none()
        }) else {
            return Err(Refusal::InvokeTimeout);
        };
        let answer = current.posted(posted);
        self.state = RuntimeState::ResponseSent;
        self.give_answer(answer, now);
        Ok(())
    }

    /// Whether a failed init may be reported now.
    pub fn begin_init_error(&self) -> Result<(), Refusal> {
        // After a restore it is taken for a failed restore.
        let expected = matches!(self.state, RuntimeState::Started | RuntimeState::Restoring);
        if expected && !self.sandbox.is_ending() { Ok(()) } else { Err(self.refuse(RuntimeState::InitError)) }
    }

    /// The runtime reported a failed init, and is expected to exit. What becomes of the body is said in
    /// `suppressed_init`.
    pub fn finish_init_error(
        &mut self,
        payload: Bytes,
        content_type: HeaderValue,
        error_type: String,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.begin_init_error()?;
        if self.state == RuntimeState::Restoring {
            return self.finish_restore_error(payload, content_type, error_type, now);
        }
        self.state = RuntimeState::InitError;
        let cause = InitFailureCause::Posted { payload, content_type };
        self.fail_init(InitFailure { status: InvocationStatus::Error, error_type, cause }, now);
        self.expect_exit(now);
        Ok(())
    }

    pub(super) fn refuse(&self, to: RuntimeState) -> Refusal {
        Refusal::InvalidTransition { from: self.state, to }
    }

    pub(super) fn register<T>(&mut self, poller: u64, waker: &Waker) -> NextPoll<T> {
        match self.pollers.iter_mut().find(|(id, _)| *id == poller) {
            Some((_, registered)) => registered.clone_from(waker),
            None => self.pollers.push((poller, waker.clone())),
        }
        NextPoll::Pending
    }

    pub(super) fn forget_poller(&mut self, poller: u64) {
        self.pollers.retain(|(id, _)| *id != poller);
    }
}
