from __future__ import annotations

from io import BytesIO

import pytest

from caloric.cli.local.event_stream import BrokenStreamError, messages

# Complete messages as AWS sends them (spec lambda-service 1.7).
CHUNK = bytes.fromhex(
    "000000760000005a980e72ec0b3a6576656e742d7479706507000c5061796c6f61644368756e6b0d3a636f6e74656e742d74797065070018"
    "6170706c69636174696f6e2f6f637465742d73747265616d0d3a6d6573736167652d747970650700056576656e7448656c6c6f20776f726c"
    "642033971fd8"
)
COMPLETE = bytes.fromhex(
    "00000066000000541f56c8690b3a6576656e742d7479706507000e496e766f6b65436f6d706c6574650d3a636f6e74656e742d7479706507"
    "00106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b7d7006d467"
)


def test_messages_are_read_one_by_one() -> None:
    assert list(messages(BytesIO(CHUNK + CHUNK + COMPLETE))) == [
        ("PayloadChunk", b"Hello world "),
        ("PayloadChunk", b"Hello world "),
        ("InvokeComplete", b"{}"),
    ]


@pytest.mark.parametrize("size", [1, 11, 12, 50, len(CHUNK) - 1])
def test_a_stream_that_ends_in_a_message_is_broken(size: int) -> None:
    with pytest.raises(BrokenStreamError, match="middle"):
        list(messages(BytesIO(CHUNK[:size])))


@pytest.mark.parametrize("place", [0, 9, 40, 105, len(CHUNK) - 1])
def test_a_damaged_message_is_noticed(place: int) -> None:
    damaged = bytearray(CHUNK)
    damaged[place] ^= 1
    with pytest.raises(BrokenStreamError):
        list(messages(BytesIO(bytes(damaged))))
