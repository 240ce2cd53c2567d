//! However a body is cut into chunks, and the chunks into reads, it arrives whole, and so does the response behind it.
#![no_main]

use arbitrary::Arbitrary;
use caloric_core::http1::ResponseBuffer;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    chunks: Vec<&'a [u8]>,
    trailer: Option<u64>,
    uppercase_sizes: bool,
    next_body: &'a [u8],
    read_sizes: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let mut wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    // An empty chunk would be the last one.
    let chunks: Vec<_> = input.chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
    for chunk in &chunks {
        let size = chunk.len();
        let line = if input.uppercase_sizes {
            format!("{size:X}\r\n")
        } else {
            format!("{size:04x};name=value\r\n")
        };
        wire.extend_from_slice(line.as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n");
    if let Some(value) = input.trailer {
        wire.extend_from_slice(format!("X-Trailer: {value}\r\n").as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
    let next = input.next_body;
    wire.extend_from_slice(
        format!("HTTP/1.1 202 Accepted\r\nContent-Length: {}\r\n\r\n", next.len()).as_bytes(),
    );
    wire.extend_from_slice(next);

    let mut buffer = ResponseBuffer::new();
    let mut bodies = Vec::new();
    let mut sizes = input.read_sizes.iter().map(|size| usize::from(*size) + 1);
    let mut rest = wire.as_slice();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(sizes.next().unwrap_or(usize::MAX).min(rest.len()));
        buffer.push(piece);
        rest = later;
        while buffer.advance().expect("the responses are well formed") {
            bodies.push((buffer.status(), buffer.body().to_vec()));
            buffer.consume();
        }
    }
    assert_eq!(bodies, [(200, chunks.concat()), (202, next.to_vec())]);
    assert!(!buffer.has_started(), "nothing may be left over");
});
