//! HTTP/1.1 responses without a socket: bytes go in, and either more are wanted, or a response is there, or the
//! bytes are wrong. Request heads are written here too; requests are read in [`request`].
//!
//! A response stays where it was received: head and body lie next to each other in [`ResponseBuffer`], chunks are
//! moved together in place, and whatever follows the response (the answer to a pipelined request) is kept.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;

pub mod request;

/// Longest head (interim responses, status line, headers; and by itself the trailers of a chunked body) that is
/// accepted, in bytes.
pub const MAX_RESPONSE_HEAD: usize = 64 * 1024;
/// Longest body that is accepted, in bytes. Events are at most 6 MiB; the rest is room for what AWS may allow.
pub const MAX_RESPONSE_BODY: usize = 256 * 1024 * 1024;
/// Most header fields in one head.
const MAX_HEADERS: usize = 128;
/// What one read asks for when the size of what comes is not known.
const READ_SIZE: usize = 16 * 1024;
/// Never reserve more than this on a header's word alone.
const MAX_RESERVE: usize = 8 * 1024 * 1024;
/// What the size lines of a body's chunks may take together, in bytes, beside the body itself: enough for any event in
/// chunks of a few bytes, and an end to extensions without one.
const MAX_CHUNK_OVERHEAD: usize = 64 * 1024 * 1024;
/// Capacity that is kept between responses; more is given back, so that one large event does not stay resident.
const KEEP_CAPACITY: usize = 256 * 1024;

/// Why bytes are no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// Status line or headers are malformed; the text says how.
    NotHttp(&'static str),
    /// See [`MAX_RESPONSE_HEAD`].
    HeadTooLarge,
    /// See [`MAX_RESPONSE_BODY`].
    BodyTooLarge,
    /// The connection closed after so many body bytes, with so many announced.
    EndedEarly {
        /// Body bytes that arrived.
        received: usize,
        /// Announced length, if it was.
        expected: Option<u64>,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp(reason) => f.write_str(reason),
            Self::HeadTooLarge => f.write_str("head too large"),
            Self::BodyTooLarge => f.write_str("body too large"),
            Self::EndedEarly { .. } => f.write_str("ended early"),
        }
    }
}

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked(ChunkState),
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    /// At the start of a chunk's size line.
    Size,
    /// So many bytes of the chunk are missing.
    Data(usize),
    /// At the line end that closes a chunk.
    DataEnd,
    /// In the trailer section.
    Trailer,
}

/// A response whose head has been read.
#[derive(Debug)]
struct Head {
    status: u16,
    keep_alive: bool,
    framing: Framing,
    /// Name and value of each field, as ranges of the buffer.
    headers: Vec<(Range<usize>, Range<usize>)>,
}

/// Receives responses, one after the other, from one connection.
#[derive(Debug, Default)]
pub struct ResponseBuffer {
    /// Initialised memory: what was received, then free space. Zeroed once when it grows, not at every read.
    memory: Vec<u8>,
    /// So much of it was received.
    filled: usize,
    /// Where the response at hand begins.
    start: usize,
    /// How long the interim responses are that were skipped on the way to it.
    interim: usize,
    head: Option<Head>,
    /// The decoded body so far.
    body: Range<usize>,
    /// Bytes from here on are not looked at yet. Equal to `body.end` unless chunks were moved together.
    raw: usize,
    complete: bool,
}

