//! The calls of the Runtime API: four over one kept connection, and those of SnapStart around it.

use std::io::{self, IoSlice};

use crate::error::{Call, Error, Refusal};
use crate::http1::{MAX_RESPONSE_BODY, MAX_RESPONSE_HEAD, ParseError, RequestHead, ResponseBuffer};
use crate::invocation::Invocation;
use crate::protocol;
use crate::transport::{Connect, Interest, Transport, Wait};

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
    connector: C,
    connection: Option<Connection<C::Transport>>,
    responses: ResponseBuffer,
    user_agent: String,
    /// `GET /next`, which never changes.
    next_request: Vec<u8>,
    /// The head of the request at hand; kept for its memory.
    head: Vec<u8>,
    next: NextRequest,
    /// Bytes of the request at hand that [`Self::begin_post`] has sent.
    sent_ahead: usize,
    pipelining: bool,
    refused: Option<RefusedAnswer>,
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

#[derive(Debug)]
struct Connection<T> {
    transport: T,
    /// It has carried a response before, so that a close is a server's right and no failure.
    kept_alive: bool,
    /// Sending failed; at most an answer that had come before can still be read.
    broken: bool,
}

/// An answer that was refused, kept in case the server hands the same invocation out again.
#[derive(Debug)]
struct RefusedAnswer {
    request_id: String,
    invocation_id: Option<String>,
    call: Call,
    request: Vec<u8>,
}

