//! The binary messages in which the service streams a response (spec lambda-service 1.7): `vnd.amazon.eventstream`.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Content type of a body made of such messages.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// A piece of the response.
pub fn payload_chunk(payload: &[u8]) -> Bytes {
    message("PayloadChunk", "application/octet-stream", payload)
}

/// The end; `summary` is a JSON object.
pub fn invoke_complete(summary: &str) -> Bytes {
    message("InvokeComplete", "application/json", summary.as_bytes())
}

fn message(event_type: &str, content_type: &str, payload: &[u8]) -> Bytes {
    // Type 7 is a string.
    const STRING: u8 = 7;
    let headers = [(":event-type", event_type), (":content-type", content_type), (":message-type", "event")];
    let header_length: usize = headers.iter().map(|(name, value)| 1 + name.len() + 3 + value.len()).sum();
    let total = 16 + header_length + payload.len();
    let mut message = BytesMut::with_capacity(total);
    message.put_u32(length(total));
    message.put_u32(length(header_length));
    message.put_u32(crc32(&message));
    for (name, value) in headers {
        message.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        message.put_slice(name.as_bytes());
        message.put_u8(STRING);
        message.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        message.put_slice(value.as_bytes());
    }
    message.put_slice(payload);
    message.put_u32(crc32(&message));
    message.freeze()
}

/// Payloads are pieces of at most some hundred kilobytes.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The checksum of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)])
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    let mut value: u32 = 0;
    while index < 256 {
        let mut crc = value;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        value += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
            .collect()
    }

    #[test]
    fn messages_are_those_that_the_service_sends() {
        assert_eq!(
            hex(&payload_chunk(b"Hello world ")),
            "000000760000005a980e72ec0b3a6576656e742d7479706507000c5061796c6f61644368756e6b0d3a636f6e74656e742d\
             74797065070018\
             6170706c69636174696f6e2f6f637465742d73747265616d0d3a6d6573736167652d747970650700056576656e7448656c\
             6c6f20776f726c642033971fd8"
        );
        assert_eq!(
            hex(&invoke_complete("{}")),
            "00000066000000541f56c8690b3a6576656e742d7479706507000e496e766f6b65436f6d706c6574650d3a636f6e74656e\
             742d74797065070010\
             6170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b7d7006d467"
        );
    }
}