impl ResponseBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Receive once: `read` gets free space and says how much of it it filled. The space is sized to the rest of
    /// the body when that is known, so that a large event arrives in few reads and is never copied.
    pub fn receive<E>(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        let wanted = match &self.head {
            Some(Head { framing: Framing::Length(length), .. }) => {
                (self.body.start + length).saturating_sub(self.filled).clamp(1, MAX_RESERVE)
            }
            // Chunks and bodies of unknown length: double, so that megabytes do not come 16 kB at a time.
            Some(_) => self.filled.clamp(READ_SIZE, MAX_RESERVE),
            // After a large event there is room for another in one read.
            None => READ_SIZE.max(self.memory.len().saturating_sub(self.filled)),
        };
        let end = self.filled + wanted;
        if end > self.memory.len() {
            self.memory.resize(end, 0);
        }
        let count = read(&mut self.memory[self.filled..end])?.min(wanted);
        self.filled += count;
        Ok(count)
    }

    /// Append bytes; what tests and fuzzers do instead of a read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.memory.truncate(self.filled);
        self.memory.extend_from_slice(bytes);
        self.filled = self.memory.len();
    }

    /// Bytes of a response are there (so a close now would be in the middle of it).
    pub fn has_started(&self) -> bool {
        self.filled > self.start
    }

    /// Look at what has arrived. `true`: a response is complete and can be read with the accessors below.
    pub fn advance(&mut self) -> Result<bool, ParseError> {
        if self.complete {
            return Ok(true);
        }
        while self.head.is_none() {
            if !self.parse_head()? {
                return Ok(false);
            }
        }
        self.advance_body()
    }

    /// The connection was closed. `true`: that completed a response whose body ends so.
    pub fn close(&mut self) -> Result<bool, ParseError> {
        match &self.head {
            Some(head) if head.framing == Framing::UntilClose => {
                self.complete = true;
                Ok(true)
            }
            Some(head) => Err(ParseError::EndedEarly {
                received: self.body.len(),
                expected: match head.framing {
                    Framing::Length(length) => Some(length as u64),
                    _ => None,
                },
            }),
            None => Err(ParseError::EndedEarly { received: 0, expected: None }),
        }
    }

    /// The status of the response at hand; 0 before its head is there.
    pub fn status(&self) -> u16 {
        self.head.as_ref().map_or(0, |head| head.status)
    }

    /// Whether the server keeps the connection open after this response.
    pub fn keep_alive(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.keep_alive)
    }

    /// Name and value of every header field, in the order they came.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.head
            .iter()
            .flat_map(|head| &head.headers)
            .map(|(name, value)| (&self.memory[name.clone()], &self.memory[value.clone()]))
    }

    /// It carries an invocation, as only an answer to `/next` does.
    pub(crate) fn is_invocation(&self) -> bool {
        self.headers().any(|(name, _)| name.eq_ignore_ascii_case(crate::protocol::AWS_REQUEST_ID.as_bytes()))
    }

    /// The decoded body.
    pub fn body(&self) -> &[u8] {
        &self.memory[self.body.clone()]
    }

    /// The beginning of what came, for an error message.
    pub fn beginning(&self) -> String {
        let bytes = &self.memory[self.start..self.filled];
        String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
    }

    /// Done with the complete response at hand: forget it and keep what follows it. Nothing happens while there is none.
    pub fn consume(&mut self) {
        if !self.complete {
            return;
        }
        self.start = self.raw;
        self.interim = 0;
        self.head = None;
        self.complete = false;
        if self.start == self.filled {
            self.clear();
        }
        self.body = self.start..self.start;
        self.raw = self.start;
    }

    /// Forget everything: the connection is gone.
    pub fn clear(&mut self) {
        if self.memory.len() > KEEP_CAPACITY {
            self.memory.truncate(KEEP_CAPACITY);
            self.memory.shrink_to(KEEP_CAPACITY);
        }
        self.filled = 0;
        self.start = 0;
        self.interim = 0;
        self.head = None;
        self.complete = false;
        self.body = 0..0;
        self.raw = 0;
    }

    /// `true`: the head is parsed, or an interim response was skipped and the loop is to try again.
    fn parse_head(&mut self) -> Result<bool, ParseError> {
        let bytes = &self.memory[self.start..self.filled];
        // Interim responses count too, or a server that sends nothing else would fill the memory.
        let limit = MAX_RESPONSE_HEAD.saturating_sub(self.interim);
        let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let length = match parser.parse_response_with_uninit_headers(&mut response, bytes, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length <= limit => length,
            Ok(httparse::Status::Partial) if bytes.len() <= limit => return Ok(false),
            Ok(_) => return Err(ParseError::HeadTooLarge),
            Err(error) => return Err(ParseError::NotHttp(describe(error))),
        };
        let status = response.code.unwrap_or(0);
        let http_10 = response.version == Some(0);
        let offset = |part: &[u8]| {
            let begin = self.start + (part.as_ptr() as usize - bytes.as_ptr() as usize);
            begin..begin + part.len()
        };
        let fields = Fields::read(response.headers, http_10, offset)?;
        let begin = self.start + length;
        // 101 would hand the connection over to another protocol; nobody asked for one.
        if (100..200).contains(&status) && status != 101 {
            self.start = begin;
            self.interim += length;
            return Ok(true);
        }
        let (keep_alive, framing) = match fields.framing {
            _ if matches!(status, 101 | 204 | 304) => (fields.keep_alive, Framing::Length(0)),
            Some(framing) => (fields.keep_alive, framing),
            None => (false, Framing::UntilClose),
        };
        self.begin_body(begin, Head { status, keep_alive, framing, headers: fields.headers });
        Ok(true)
    }

    /// A head was read; the body begins at `begin`.
    fn begin_body(&mut self, begin: usize, head: Head) {
        self.body = begin..begin;
        self.raw = begin;
        self.head = Some(head);
    }

    fn advance_body(&mut self) -> Result<bool, ParseError> {
        let Some(head) = &self.head else { return Ok(false) };
        match head.framing {
            Framing::Length(length) => {
                let end = self.filled.min(self.body.start + length);
                self.body.end = end;
                self.raw = end;
                self.complete = self.body.len() == length;
            }
            Framing::UntilClose => {
                self.body.end = self.filled;
                self.raw = self.filled;
            }
            Framing::Chunked(state) => {
                let (state, complete) = self.advance_chunks(state)?;
                if let Some(head) = &mut self.head {
                    head.framing = Framing::Chunked(state);
                }
                self.complete = complete;
                if self.raw - self.body.end > MAX_CHUNK_OVERHEAD {
                    return Err(ParseError::BodyTooLarge);
                }
            }
        }
        if self.body.len() > MAX_RESPONSE_BODY { Err(ParseError::BodyTooLarge) } else { Ok(self.complete) }
    }

    fn advance_chunks(&mut self, mut state: ChunkState) -> Result<(ChunkState, bool), ParseError> {
        loop {
            match state {
                ChunkState::Size => {
                    let rest = &self.memory[self.raw..self.filled];
                    match httparse::parse_chunk_size(rest) {
                        Ok(httparse::Status::Complete((line, size))) => {
                            let size = usize::try_from(size).unwrap_or(usize::MAX);
                            if size > MAX_RESPONSE_BODY {
                                return Err(ParseError::BodyTooLarge);
                            }
                            self.raw += line;
                            state = if size == 0 { ChunkState::Trailer } else { ChunkState::Data(size) };
                        }
                        Ok(httparse::Status::Partial) if rest.len() <= MAX_RESPONSE_HEAD => {
                            return Ok((state, false));
                        }
                        Ok(httparse::Status::Partial) => return Err(ParseError::HeadTooLarge),
                        Err(_) => return Err(ParseError::NotHttp("a malformed chunk size")),
                    }
                }
                ChunkState::Data(missing) => {
                    let count = missing.min(self.filled - self.raw);
                    if count == 0 {
                        return Ok((state, false));
                    }
                    self.memory.copy_within(self.raw..self.raw + count, self.body.end);
                    self.body.end += count;
                    self.raw += count;
                    state = match missing - count {
                        0 => ChunkState::DataEnd,
                        missing => ChunkState::Data(missing),
                    };
                }
                ChunkState::DataEnd => match &self.memory[self.raw..self.filled] {
                    [] | [b'\r'] => return Ok((state, false)),
                    [b'\r', b'\n', ..] => {
                        self.raw += 2;
                        state = ChunkState::Size;
                    }
                    _ => return Err(ParseError::NotHttp("a chunk that is longer than its size")),
                },
                ChunkState::Trailer => {
                    let rest = &self.memory[self.raw..self.filled];
                    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
                    match httparse::parse_headers(rest, &mut fields) {
                        Ok(httparse::Status::Complete((length, _))) => {
                            self.raw += length;
                            return Ok((state, true));
                        }
                        Ok(httparse::Status::Partial) if rest.len() <= MAX_RESPONSE_HEAD => {
                            return Ok((state, false));
                        }
                        Ok(httparse::Status::Partial) => return Err(ParseError::HeadTooLarge),
                        Err(error) => return Err(ParseError::NotHttp(describe(error))),
                    }
                }
            }
        }
    }
}

