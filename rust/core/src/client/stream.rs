//! A response that is sent while it is made (spec runtime-api 2): a chunked request whose pieces leave as they come, and
//! whose trailers may say that it ended badly.

use std::fmt::Write as _;
use std::io;

use super::{Client, Posted};
use crate::error::{Call, Error};
use crate::exchange::Failure;
use crate::http1::RequestHead;
use crate::protocol;
use crate::transport::{Connect, Wait};

const CALL: Call = Call::InvocationResponse;

/// What the head of a streamed response says.
#[derive(Debug, Clone, Copy)]
pub struct StreamHead<'a> {
    /// The invocation.
    pub request_id: &'a str,
    /// Echoed when the invocation had one.
    pub invocation_id: Option<&'a str>,
    /// Passed on to the invoker.
    pub content_type: &'a str,
}

/// How a stream ended badly: the trailers.
#[derive(Debug, Clone, Copy)]
pub struct StreamError<'a> {
    /// `Category.Reason` or the exception's name.
    pub error_type: &'a str,
    /// The error document in base64.
    pub document: &'a str,
}

/// Whether it makes sense to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// The server takes more.
    Open,
    /// The server has answered before the end, or is gone: it wants no more. [`Client::end_stream`] tells what it said.
    Over,
}

/// How far the stream at hand is.
#[derive(Debug)]
pub(super) enum Stream {
    /// The head waits for the first piece.
    Begun,
    /// Bytes have been sent.
    Sent,
    /// The answer is in the exchange, or will never come, with the reason if there is one.
    Over(Result<(), Option<io::Error>>),
}

impl<C: Connect> Client<C> {
    /// Begin to stream a response. Nothing is sent before the first [`Self::send_chunk`], so that until then an error can
    /// be posted instead: a stream that was begun is forgotten when something else is posted.
    pub fn begin_stream(&mut self, head: &StreamHead<'_>) {
        self.head.clear();
        let mut request = RequestHead::new(
            &mut self.head,
            "POST",
            &[protocol::INVOCATION_PREFIX, head.request_id, "/response"],
        )
        .header("Host", self.exchange.address())
        .header("User-Agent", &self.user_agent)
        .header("Content-Type", head.content_type)
        .header(protocol::RESPONSE_MODE, "streaming");
        if let Some(id) = head.invocation_id {
            request = request.header(protocol::INVOCATION_ID, id);
        }
        request.header("Transfer-Encoding", "chunked").header("Trailer", protocol::STREAM_TRAILERS).end();
        self.stream = Some(Stream::Begun);
    }

    /// Send a piece of the stream, in one write with its framing, and the first one with the head. Waits until the
    /// connection has taken all of it, which is how a slow reader slows the function down.
    ///
    /// An empty piece sends the head if that has not left yet, and nothing otherwise. Fails with
    /// [`Error::Interrupted`] when the wait was given up: the stream is then broken off.
    pub fn send_chunk<W: Wait<C::Transport>>(&mut self, chunk: &[u8], wait: &mut W) -> Result<Flow, Error> {
        let mut size = String::new();
        let end: &[u8] = if chunk.is_empty() { b"" } else { b"\r\n" };
        if !chunk.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(size, "{:x}\r\n", chunk.len());
        }
        self.send_stream([size.as_bytes(), chunk, end], wait)
    }

    /// End the stream, badly if there is an `error`, and read what the server says to it. [`Posted::Refused`] also when
    /// it said so before the end.
    ///
    /// Fails with [`Error::NoAnswer`] or [`Error::Io`] where the server has closed the connection: what of the stream
    /// reached the invoker is not known then.
    pub fn end_stream<W: Wait<C::Transport>>(
        &mut self,
        error: Option<&StreamError<'_>>,
        wait: &mut W,
    ) -> Result<Posted, Error> {
        let mut end = b"0\r\n".to_vec();
        let mut trailers = RequestHead::trailers(&mut end);
        if let Some(error) = error {
            trailers = trailers
                .header(protocol::FUNCTION_ERROR_TYPE, error.error_type)
                .header(protocol::FUNCTION_ERROR_BODY, error.document);
        }
        trailers.end();
        let early = self.send_stream([&end, &[], &[]], wait)? == Flow::Over;
        let outcome = match self.stream.take() {
            Some(Stream::Over(Ok(()))) => Ok(()),
            Some(Stream::Over(Err(error))) => Err(Failure::Closed(error)),
            _ => self.exchange.read_response(CALL, wait),
        };
        if let Err(failure) = outcome {
            self.disconnect();
            return Err(failure.into_error(CALL));
        }
        let posted = self.posted(CALL, false);
        if early {
            // What is missing of the request will not be sent: nothing else can be on this connection.
            self.disconnect();
        }
        posted
    }

    /// Break the stream off: the server sees the connection end in the middle, and the invoker a truncated response.
    pub fn abandon_stream(&mut self) {
        if !matches!(self.stream.take(), None | Some(Stream::Begun)) {
            self.disconnect();
        }
    }

    fn send_stream<W: Wait<C::Transport>>(&mut self, parts: [&[u8]; 3], wait: &mut W) -> Result<Flow, Error> {
        let begins = match self.stream {
            Some(Stream::Begun) => true,
            Some(Stream::Sent) => false,
            // With `None` it was abandoned, or something else was posted.
            Some(Stream::Over(_)) | None => return Ok(Flow::Over),
        };
        if begins {
            self.connect_for_stream()?;
        }
        let end = match self.write_stream(parts, begins, wait) {
            Ok(Flow::Open) => {
                self.stream = Some(Stream::Sent);
                return Ok(Flow::Open);
            }
            Ok(Flow::Over) => Ok(()),
            Err(Failure::Closed(error)) => Err(error),
            Err(Failure::Error(error)) => {
                self.stream = None;
                self.disconnect();
                return Err(error);
            }
        };
        self.stream = Some(Stream::Over(end));
        Ok(Flow::Over)
    }

    /// `Flow::Over`: an answer is in the exchange.
    fn write_stream<W: Wait<C::Transport>>(
        &mut self,
        parts: [&[u8]; 3],
        begins: bool,
        wait: &mut W,
    ) -> Result<Flow, Failure> {
        // Where the stream begins this has been looked at.
        if !begins && self.exchange.is_answered().map_err(Failure::Closed)? {
            return Ok(Flow::Over);
        }
        let head: &[u8] = if begins { &self.head } else { &[] };
        match self.exchange.send_piece([head, parts[0], parts[1], parts[2]], wait) {
            Ok(true) => Ok(Flow::Open),
            Ok(false) => Ok(Flow::Over),
            // It may have answered before it closed, as with 413.
            Err(Failure::Closed(error)) => match self.exchange.read_response(CALL, wait) {
                Ok(()) => Ok(Flow::Over),
                Err(_) => Err(Failure::Closed(error)),
            },
            Err(failure) => Err(failure),
        }
    }

    /// A connection for the first bytes. A kept one that the server has closed meanwhile, perhaps while the environment
    /// was frozen, is replaced now: a stream's bytes are not kept, so it cannot be sent again later.
    fn connect_for_stream(&mut self) -> Result<(), Error> {
        self.drop_connection_out_of_step();
        if self.exchange.is_connected() && !matches!(self.exchange.is_answered(), Ok(false)) {
            self.disconnect();
        }
        self.drop_connection_out_of_step();
        self.exchange.connect().map_err(|failure| failure.into_error(CALL))
    }
}

#[cfg(test)]
mod tests;
