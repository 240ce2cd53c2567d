"""Messages of AWS's binary event stream, as `InvokeWithResponseStream` answers (spec lambda-service 1.7)."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from caloric.local.http.model import Shape

__all__ = ["CONTENT_TYPE", "message"]

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_STRING = 7


def message(stream: Shape, event: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the message of one event: `{"PayloadChunk": {"Payload": b"…"}}` or `{"InvokeComplete": {…}}`."""
    ((name, members),) = event.items()
    raw = next(
        (member for member in stream.members[name].shape.members.values() if member.shape.type == "blob"),
        None,
    )
    content_type: str
    payload: bytes
    if raw is not None:
        content_type, payload = "application/octet-stream", members.get(raw.name, b"")
    else:
        content_type, payload = "application/json", orjson.dumps(dict(members))
    headers = (
        _header(":event-type", name)
        + _header(":content-type", content_type)
        + _header(":message-type", "event")
    )
    length = 4 + 4 + 4 + len(headers) + len(payload) + 4
    prelude = struct.pack("!II", length, len(headers))
    checked = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return checked + struct.pack("!I", zlib.crc32(checked))


def _header(name: str, value: str) -> bytes:
    return struct.pack(f"!B{len(name)}sBH", len(name), name.encode(), _STRING, len(value)) + value.encode()