/// What the header fields say of the message they belong to.
struct Fields {
    /// Name and value of each, as ranges of the buffer.
    headers: Vec<(Range<usize>, Range<usize>)>,
    keep_alive: bool,
    /// How the body's end is found, where a field says so.
    framing: Option<Framing>,
}

impl Fields {
    /// `offset` says where in the buffer a part of a field lies.
    fn read(
        fields: &[httparse::Header<'_>],
        http_10: bool,
        offset: impl Fn(&[u8]) -> Range<usize>,
    ) -> Result<Self, ParseError> {
        let mut headers = Vec::with_capacity(fields.len());
        let mut keep_alive = !http_10;
        let mut content_length: Option<usize> = None;
        let mut chunked = false;
        for field in fields {
            headers.push((offset(field.name.as_bytes()), offset(field.value)));
            if field.name.eq_ignore_ascii_case("content-length") {
                let length = parse_length(field.value)?;
                if content_length.is_some_and(|earlier| earlier != length) {
                    return Err(ParseError::NotHttp("two different Content-Length headers"));
                }
                content_length = Some(length);
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                if !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(ParseError::NotHttp("a Transfer-Encoding other than chunked"));
                }
                chunked = true;
            } else if field.name.eq_ignore_ascii_case("connection") {
                for option in field.value.split(|byte| *byte == b',') {
                    let option = option.trim_ascii();
                    if option.eq_ignore_ascii_case(b"close") {
                        keep_alive = false;
                    } else if http_10 && option.eq_ignore_ascii_case(b"keep-alive") {
                        keep_alive = true;
                    }
                }
            }
        }
        let framing = if chunked {
            Some(Framing::Chunked(ChunkState::Size))
        } else {
            content_length.map(Framing::Length)
        };
        Ok(Self { headers, keep_alive, framing })
    }
}

