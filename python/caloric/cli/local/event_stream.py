"""Messages of `application/vnd.amazon.eventstream`, as InvokeWithResponseStream answers (spec lambda-service 1.7)."""

from __future__ import annotations

import struct
from binascii import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class _Readable(Protocol):
        def read(self, amount: int, /) -> bytes: ...


class BrokenStreamError(Exception):
    """The stream ends in the middle of a message, or is damaged."""


_STRING = 7


def messages(stream: _Readable) -> Iterator[tuple[str, bytes]]:
    """Yield event type and payload of each message, as it comes.

    Raises `BrokenStreamError`.
    """
    while True:
        prelude = stream.read(12)
        if not prelude:
            return
        if len(prelude) < 12:
            raise BrokenStreamError("the stream ends in the middle of a message")
        total, headers_size, prelude_sum = struct.unpack(">III", prelude)
        rest = stream.read(total - 12)
        if len(rest) < total - 12:
            raise BrokenStreamError("the stream ends in the middle of a message")
        (message_sum,) = struct.unpack(">I", rest[-4:])
        if crc32(prelude[:8]) != prelude_sum or crc32(prelude + rest[:-4]) != message_sum:
            raise BrokenStreamError("a message of the stream is damaged")
        yield _headers(rest[:headers_size]).get(":event-type", ""), rest[headers_size:-4]


def _headers(block: bytes) -> dict[str, str]:
    headers = {}
    while block:
        name_size = block[0]
        name, kind = block[1 : name_size + 1].decode(), block[name_size + 1]
        if kind != _STRING:
            raise BrokenStreamError(f"the header {name} of a message is no string")
        (size,) = struct.unpack(">H", block[name_size + 2 : name_size + 4])
        headers[name] = block[name_size + 4 : name_size + 4 + size].decode()
        block = block[name_size + 4 + size :]
    return headers
