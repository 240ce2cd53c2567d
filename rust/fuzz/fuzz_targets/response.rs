//! Any bytes, received in any pieces, are the same responses and the same error as when they come at once.
#![no_main]

use caloric_core::http1::{ParseError, ResponseBuffer};
use libfuzzer_sys::fuzz_target;

/// What a caller sees of a response.
#[derive(Debug, PartialEq)]
struct Response {
    status: u16,
    keep_alive: bool,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

/// Collects the responses that are complete.
fn take(buffer: &mut ResponseBuffer, responses: &mut Vec<Response>) -> Result<(), ParseError> {
    while buffer.advance()? {
        push(buffer, responses);
        buffer.consume();
    }
    Ok(())
}

fn push(buffer: &ResponseBuffer, responses: &mut Vec<Response>) {
    responses.push(Response {
        status: buffer.status(),
        keep_alive: buffer.keep_alive(),
        headers: buffer.headers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        body: buffer.body().to_vec(),
    });
}

/// The responses in `bytes`, received in pieces of these sizes, and how the connection's end was taken.
fn responses(
    bytes: &[u8],
    mut sizes: impl Iterator<Item = usize>,
) -> (Vec<Response>, Result<bool, ParseError>) {
    let mut buffer = ResponseBuffer::new();
    let mut responses = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX);
        let received = buffer.receive(|space| {
            let count = size.min(space.len()).min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            Ok::<_, ()>(count)
        });
        rest = &rest[received.expect("this read does not fail")..];
        if let Err(error) = take(&mut buffer, &mut responses) {
            return (responses, Err(error));
        }
    }
    let end = buffer.close();
    if end == Ok(true) {
        push(&buffer, &mut responses);
    }
    (responses, end)
}

fuzz_target!(|data: &[u8]| {
    let Some((pieces, bytes)) = data.split_first_chunk::<4>() else { return };
    let at_once = responses(bytes, std::iter::empty());
    let in_pieces = responses(bytes, pieces.iter().cycle().map(|size| usize::from(*size) + 1));
    let byte_by_byte = responses(bytes, std::iter::repeat(1));
    assert_eq!(at_once, in_pieces);
    assert_eq!(at_once, byte_by_byte);
});