fn parse_length(value: &[u8]) -> Result<usize, ParseError> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ParseError::NotHttp("a Content-Length that is no number"));
    }
    // More digits than fit are a number too, only one above the limit.
    let length = digits
        .iter()
        .fold(0_usize, |sum, digit| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0')));
    if length > MAX_RESPONSE_BODY { Err(ParseError::BodyTooLarge) } else { Ok(length) }
}

fn describe(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a malformed header name",
        httparse::Error::HeaderValue => "a malformed header value",
        httparse::Error::NewLine => "a malformed line end",
        httparse::Error::Status => "a malformed status line",
        httparse::Error::TooManyHeaders => "more than 128 header fields",
        httparse::Error::Version => "no HTTP/1.x version",
        httparse::Error::Token => "a malformed token",
    }
}

/// Writes one request head into a buffer that is used again and again.
#[derive(Debug)]
pub struct RequestHead<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> RequestHead<'a> {
    /// Begin with the request line; `path` is its parts, joined.
    pub fn new(out: &'a mut Vec<u8>, method: &str, path: &[&str]) -> Self {
        out.extend_from_slice(method.as_bytes());
        out.push(b' ');
        for part in path {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        Self { out }
    }

    /// Go on with a trailer section, whose fields are written as headers are.
    pub fn trailers(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Add one header. Line ends and other control characters in the value would start a header of their own (or be
    /// refused by the server), so they become blanks.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.out.extend(value.bytes().map(|byte| if byte < b' ' || byte == 0x7f { b' ' } else { byte }));
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// End the head.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