/// Why a response did not come.
enum Failure {
    /// The connection closed before the first byte.
    Closed(Option<io::Error>),
    Error(Error),
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
            connector,
            connection: None,
            responses: ResponseBuffer::new(),
            user_agent,
            next_request,
            head: Vec::new(),
            next: NextRequest::NotSent,
            sent_ahead: 0,
            pipelining: true,
            refused: None,
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
            let sent = self.send_request(&[], &[], true, wait);
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
        self.responses.body()
    }

    /// Forget the event: it has been decoded. Gives the memory of a large one back.
    pub fn release_event(&mut self) {
        self.responses.consume();
    }

    /// Send as much of an answer as the kept connection takes without waiting: time in which the caller can tidy up
    /// while the server works. [`Self::post`], with the same arguments, sends the rest and does everything else.
    pub fn begin_post(&mut self, answer: &Answer<'_>, then_next: bool) {
        let mut head = std::mem::take(&mut self.head);
        self.write_head(&mut head, answer);
        self.drop_connection_out_of_step();
        let next: &[u8] = if then_next && self.pipelining { &self.next_request } else { &[] };
        let mut slices = [IoSlice::new(&head), IoSlice::new(answer.body), IoSlice::new(next)];
        let mut parts = &mut slices[..];
        self.sent_ahead = 0;
        if let Some(connection) = &mut self.connection {
            IoSlice::advance_slices(&mut parts, 0);
            while !parts.is_empty() {
                // An error comes again when `post` goes on.
                let Ok(count @ 1..) = connection.transport.send(parts) else { break };
                IoSlice::advance_slices(&mut parts, count);
                self.sent_ahead += count;
            }
        }
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
            .header("Host", self.connector.address())
            .header("User-Agent", &self.user_agent)
            .end();
        let outcome = self.exchange(CALL, &head, &[], false, wait);
        self.head = head;
        let restored = match outcome {
            Ok(()) if self.responses.status() == 200 => Ok(()),
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
            .header("Host", self.connector.address())
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
                .header("Host", self.connector.address())
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
                self.responses.consume();
                self.read_response(CALL, wait)
            };
            match outcome {
                Ok(()) => {}
                // A kept-alive connection was closed, perhaps while the environment was frozen, or after the answer
                // that the request followed. Asking again is safe: an event that was not answered is handed out again.
                Err(Failure::Closed(_)) if self.kept_alive() && !asked_again => {
                    asked_again = true;
                    self.disconnect();
                    continue;
                }
                Err(failure) => {
                    self.disconnect();
                    return Err(failure.into_error(CALL));
                }
            }
            match self.responses.status() {
                200 => {
                    let invocation = Invocation::from_response(&self.responses);
                    self.settle_connection();
                    return invocation;
                }
                403 if request == NextRequest::Pipelined => {
                    self.pipelining = false;
                    self.settle_connection();
                    self.responses.consume();
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
        if self.sent_ahead == 0 {
            self.drop_connection_out_of_step();
        }
        let mut with_next = then_next && self.pipelining;
        let mut resent = false;
        loop {
            match self.exchange(call, head, body, with_next, wait) {
                Ok(()) => break,
                // The server closed the kept connection, perhaps while the handler ran. It may have taken the answer
                // all the same; then the second copy is refused, which is told apart below.
                Err(Failure::Closed(_)) if self.kept_alive() && !resent => {
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
        let status = self.responses.status();
        if status == 200 && self.responses.is_invocation() {
            self.disconnect();
            return Err(Error::OutOfStep { call });
        }
        let posted = match status {
            200..=299 => Posted::Accepted,
            400 | 403 if resent => Posted::Accepted,
            400 | 403 | 410 | 413 => Posted::Refused(self.refusal()),
            _ => return Err(self.status_error(call)),
        };
        self.settle_connection();
        self.responses.consume();
        if with_next && self.connection.is_some() {
            self.next = NextRequest::Pipelined;
        }
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
        match self.send_request(head, body, with_next, wait) {
            Ok(()) => self.read_response(call, wait),
            // The server may have answered before it closed, as with 413 to a body it did not want to read.
            Err(Failure::Closed(error)) => self.read_response(call, wait).map_err(|failure| match failure {
                Failure::Closed(_) => Failure::Closed(error),
                Failure::Error(error) => Failure::Error(error),
            }),
            Err(failure) => Err(failure),
        }
    }

    /// Send a request on the kept connection or a new one.
    fn send_request<W: Wait<C::Transport>>(
        &mut self,
        head: &[u8],
        body: &[u8],
        with_next: bool,
        wait: &mut W,
    ) -> Result<(), Failure> {
        self.responses.consume();
        if self.sent_ahead == 0 {
            self.drop_connection_out_of_step();
        }
        let connection = if let Some(connection) = &mut self.connection {
            connection
        } else {
            self.responses.clear();
            let transport = self.connector.connect().map_err(|source| {
                Failure::Error(Error::Connect { address: self.connector.address().to_owned(), source })
            })?;
            self.connection.insert(Connection { transport, kept_alive: false, broken: false })
        };
        let next: &[u8] = if with_next { &self.next_request } else { &[] };
        let mut slices = [IoSlice::new(head), IoSlice::new(body), IoSlice::new(next)];
        let mut parts = &mut slices[..];
        let mut sent = std::mem::take(&mut self.sent_ahead);
        IoSlice::advance_slices(&mut parts, sent);
        let transport = &mut connection.transport;
        while !parts.is_empty() {
            match transport.send(parts) {
                Ok(count @ 1..) => {
                    IoSlice::advance_slices(&mut parts, count);
                    sent += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A server may answer a request of which it has read enough, and then neither read the rest nor
                    // close. Behind the first request there is nothing to be read early.
                    let answer_may_come = sent < head.len() + body.len();
                    let interest = if answer_may_come { Interest::Either } else { Interest::Writable };
                    wait.wait(transport, interest).map_err(|_| Failure::Error(Error::Interrupted))?;
                    if !answer_may_come {
                        continue;
                    }
                    match answered_early(&mut self.responses, transport) {
                        Ok(false) => {}
                        Ok(true) => {
                            connection.broken = true;
                            return Ok(());
                        }
                        Err(error) => {
                            connection.broken = true;
                            return Err(Failure::Closed(error));
                        }
                    }
                }
                outcome => {
                    connection.broken = true;
                    return Err(Failure::Closed(outcome.err()));
                }
            }
        }
        Ok(())
    }

    /// Bytes that nobody asked for are on the connection: what comes next could be taken for the answer to the wrong
    /// request. A new connection begins afresh, and without pipelining, where this can always be told.
    fn drop_connection_out_of_step(&mut self) {
        self.responses.consume();
        if self.responses.has_started() {
            self.disconnect();
            self.pipelining = false;
        }
    }

    /// Read until a response is complete.
    fn read_response<W: Wait<C::Transport>>(&mut self, call: Call, wait: &mut W) -> Result<(), Failure> {
        loop {
            if self.responses.advance().map_err(|error| self.parse_failure(call, error))? {
                return Ok(());
            }
            let Some(connection) = &mut self.connection else { return Err(Failure::Closed(None)) };
            if wait.wait(&connection.transport, Interest::Readable).is_err() {
                return Err(Failure::Error(Error::Interrupted));
            }
            let transport = &mut connection.transport;
            match self.responses.receive(|space| transport.receive(space)) {
                Ok(0) if !self.responses.has_started() => return Err(Failure::Closed(None)),
                Ok(0) => {
                    self.responses.close().map_err(|error| self.parse_failure(call, error))?;
                    return Ok(());
                }
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) if !self.responses.has_started() => return Err(Failure::Closed(Some(error))),
                Err(source) => return Err(Failure::Error(Error::Io { call, source })),
            }
        }
    }

    fn parse_failure(&self, call: Call, error: ParseError) -> Failure {
        Failure::Error(match error {
            ParseError::NotHttp(reason) => Error::NotHttp { call, reason, start: self.responses.beginning() },
            ParseError::HeadTooLarge => Error::HeadTooLarge { call, limit: MAX_RESPONSE_HEAD },
            ParseError::BodyTooLarge => Error::BodyTooLarge { call, limit: MAX_RESPONSE_BODY },
            ParseError::EndedEarly { received, expected } => Error::EndedEarly { call, received, expected },
        })
    }

    fn kept_alive(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.kept_alive)
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.next = NextRequest::NotSent;
        self.sent_ahead = 0;
        self.responses.clear();
    }

    /// A response came: keep its connection, or drop it when the server will close it.
    fn settle_connection(&mut self) {
        match &mut self.connection {
            Some(connection) if self.responses.keep_alive() && !connection.broken => {
                connection.kept_alive = true;
            }
            _ => {
                self.connection = None;
                self.pipelining = false;
            }
        }
    }

    fn refusal(&self) -> Refusal {
        let body = self.responses.body();
        Refusal {
            status: self.responses.status(),
            body: String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned(),
        }
    }

    /// The error for a status that ends the conversation.
    fn status_error(&mut self, call: Call) -> Error {
        let refusal = self.refusal();
        self.disconnect();
        match refusal.status {
            400..=499 => Error::Refused { call, refusal },
            500..=599 => Error::ServerError { call, refusal },
            _ => Error::UnexpectedStatus { call, refusal },
        }
    }
}

impl Failure {
    fn into_error(self, call: Call) -> Error {
        match self {
            Self::Closed(None) => Error::NoAnswer { call },
            Self::Closed(Some(source)) => Error::Io { call, source },
            Self::Error(error) => error,
        }
    }
}

/// Receive once without waiting. `true`: a whole response is there, or what is no response. Fails when the server
/// closed, with the reason if there is one.
fn answered_early<T: Transport>(
    responses: &mut ResponseBuffer,
    transport: &mut T,
) -> Result<bool, Option<io::Error>> {
    match responses.receive(|space| transport.receive(space)) {
        Ok(0) => Err(None),
        Ok(_) => Ok(!matches!(responses.advance(), Ok(false))),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(false)
        }
        Err(error) => Err(Some(error)),
    }
}

#[cfg(test)]
mod tests;
