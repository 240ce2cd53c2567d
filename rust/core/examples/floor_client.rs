//! The floor of a warm cycle: an echo over the Runtime API with nothing around it, for `python -m bench`.
//!
//! It runs no Python, and uses nothing of `caloric_core` on purpose: what it measures against must not share its
//! mistakes. It finds what it needs in a head by searching for it, sends the answer and the next `GET` in one write, and
//! gives up at the first surprise.
//!
//!     AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001 floor_client

use std::env;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;

const NEXT: &[u8] = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: floor\r\n\r\n";
/// What is read at once where the length is not known yet.
const CHUNK: usize = 16 * 1024;

fn main() -> io::Result<()> {
    let address =
        env::var("AWS_LAMBDA_RUNTIME_API").map_err(|_| surprise("AWS_LAMBDA_RUNTIME_API is not set"))?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(NEXT)?;
    let mut received = Received::default();
    loop {
        let (head_end, end) = received.response(&mut stream)?;
        let head = &received.bytes[..head_end];
        let request_id =
            header(head, b"lambda-runtime-aws-request-id").ok_or_else(|| surprise("no request id"))?;
        let event = &received.bytes[head_end..end];
        let mut request = Vec::with_capacity(256);
        request.extend_from_slice(b"POST /2018-06-01/runtime/invocation/");
        request.extend_from_slice(request_id);
        write!(
            request,
            "/response HTTP/1.1\r\nHost: floor\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            event.len()
        )?;
        write_all(&mut stream, [&request, event, NEXT])?;
        received.drop_front(end);
        let (_, end) = received.response(&mut stream)?;
        if !received.bytes.starts_with(b"HTTP/1.1 202") {
            return Err(surprise("the response was not accepted"));
        }
        received.drop_front(end);
    }
}

/// Bytes that have come and are not used yet.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    used: usize,
}

impl Received {
    /// Wait for a whole response at the front. Returns where its head and its body end.
    fn response(&mut self, stream: &mut TcpStream) -> io::Result<(usize, usize)> {
        loop {
            let head_end = find(&self.bytes[..self.used], b"\r\n\r\n").map(|index| index + 4);
            let mut wanted = self.used + CHUNK;
            if let Some(head_end) = head_end {
                let length = header(&self.bytes[..head_end], b"content-length")
                    .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok())
                    .ok_or_else(|| surprise("no length"))?;
                if self.used >= head_end + length {
                    return Ok((head_end, head_end + length));
                }
                wanted = wanted.max(head_end + length);
            }
            if self.bytes.len() < wanted {
                self.bytes.resize(wanted, 0);
            }
            match stream.read(&mut self.bytes[self.used..])? {
                0 => return Err(surprise("the connection was closed")),
                count => self.used += count,
            }
        }
    }

    fn drop_front(&mut self, count: usize) {
        self.bytes.copy_within(count..self.used, 0);
        self.used -= count;
    }
}

/// The value of a header, whose name is given in lower case.
fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (start, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

fn write_all(stream: &mut TcpStream, parts: [&[u8]; 3]) -> io::Result<()> {
    let mut slices = parts.map(IoSlice::new);
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let count = stream.write_vectored(left)?;
        IoSlice::advance_slices(&mut left, count);
    }
    Ok(())
}

fn surprise(what: &str) -> io::Error {
    io::Error::other(what)
}
