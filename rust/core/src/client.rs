//! The calls of the Runtime API: four over one kept connection, and those of SnapStart around it. A response that is
//! sent while it is made is in [`stream`].

pub mod stream;

use crate::error::{Call, Error, Refusal};
use crate::exchange::{Exchange, Failure};
use crate::http1::RequestHead;
use crate::invocation::Invocation;
use crate::protocol;
use crate::transport::{Connect, Wait};
use stream::Stream;

/// What is sent for an invocation: its result or its error.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The invocation.
    pub request_id: &'a str,
    /// Echoed when the invocation had one.
    pub invocation_id: Option<&'a str>,
    /// The bytes for the invoker.
    pub body: &'a [u8],
    /// Result or error, with what each needs.
    pub kind: AnswerKind<'a>,
}

/// See [`Answer`].
#[derive(Debug, Clone, Copy)]
pub enum AnswerKind<'a> {
    /// `POST /runtime/invocation/<id>/response`
    Response {
        /// Passed on to the invoker.
        content_type: &'a str,
    },
    /// `POST /runtime/invocation/<id>/error`
    Error {
        /// `Category.Reason`, for the platform's log.
        error_type: &'a str,
        /// X-Ray's cause, ASCII JSON on one line.
        xray_cause: &'a str,
    },
}

impl AnswerKind<'_> {
    fn call(&self) -> Call {
        match self {
            Self::Response { .. } => Call::InvocationResponse,
            Self::Error { .. } => Call::InvocationError,
        }
    }
}

/// What became of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Posted {
    /// 2xx, or refused after a resend whose first copy may have been accepted.
    Accepted,
    /// 400, 403, 410 or 413: it is too late or too large. Worth a line in the log; the next invocation can be asked
    /// for (spec runtime-api 1.7).
    Refused(Refusal),
}

/// A client of the Runtime API. One invocation at a time, over one connection that is made when it is needed and
/// made again when the server closed it.
#[derive(Debug)]
pub struct Client<C: Connect> {
    exchange: Exchange<C>,
    user_agent: String,
    /// `GET /next`, which never changes.
    next_request: Vec<u8>,
    /// The head of the request at hand; kept for its memory.
    head: Vec<u8>,
    next: NextRequest,
    pipelining: bool,
    refused: Option<RefusedAnswer>,
    stream: Option<Stream>,
}

/// How far `GET /next` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextRequest {
    NotSent,
    /// Sent on this connection by itself, and not answered yet.
    Sent,
    /// Sent on this connection behind an answer, and not answered yet.
    Pipelined,
}

/// An answer that was refused, kept in case the server hands the same invocation out again.
#[derive(Debug)]
struct RefusedAnswer {
    request_id: String,
    invocation_id: Option<String>,
    call: Call,
    request: Vec<u8>,
}

impl<C: Connect> Client<C> {
    /// A client that is not connected yet. `user_agent` names the runtime in the platform's telemetry; its first word
    /// counts (spec runtime-api 1.9).
    pub fn new(connector: C, user_agent: impl Into<String>) -> Self {
        let user_agent = user_agent.into();
        let mut next_request = Vec::new();
        RequestHead::new(&mut next_request, "GET", &[protocol::NEXT_PATH])
            .header("Host", connector.address())
            .header("User-Agent", &user_agent)
            .end();
        Self {
            exchange: Exchange::new(connector),
            user_agent,
            next_request,
            head: Vec::new(),
            next: NextRequest::NotSent,
            pipelining: true,
            refused: None,
            stream: None,
        }
    }

    /// Send `GET /next` together with an answer from now on, or do not. A server that cannot do it turns it off too.
    pub fn set_pipelining(&mut self, on: bool) {
        self.pipelining = on;
    }

    /// Whether the next answer may carry `GET /next` with it.
    pub fn pipelining(&self) -> bool {
        self.pipelining
    }

