//! One request and its response over a connection that is made when it is needed and kept: what the clients of the
//! Runtime API and of the Extensions API have in common.

use std::fmt;
use std::io::{self, IoSlice};

use crate::error::{Call, Error, Refusal};
use crate::http1::{MAX_RESPONSE_BODY, MAX_RESPONSE_HEAD, ParseError, ResponseBuffer};
use crate::transport::{Connect, Interest, Transport, Wait};

/// A connection and the response at hand on it.
pub(crate) struct Exchange<C: Connect> {
    connector: C,
    connection: Option<Connection<C::Transport>>,
    /// What came last.
    pub responses: ResponseBuffer,
    /// Bytes of the request at hand that [`Self::send_ahead`] has sent.
    sent_ahead: usize,
}

struct Connection<T> {
    transport: T,
    /// It has carried a response before, so that a close is a server's right and no failure.
    kept_alive: bool,
    /// Sending failed; at most an answer that had come before can still be read.
    broken: bool,
}

/// Why a response did not come.
pub(crate) enum Failure {
    /// The connection closed before the first byte.
    Closed(Option<io::Error>),
    Error(Error),
}

impl<C: Connect> Exchange<C> {
    pub fn new(connector: C) -> Self {
        Self { connector, connection: None, responses: ResponseBuffer::new(), sent_ahead: 0 }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.connector.address()
    }

    /// One request and its response. `parts` are head, body and, where one is pipelined, the request behind it.
    pub fn run<W: Wait<C::Transport>>(
        &mut self,
        call: Call,
        parts: [&[u8]; 3],
        wait: &mut W,
    ) -> Result<(), Failure> {
        match self.send(parts, wait) {
            Ok(()) => self.read_response(call, wait),
            // The server may have answered before it closed, as with 413 to a body it did not want to read.
            Err(Failure::Closed(error)) => self.read_response(call, wait).map_err(|failure| match failure {
                Failure::Closed(_) => Failure::Closed(error),
                Failure::Error(error) => Failure::Error(error),
            }),
            Err(failure) => Err(failure),
        }
    }

    /// Send as much of a request as the kept connection takes without waiting; [`Self::send`], with the same parts,
    /// sends the rest.
    pub fn send_ahead(&mut self, parts: [&[u8]; 3]) {
        self.sent_ahead = 0;
        let Some(connection) = &mut self.connection else { return };
        let mut slices = parts.map(IoSlice::new);
        let mut parts = &mut slices[..];
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            // An error comes again when `send` goes on.
            let Ok(count @ 1..) = connection.transport.send(parts) else { break };
            IoSlice::advance_slices(&mut parts, count);
            self.sent_ahead += count;
        }
    }

    /// Whether a part of the request at hand has been sent already.
    pub fn is_ahead(&self) -> bool {
        self.sent_ahead > 0
    }

    /// Send a request on the kept connection or a new one. Parts as for [`Self::run`].
    pub fn send<W: Wait<C::Transport>>(&mut self, parts: [&[u8]; 3], wait: &mut W) -> Result<(), Failure> {
        self.responses.consume();
        self.connect()?;
        let answerable = parts[0].len() + parts[1].len();
        let sent = std::mem::take(&mut self.sent_ahead);
        self.send_all(&mut parts.map(IoSlice::new), sent, answerable, wait).map(drop)
    }

    /// Send a piece of a request whose end is not known yet, on the connection that [`Self::connect`] has made.
    /// `false`: the server has answered in the middle, and the answer is in [`Self::responses`]; the connection is of no
    /// further use.
    pub fn send_piece<W: Wait<C::Transport>>(
        &mut self,
        parts: [&[u8]; 4],
        wait: &mut W,
    ) -> Result<bool, Failure> {
        let all = parts.iter().map(|part| part.len()).sum();
        self.send_all(&mut parts.map(IoSlice::new), 0, all, wait)
    }

    /// Connect, unless there is a connection.
    pub fn connect(&mut self) -> Result<(), Failure> {
        if self.connection.is_none() {
            self.responses.clear();
            let transport = self.connector.connect().map_err(|source| {
                Failure::Error(Error::Connect { address: self.connector.address().to_owned(), source })
            })?;
            self.connection = Some(Connection { transport, kept_alive: false, broken: false });
        }
        Ok(())
    }

    /// Send `parts` but for the first `sent` bytes. `false`: the server answered before it had taken all. An answer is
    /// looked for up to `answerable` bytes; behind the first request there is nothing to be read early.
    fn send_all<W: Wait<C::Transport>>(
        &mut self,
        mut parts: &mut [IoSlice<'_>],
        mut sent: usize,
        answerable: usize,
        wait: &mut W,
    ) -> Result<bool, Failure> {
        let Some(connection) = &mut self.connection else { return Err(Failure::Closed(None)) };
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
                    // close.
                    let answer_may_come = sent < answerable;
                    let interest = if answer_may_come { Interest::Either } else { Interest::Writable };
                    wait.wait(transport, interest).map_err(|_| Failure::Error(Error::Interrupted))?;
                    if !answer_may_come {
                        continue;
                    }
                    match answered_early(&mut self.responses, transport) {
                        Ok(false) => {}
                        Ok(true) => {
                            connection.broken = true;
                            return Ok(false);
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
        Ok(true)
    }

    /// Look once, without waiting, whether the server has answered or closed. `true`: a whole response is there, or what
    /// is no response. Fails when it closed, with the reason if there is one, and where there is no connection.
    pub fn is_answered(&mut self) -> Result<bool, Option<io::Error>> {
        let Some(connection) = &mut self.connection else { return Err(None) };
        answered_early(&mut self.responses, &mut connection.transport)
    }

    /// Read until a response is complete.
    pub fn read_response<W: Wait<C::Transport>>(&mut self, call: Call, wait: &mut W) -> Result<(), Failure> {
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

    /// There is a connection.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// There is a connection, and it has carried a response before.
    pub fn is_kept_alive(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.kept_alive)
    }

    /// Drop the connection, and what came on it.
    pub fn disconnect(&mut self) {
        self.connection = None;
        self.sent_ahead = 0;
        self.responses.clear();
    }

    /// A response came: keep its connection, or drop it when the server will close it. `false`: dropped.
    pub fn settle(&mut self) -> bool {
        match &mut self.connection {
            Some(connection) if self.responses.keep_alive() && !connection.broken => {
                connection.kept_alive = true;
                true
            }
            _ => {
                self.connection = None;
                false
            }
        }
    }

    /// Status and words of the response at hand.
    pub fn refusal(&self) -> Refusal {
        let body = self.responses.body();
        Refusal {
            status: self.responses.status(),
            body: String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned(),
        }
    }
}

impl<C: Connect> fmt::Debug for Exchange<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("address", &self.address())
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Failure {
    pub fn into_error(self, call: Call) -> Error {
        match self {
            Self::Closed(None) => Error::NoAnswer { call },
            Self::Closed(Some(source)) => Error::Io { call, source },
            Self::Error(error) => error,
        }
    }
}

impl Refusal {
    /// The error for a status that `call` is not to get.
    pub(crate) fn into_error(self, call: Call) -> Error {
        match self.status {
            400..=499 => Error::Refused { call, refusal: self },
            500..=599 => Error::ServerError { call, refusal: self },
            _ => Error::UnexpectedStatus { call, refusal: self },
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
