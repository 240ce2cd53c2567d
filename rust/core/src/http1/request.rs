//! HTTP/1.1 requests without a socket, as [`super::ResponseBuffer`] reads responses.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::{Fields, Framing, Head, MAX_HEADERS, MAX_RESPONSE_HEAD, ParseError, ResponseBuffer, describe};

/// Receives requests, one after the other, from one connection.
#[derive(Debug)]
pub struct RequestBuffer {
    /// What follows a head is the same in both directions: a request lies where a response would.
    message: ResponseBuffer,
    max_body: usize,
    method: Range<usize>,
    /// The client sends the body only when it is told to.
    expects_continue: bool,
}

impl RequestBuffer {
    /// An empty buffer for requests with bodies of up to `max_body` bytes.
    pub fn new(max_body: usize) -> Self {
        Self { message: ResponseBuffer::new(), max_body, method: 0..0, expects_continue: false }
    }

    /// See [`ResponseBuffer::receive`].
    pub fn receive<E>(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        self.message.receive(read)
    }

    /// See [`ResponseBuffer::push`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.message.push(bytes);
    }

    /// Bytes of a request are there.
    pub fn has_started(&self) -> bool {
        self.message.has_started()
    }

    /// Look at what has arrived. `true`: a request is complete and can be read with the accessors below.
    pub fn advance(&mut self) -> Result<bool, ParseError> {
        if self.message.head.is_none() && !self.parse_head()? {
            return Ok(false);
        }
        let complete = self.message.advance_body()?;
        if self.message.body.len() > self.max_body {
            return Err(ParseError::BodyTooLarge);
        }
        Ok(complete)
    }

    /// `GET`, `POST` and so on.
    pub fn method(&self) -> &[u8] {
        &self.message.memory[self.method.clone()]
    }

    /// The decoded body.
    pub fn body(&self) -> &[u8] {
        self.message.body()
    }

    /// Whether the client keeps the connection open after this request.
    pub fn keep_alive(&self) -> bool {
        self.message.keep_alive()
    }

    /// Whether the client waits for `100 Continue` now. Says so once.
    pub fn take_expectation(&mut self) -> bool {
        let body_has_begun = !self.message.body.is_empty() || self.message.filled > self.message.raw;
        std::mem::take(&mut self.expects_continue) && !body_has_begun
    }

    /// Done with the complete request at hand: forget it and keep what follows it.
    pub fn consume(&mut self) {
        self.message.consume();
    }

    fn parse_head(&mut self) -> Result<bool, ParseError> {
        let start = self.message.start;
        let bytes = &self.message.memory[start..self.message.filled];
        let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(bytes, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_RESPONSE_HEAD => length,
            Ok(httparse::Status::Partial) if bytes.len() <= MAX_RESPONSE_HEAD => return Ok(false),
            Ok(_) => return Err(ParseError::HeadTooLarge),
            Err(error) => return Err(ParseError::NotHttp(describe(error))),
        };
        let http_10 = request.version == Some(0);
        let offset = |part: &[u8]| {
            let begin = start + (part.as_ptr() as usize - bytes.as_ptr() as usize);
            begin..begin + part.len()
        };
        let method = offset(request.method.unwrap_or_default().as_bytes());
        let fields_read = Fields::read(request.headers, http_10, offset)?;
        let expects_continue = request.headers.iter().any(|field| {
            field.name.eq_ignore_ascii_case("expect")
                && field.value.trim_ascii().eq_ignore_ascii_case(b"100-continue")
        });
        // A request of which no field speaks of a body has none (RFC 9112 section 6.3).
        let framing = fields_read.framing.unwrap_or(Framing::Length(0));
        if matches!(framing, Framing::Length(length) if length > self.max_body) {
            return Err(ParseError::BodyTooLarge);
        }
        self.method = method;
        self.expects_continue = expects_continue;
        let Fields { keep_alive, headers, .. } = fields_read;
        self.message.begin_body(start + length, Head { status: 0, keep_alive, framing, headers });
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(buffer: &mut RequestBuffer, bytes: &[u8]) -> Result<bool, ParseError> {
        buffer.push(bytes);
        buffer.advance()
    }

    #[test]
    fn requests_are_read_one_after_the_other() {
        let mut buffer = RequestBuffer::new(100);
        let two = b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(complete(&mut buffer, two), Ok(true));
        assert_eq!((buffer.method(), buffer.body(), buffer.keep_alive()), (&b"POST"[..], &b"[]"[..], true));
        buffer.consume();
        assert_eq!(complete(&mut buffer, b""), Ok(false));
        assert!(buffer.has_started());
        assert_eq!(complete(&mut buffer, b"1\r\n[\r\n1;x=y\r\n]\r\n0\r\n\r\n"), Ok(true));
        assert_eq!((buffer.method(), buffer.body()), (&b"PUT"[..], &b"[]"[..]));
        buffer.consume();
        assert!(!buffer.has_started());
    }

    #[test]
    fn a_request_can_be_cut_anywhere() {
        for request in [
            &b"POST /telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"[..],
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n1\r\ny\r\n0\r\nA: b\r\n\r\n",
        ] {
            for cut in 0..request.len() {
                let mut buffer = RequestBuffer::new(4);
                assert_eq!(complete(&mut buffer, &request[..cut]), Ok(false), "cut at {cut}");
                assert_eq!(complete(&mut buffer, &request[cut..]), Ok(true), "cut at {cut}");
                assert_eq!(buffer.body(), b"body");
            }
        }
    }

    #[test]
    fn a_request_without_a_length_has_no_body() {
        let mut buffer = RequestBuffer::new(4);
        assert_eq!(complete(&mut buffer, b"GET / HTTP/1.0\r\n\r\n"), Ok(true));
        assert_eq!((buffer.body(), buffer.keep_alive()), (&b""[..], false));
    }

    #[test]
    fn a_body_above_the_limit_is_refused_before_it_is_read() {
        let mut buffer = RequestBuffer::new(4);
        let head = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(complete(&mut buffer, head), Err(ParseError::BodyTooLarge));
        let mut buffer = RequestBuffer::new(4);
        let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n12345";
        assert_eq!(complete(&mut buffer, head), Err(ParseError::BodyTooLarge));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bytes in [
            &b"\x16\x03\x01\x02\x00\x01"[..],
            b"POST / HTTP/9.9\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            let mut buffer = RequestBuffer::new(4);
            assert!(matches!(complete(&mut buffer, bytes), Err(ParseError::NotHttp(_))), "{bytes:?}");
        }
        let mut buffer = RequestBuffer::new(4);
        let endless = [b"POST / HTTP/1.1\r\nA: ".as_slice(), &vec![b'x'; MAX_RESPONSE_HEAD]].concat();
        assert_eq!(complete(&mut buffer, &endless), Err(ParseError::HeadTooLarge));
    }

    #[test]
    fn a_client_that_waits_to_be_told_is_noticed_once() {
        let mut buffer = RequestBuffer::new(4);
        let head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(complete(&mut buffer, head), Ok(false));
        assert!(buffer.take_expectation());
        assert!(!buffer.take_expectation());
        let mut buffer = RequestBuffer::new(4);
        buffer.push(head);
        assert_eq!(complete(&mut buffer, b"[]"), Ok(true));
        assert!(!buffer.take_expectation(), "it did not wait");
    }
}