    /// Send `GET /next` without waiting for its answer, which [`Self::next_invocation`] will read: time in which the
    /// caller can prepare for it.
    pub fn request_next<W: Wait<C::Transport>>(&mut self, wait: &mut W) -> Result<(), Error> {
        if self.next == NextRequest::NotSent {
            self.keep_in_step();
            let sent = self.exchange.send([&[], &[], &self.next_request], wait);
            if sent.is_err() {
                self.disconnect();
            }
            sent.map_err(|failure| failure.into_error(Call::NextInvocation))?;
            self.next = NextRequest::Sent;
        }
        Ok(())
    }

    /// Return the next invocation, waiting as long as it takes. Its event is [`Self::event`].
    ///
    /// An invocation whose answer was refused and that is handed out again is answered once more with the same bytes
    /// and not returned: its handler has run. A second refusal is an error.
    pub fn next_invocation<W: Wait<C::Transport>>(&mut self, wait: &mut W) -> Result<Invocation, Error> {
        loop {
            let invocation = self.poll(wait)?;
            match self.refused.take() {
                Some(refused)
                    if refused.request_id == invocation.request_id
                        && refused.invocation_id == invocation.invocation_id =>
                {
                    self.release_event();
                    match self.send_answer(refused.call, &refused.request, &[], false, wait)? {
                        Posted::Accepted => {}
                        Posted::Refused(refusal) => {
                            return Err(Error::Refused { call: refused.call, refusal });
                        }
                    }
                }
                _ => return Ok(invocation),
            }
        }
    }

    /// The event of the invocation that [`Self::next_invocation`] returned last.
    pub fn event(&self) -> &[u8] {
        self.exchange.responses.body()
    }

    /// Forget the event: it has been decoded. Gives the memory of a large one back.
    pub fn release_event(&mut self) {
        self.exchange.responses.consume();
    }

    /// Send as much of an answer as the kept connection takes without waiting: time in which the caller can tidy up
    /// while the server works. [`Self::post`], with the same arguments, sends the rest and does everything else.
    pub fn begin_post(&mut self, answer: &Answer<'_>, then_next: bool) {
        let mut head = std::mem::take(&mut self.head);
        self.write_head(&mut head, answer);
        self.drop_connection_out_of_step();
        let next: &[u8] = if then_next && self.pipelining { &self.next_request } else { &[] };
        self.exchange.send_ahead([&head, answer.body, next]);
        self.head = head;
    }

    /// Post an invocation's answer. With `then_next`, `GET /next` leaves in the same write where pipelining is on, and
    /// [`Self::next_invocation`] only has to read.
    pub fn post<W: Wait<C::Transport>>(
        &mut self,
        answer: &Answer<'_>,
        then_next: bool,
        wait: &mut W,
    ) -> Result<Posted, Error> {
        self.abandon_stream();
        let mut head = std::mem::take(&mut self.head);
        self.write_head(&mut head, answer);
        let call = answer.kind.call();
        let posted = self.send_answer(call, &head, answer.body, then_next, wait);
        if let Ok(Posted::Refused(_)) = &posted {
            self.refused = Some(RefusedAnswer {
                request_id: answer.request_id.to_owned(),
                invocation_id: answer.invocation_id.map(str::to_owned),
                call,
                request: [&head, answer.body].concat(),
            });
        }
        self.head = head;
        posted
    }

    /// Report that initialisation failed. `error_type` is `Category.Reason`, `body` the error document.
    pub fn post_initialization_error<W: Wait<C::Transport>>(
        &mut self,
        error_type: &str,
        body: &[u8],
        wait: &mut W,
    ) -> Result<Posted, Error> {
        self.report_error(Call::InitializationError, error_type, body, wait)
    }

