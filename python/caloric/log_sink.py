"""Where log records and error reports go: to standard output as text, or to the platform's descriptor in frames.

`_LAMBDA_TELEMETRY_LOG_FD` names the descriptor (spec runtime-api 4.9). A frame keeps a record with several lines one
record in CloudWatch.
"""

from __future__ import annotations

import sys
from os import write
from time import time_ns

# The last byte: bit 0 text (else JSON), bit 1 timestamp, bits 2 to 4 the level, 0 for none.
_FRAME = 0xA55A0002
_TEXT = 1
_LEVELS = {"TRACE": 1, "DEBUG": 2, "INFO": 3, "WARNING": 4, "ERROR": 5, "CRITICAL": 6}


class StandardLogSink:
    """Standard output, as whatever it is at the moment."""

    framed = False

    def log(self, message: str, level: str = "", *, json: bool = False) -> None:
        """Write a record as it is, with what the stream cannot write escaped."""
        try:
            sys.stdout.write(message)
        except UnicodeEncodeError as error:
            sys.stdout.write(message.encode(error.encoding, "backslashreplace").decode(error.encoding))


class FramedLogSink:
    """The platform's log descriptor."""

    framed = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def log(self, message: str, level: str = "", *, json: bool = False) -> None:
        """Write a record as one frame, in one write, so that frames of several threads do not mix."""
        text = message.encode("utf-8", "surrogatepass")
        frame_type = _FRAME | _LEVELS.get(level, 0) << 2 | (0 if json else _TEXT)
        microseconds = time_ns() // 1000
        head = frame_type.to_bytes(4, "big") + len(text).to_bytes(4, "big") + microseconds.to_bytes(8, "big")
        frame = head + text
        while frame:
            frame = frame[write(self._descriptor, frame) :]


log_sink: StandardLogSink | FramedLogSink = StandardLogSink()
"""The sink of this process."""


def use_descriptor(descriptor: int) -> None:
    """Send records to the platform's descriptor from now on."""
    global log_sink
    log_sink = FramedLogSink(descriptor)
