use super::*;

/// Status, keep-alive and body of the first response in `bytes`, fed in the given pieces.
fn receive(pieces: &[&[u8]]) -> Result<Option<(u16, bool, Vec<u8>)>, ParseError> {
    let mut buffer = ResponseBuffer::new();
    for piece in pieces {
        buffer.push(piece);
        if buffer.advance()? {
            return Ok(Some((buffer.status(), buffer.keep_alive(), buffer.body().to_vec())));
        }
    }
    Ok(None)
}

/// What it is, its bytes, and the status, keep-alive and body to be found in them.
type Case = (&'static str, Vec<u8>, u16, bool, Vec<u8>);

/// Every response of this list is fed split at each byte boundary, and byte by byte.
fn responses() -> Vec<Case> {
    let big = vec![b'x'; 5000];
    let mut with_big = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".to_vec();
    with_big.extend_from_slice(&big);
    vec![
        ("content length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(), 200, true, b"hello".to_vec()),
        ("no body", b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec(), 202, true, Vec::new()),
        (
            "chunks",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;name=v\r\n world\r\n0\r\n\r\n".to_vec(),
            200,
            true,
            b"hello world".to_vec(),
        ),
        (
            "chunks with trailers",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\na\r\n0123456789\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n".to_vec(),
            200,
            true,
            b"0123456789".to_vec(),
        ),
        (
            "interim responses first",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
            202,
            true,
            b"ok".to_vec(),
        ),
        (
            "connection close",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            200,
            false,
            b"ok".to_vec(),
        ),
        ("http 1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(), 200, false, b"ok".to_vec()),
        (
            "http 1.0 with keep-alive",
            b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            200,
            true,
            b"ok".to_vec(),
        ),
        ("204 ignores lengths", b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n".to_vec(), 204, true, Vec::new()),
        ("no reason phrase", b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx".to_vec(), 200, true, b"x".to_vec()),
        ("a larger body", with_big, 200, true, big),
    ]
}

#[test]
fn every_response_is_the_same_whole_or_split_at_any_byte() {
    for (name, bytes, status, keep_alive, body) in responses() {
        let expected = Ok(Some((status, keep_alive, body)));
        assert_eq!(receive(&[&bytes]), expected, "{name}, whole");
        for at in 0..bytes.len() {
            assert_eq!(receive(&[&bytes[..at], &bytes[at..]]), expected, "{name}, split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(receive(&single), expected, "{name}, byte by byte");
    }
}

#[test]
fn what_follows_a_response_is_the_next_response() {
    for (name, first, ..) in responses() {
        let mut both = first.clone();
        both.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond");
        for at in 0..both.len() {
            let mut buffer = ResponseBuffer::new();
            let mut bodies = Vec::new();
            for piece in [&both[..at], &both[at..]] {
                buffer.push(piece);
                while buffer.advance().unwrap() {
                    bodies.push(buffer.body().to_vec());
                    buffer.consume();
                }
            }
            assert_eq!(bodies.len(), 2, "{name}, split at {at}");
            assert_eq!(bodies[1], b"second", "{name}, split at {at}");
            assert!(!buffer.has_started());
        }
    }
}

#[test]
fn headers_can_be_read_after_the_body_came() {
    let mut buffer = ResponseBuffer::new();
    buffer.push(
        b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 8f-1\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    assert!(!buffer.advance().unwrap());
    buffer.push(&[b"1000\r\n".as_slice(), &[b'y'; 4096], b"\r\n0\r\n\r\n"].concat());
    assert!(buffer.advance().unwrap());
    let headers: Vec<_> = buffer.headers().collect();
    assert_eq!(headers[0], (b"Lambda-Runtime-Aws-Request-Id".as_slice(), b"8f-1".as_slice()));
    assert_eq!(buffer.body(), [b'y'; 4096]);
}

#[test]
fn a_body_without_length_ends_when_the_connection_does() {
    let mut buffer = ResponseBuffer::new();
    buffer.push(b"HTTP/1.1 200 OK\r\n\r\nsome");
    assert!(!buffer.advance().unwrap());
    buffer.push(b" text");
    assert!(!buffer.advance().unwrap());
    assert!(buffer.close().unwrap());
    assert_eq!(buffer.body(), b"some text");
    assert!(!buffer.keep_alive());
}

#[test]
fn a_close_in_the_middle_says_how_much_had_come() {
    let cases: [(&[u8], ParseError); 4] = [
        (b"HTTP/1.1 200 OK\r\nConte", ParseError::EndedEarly { received: 0, expected: None }),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour",
            ParseError::EndedEarly { received: 4, expected: Some(9) },
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfou",
            ParseError::EndedEarly { received: 3, expected: None },
        ),
        (b"", ParseError::EndedEarly { received: 0, expected: None }),
    ];
    for (bytes, expected) in cases {
        let mut buffer = ResponseBuffer::new();
        buffer.push(bytes);
        assert!(!buffer.advance().unwrap());
        assert_eq!(buffer.close(), Err(expected));
    }
}

#[test]
fn what_is_no_response_is_refused_at_whatever_byte_it_is_split() {
    let cases: [(&[u8], ParseError); 9] = [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ParseError::NotHttp("no HTTP/1.x version")),
        (b"HTTP/2 200 OK\r\n\r\n", ParseError::NotHttp("no HTTP/1.x version")),
        (b"HTTP/1.1 abc\r\n\r\n", ParseError::NotHttp("a malformed status line")),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", ParseError::NotHttp("a malformed header name")),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
            ParseError::NotHttp("a Content-Length that is no number"),
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            ParseError::NotHttp("two different Content-Length headers"),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            ParseError::NotHttp("a Transfer-Encoding other than chunked"),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            ParseError::NotHttp("a malformed chunk size"),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
            ParseError::NotHttp("a chunk that is longer than its size"),
        ),
    ];
    for (bytes, expected) in cases {
        for at in 0..=bytes.len() {
            assert_eq!(receive(&[&bytes[..at], &bytes[at..]]), Err(expected), "{bytes:?} split at {at}");
        }
    }
}

#[test]
fn a_head_above_64_kib_is_refused_and_one_just_below_is_not() {
    let head = |padding: usize| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n".to_vec();
        while bytes.len() + 4 < padding {
            let room = (padding - bytes.len() - 4).clamp(6, 8000);
            bytes.extend_from_slice(b"X-A: ");
            bytes.resize(bytes.len() + room.saturating_sub(7), b'x');
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    };
    assert!(receive(&[&head(MAX_RESPONSE_HEAD - 100)]).unwrap().is_some());
    assert_eq!(receive(&[&head(MAX_RESPONSE_HEAD + 100)]), Err(ParseError::HeadTooLarge));
    let endless = vec![b'x'; MAX_RESPONSE_HEAD];
    assert_eq!(
        receive(&[b"HTTP/1.1 200 OK\r\nX-A: ", &endless]),
        Err(ParseError::HeadTooLarge),
        "a head that never ends is refused as well"
    );
}

#[test]
fn a_body_above_the_limit_is_refused_before_it_is_received() {
    for bytes in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n".as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 268435457\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
    ] {
        assert_eq!(receive(&[bytes]), Err(ParseError::BodyTooLarge));
    }
}

#[test]
fn a_large_announced_length_reserves_only_part_of_it() {
    let mut buffer = ResponseBuffer::new();
    buffer.push(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n");
    assert!(!buffer.advance().unwrap());
    let mut offered = 0;
    buffer
        .receive(|space| {
            Ok::<_, ()>({
                offered = space.len();
                0
            })
        })
        .unwrap();
    assert_eq!(offered, MAX_RESERVE);
}

#[test]
fn a_body_of_known_length_is_asked_for_in_one_read() {
    let mut buffer = ResponseBuffer::new();
    buffer.push(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc");
    assert!(!buffer.advance().unwrap());
    let fill = |space: &mut [u8]| {
        space.fill(b'z');
        Ok::<_, ()>(space.len())
    };
    assert_eq!(buffer.receive(fill), Ok(100_000 - 3));
    assert!(buffer.advance().unwrap());
    assert_eq!((&buffer.body()[..4], buffer.body().len()), (b"abcz".as_slice(), 100_000));
}

#[test]
fn memory_of_a_large_event_is_given_back() {
    let mut buffer = ResponseBuffer::new();
    buffer.push(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n");
    buffer.push(&vec![b'x'; 5_000_000]);
    assert!(buffer.advance().unwrap());
    buffer.consume();
    assert!(buffer.memory.capacity() <= KEEP_CAPACITY);
}

#[test]
fn a_header_value_cannot_start_another_header() {
    let mut out = Vec::new();
    RequestHead::new(&mut out, "GET", &["/a", "/b"]).header("X-A", "1\r\nX-Evil: 2\u{7f}é").end();
    assert_eq!(out, "GET /a/b HTTP/1.1\r\nX-A: 1  X-Evil: 2 é\r\n\r\n".as_bytes());
}

#[test]
fn interim_responses_without_end_are_too_much_and_do_not_fill_the_memory() {
    let mut buffer = ResponseBuffer::new();
    let error = (0..10_000)
        .find_map(|_| {
            buffer.push(b"HTTP/1.1 100 Continue\r\n\r\n");
            buffer.advance().err()
        })
        .unwrap();
    assert_eq!(error, ParseError::HeadTooLarge);
    assert!(buffer.memory.len() < 2 * MAX_RESPONSE_HEAD);
}

#[test]
fn interim_responses_count_for_each_response_anew() {
    let mut buffer = ResponseBuffer::new();
    for _ in 0..100 {
        for _ in 0..1000 {
            buffer.push(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        buffer.push(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(buffer.advance(), Ok(true));
        assert_eq!(buffer.body(), b"ok");
        buffer.consume();
    }
}

#[test]
fn chunk_extensions_without_end_are_too_much() {
    let mut buffer = ResponseBuffer::new();
    buffer.push(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"1;".as_slice(), &vec![b'x'; 60_000], b"\r\nx\r\n"].concat();
    let error = (0..10_000).find_map(|_| {
        buffer.push(&chunk);
        buffer.advance().err()
    });
    assert_eq!(error, Some(ParseError::BodyTooLarge));
    assert!(buffer.memory.len() < 2 * MAX_CHUNK_OVERHEAD);
}

#[test]
fn looking_again_at_a_complete_response_changes_nothing() {
    for (name, bytes, status, _, body) in responses() {
        let mut buffer = ResponseBuffer::new();
        buffer.push(&bytes);
        buffer.push(b"HTTP/1.1 500 Next\r\n");
        for _ in 0..3 {
            assert_eq!(buffer.advance(), Ok(true), "{name}");
            assert_eq!((buffer.status(), buffer.body()), (status, body.as_slice()), "{name}");
        }
    }
}