    /// Say that initialisation is over, and wait as long as it takes until this process is to serve: with SnapStart
    /// the snapshot is taken meanwhile, and the call returns in every restored copy.
    ///
    /// It has a connection of its own, so that what follows begins with a fresh one. Whatever is not 200 is an error.
    pub fn restore_next<W: Wait<C::Transport>>(&mut self, wait: &mut W) -> Result<(), Error> {
        const CALL: Call = Call::RestoreNext;
        self.disconnect();
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        RequestHead::new(&mut head, "GET", &[protocol::RESTORE_NEXT_PATH])
            .header("Host", self.exchange.address())
            .header("User-Agent", &self.user_agent)
            .end();
        let outcome = self.exchange(CALL, &head, &[], false, wait);
        self.head = head;
        let restored = match outcome {
            Ok(()) if self.exchange.responses.status() == 200 => Ok(()),
            Ok(()) => Err(self.status_error(CALL)),
            Err(failure) => Err(failure.into_error(CALL)),
        };
        self.disconnect();
        restored
    }

    /// Report that a hook failed after the restore. Arguments as for [`Self::post_initialization_error`].
    pub fn post_restore_error<W: Wait<C::Transport>>(
        &mut self,
        error_type: &str,
        body: &[u8],
        wait: &mut W,
    ) -> Result<Posted, Error> {
        self.report_error(Call::RestoreError, error_type, body, wait)
    }

    /// Post an error that belongs to no invocation.
    fn report_error<W: Wait<C::Transport>>(
        &mut self,
        call: Call,
        error_type: &str,
        body: &[u8],
        wait: &mut W,
    ) -> Result<Posted, Error> {
        let path = match call {
            Call::RestoreError => protocol::RESTORE_ERROR_PATH,
            _ => protocol::INIT_ERROR_PATH,
        };
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        RequestHead::new(&mut head, "POST", &[path])
            .header("Host", self.exchange.address())
            .header("User-Agent", &self.user_agent)
            .header("Content-Type", "application/json")
            .header(protocol::FUNCTION_ERROR_TYPE, error_type)
            .header("Content-Length", &body.len().to_string())
            .end();
        let posted = self.send_answer(call, &head, body, false, wait);
        self.head = head;
        posted
    }

    fn write_head(&self, head: &mut Vec<u8>, answer: &Answer<'_>) {
        head.clear();
        let end = match answer.kind {
            AnswerKind::Response { .. } => "/response",
            AnswerKind::Error { .. } => "/error",
        };
        let mut request =
            RequestHead::new(head, "POST", &[protocol::INVOCATION_PREFIX, answer.request_id, end])
                .header("Host", self.exchange.address())
                .header("User-Agent", &self.user_agent);
        request = match answer.kind {
            AnswerKind::Response { content_type } => request.header("Content-Type", content_type),
            AnswerKind::Error { error_type, xray_cause } => {
                request = request
                    .header("Content-Type", "application/json")
                    .header(protocol::FUNCTION_ERROR_TYPE, error_type);
                match xray_cause {
                    "" => request,
                    cause => request.header(protocol::XRAY_ERROR_CAUSE, cause),
                }
            }
        };
        if let Some(id) = answer.invocation_id {
            request = request.header(protocol::INVOCATION_ID, id);
        }
        request.header("Content-Length", &answer.body.len().to_string()).end();
    }

    /// Ask for `/next` until it is answered with an invocation.
    fn poll<W: Wait<C::Transport>>(&mut self, wait: &mut W) -> Result<Invocation, Error> {
        const CALL: Call = Call::NextInvocation;
        let mut asked_again = false;
        loop {
            let request = std::mem::replace(&mut self.next, NextRequest::NotSent);
            let outcome = if request == NextRequest::NotSent {
                self.exchange(CALL, &[], &[], true, wait)
            } else {
                self.exchange.responses.consume();
                self.exchange.read_response(CALL, wait)
            };
            match outcome {
                Ok(()) => {}
                // A kept-alive connection was closed, perhaps while the environment was frozen, or after the answer
                // that the request followed. Asking again is safe: an event that was not answered is handed out again.
                Err(Failure::Closed(_)) if self.exchange.is_kept_alive() && !asked_again => {
                    asked_again = true;
                    self.disconnect();
                    continue;
                }
                Err(failure) => {
                    self.disconnect();
                    return Err(failure.into_error(CALL));
                }
            }
            match self.exchange.responses.status() {
                200 => {
                    let invocation = Invocation::from_response(&self.exchange.responses);
                    self.settle_connection();
                    return invocation;
                }
                403 if request == NextRequest::Pipelined => {
                    self.pipelining = false;
                    self.settle_connection();
                    self.exchange.responses.consume();
                }
                _ => return Err(self.status_error(CALL)),
            }
        }
    }

    /// Send an answer, and read what the server says to it.
    fn send_answer<W: Wait<C::Transport>>(
        &mut self,
        call: Call,
        head: &[u8],
        body: &[u8],
        then_next: bool,
        wait: &mut W,
    ) -> Result<Posted, Error> {
        self.keep_in_step();
        let mut with_next = then_next && self.pipelining;
        let mut resent = false;
        loop {
            match self.exchange(call, head, body, with_next, wait) {
                Ok(()) => break,
                // The server closed the kept connection, perhaps while the handler ran. It may have taken the answer
                // all the same; then the second copy is refused, which is told apart below.
                Err(Failure::Closed(_)) if self.exchange.is_kept_alive() && !resent => {
                    resent = true;
                    with_next = false;
                    self.disconnect();
                }
                Err(failure) => {
                    self.disconnect();
                    return Err(failure.into_error(call));
                }
            }
        }
        let posted = self.posted(call, resent)?;
        if with_next && self.exchange.is_connected() {
            self.next = NextRequest::Pipelined;
        }
        Ok(posted)
    }

    /// What the server said to an answer, in the response at hand.
    fn posted(&mut self, call: Call, resent: bool) -> Result<Posted, Error> {
        let status = self.exchange.responses.status();
        if status == 200 && self.exchange.responses.is_invocation() {
            self.disconnect();
            return Err(Error::OutOfStep { call });
        }
        let posted = match status {
            200..=299 => Posted::Accepted,
            400 | 403 if resent => Posted::Accepted,
            400 | 403 | 410 | 413 => Posted::Refused(self.exchange.refusal()),
            _ => return Err(self.status_error(call)),
        };
        self.settle_connection();
        self.exchange.responses.consume();
        Ok(posted)
    }

    /// One request, with `GET /next` behind it if `with_next`, and the first response.
    fn exchange<W: Wait<C::Transport>>(
        &mut self,
        call: Call,
        head: &[u8],
        body: &[u8],
        with_next: bool,
        wait: &mut W,
    ) -> Result<(), Failure> {
        self.keep_in_step();
        let next: &[u8] = if with_next { &self.next_request } else { &[] };
        self.exchange.run(call, [head, body, next], wait)
    }

    /// Bytes that nobody asked for are on the connection: what comes next could be taken for the answer to the wrong
    /// request. A new connection begins afresh, and without pipelining, where this can always be told.
    fn drop_connection_out_of_step(&mut self) {
        self.exchange.responses.consume();
        if self.exchange.responses.has_started() {
            self.disconnect();
            self.pipelining = false;
        }
    }

    /// The same, unless a part of the request at hand is on the connection already.
    fn keep_in_step(&mut self) {
        if !self.exchange.is_ahead() {
            self.drop_connection_out_of_step();
        }
    }

    fn disconnect(&mut self) {
        self.exchange.disconnect();
        self.next = NextRequest::NotSent;
    }

    /// A response came: keep its connection, or drop it when the server will close it.
    fn settle_connection(&mut self) {
        if !self.exchange.settle() {
            self.pipelining = false;
        }
    }

    /// The error for a status that ends the conversation.
    fn status_error(&mut self, call: Call) -> Error {
        let refusal = self.exchange.refusal();
        self.disconnect();
        refusal.into_error(call)
    }
}

#[cfg(test)]
mod tests;
