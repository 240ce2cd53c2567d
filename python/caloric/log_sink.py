"""Where log records and error reports go: to standard output as text, or to the platform's descriptor in frames.

`_LAMBDA_TELEMETRY_LOG_FD` names the descriptor (spec runtime-api 4.9). A frame keeps a record with several lines one
record in CloudWatch. Imported when there is something to log.
"""

import sys
from _thread import RLock
from posix import fstat, register_at_fork, write
from time import time_ns

from caloric import runtime

__all__ = ["FramedTelemetryLogSink", "StandardLogSink", "frame_type", "in_json", "log_sink"]

# The last byte: bit 0 text (else JSON), bit 1 timestamp, bits 2 to 4 the level, 0 for none.
_FRAME = 0xA55A0002
_TEXT = 1
_LEVELS = {"TRACE": 1, "DEBUG": 2, "INFO": 3, "WARNING": 4, "ERROR": 5, "CRITICAL": 6}


def frame_type(level: str = "", *, json: bool = False) -> bytes:
    """Return the first four bytes of a frame for a record of this level; "" and unknown ones are no level."""
    return (_FRAME | _LEVELS.get(level, 0) << 2 | (0 if json else _TEXT)).to_bytes(4, "big")


_PLAIN = frame_type()


def in_json() -> bool:
    """Whether `AWS_LAMBDA_LOG_FORMAT` asked for JSON when the process started."""
    return runtime.log_format.upper() == b"JSON"


class StandardLogSink:
    """Standard output, as whatever it is at the moment."""

    def __enter__(self) -> "StandardLogSink":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def log(self, msg: str, frame_type: bytes | None = None) -> None:
        """Write a record as it is, with what the stream cannot write escaped."""
        try:
            sys.stdout.write(msg)
        except UnicodeEncodeError as error:
            sys.stdout.write(msg.encode(error.encoding, "backslashreplace").decode(error.encoding))

    def log_error(self, message_lines: list[str]) -> None:
        """Write an error's lines. A carriage return between them keeps them one record in CloudWatch."""
        self.log("\r".join(message_lines) + "\n")


class FramedTelemetryLogSink:
    """The platform's log descriptor."""

    def __init__(self, fd: int | str) -> None:
        self._descriptor = int(fd)
        self._frames: list[bytes] = []
        self._is_writing = False
        # Not a plain one: a signal handler may log while its thread is writing.
        self._lock = RLock()
        register_at_fork(after_in_child=self._forget_threads)

    def __enter__(self) -> "FramedTelemetryLogSink":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def log(self, msg: str, frame_type: bytes | None = None) -> None:
        """Write a record as one frame, in one write where the descriptor takes all of it.

        Frames of several threads do not mix, not even where it takes a part only. What is not legal in UTF-8 is
        escaped.
        """
        text = msg.encode("utf-8", "backslashreplace")
        head = (frame_type or _PLAIN) + len(text).to_bytes(4, "big") + (time_ns() // 1000).to_bytes(8, "big")
        self._frames.append(head + text)
        while True:
            # Also where another thread has taken our frame along: it may be in the middle of it.
            with self._lock:
                if self._is_writing:
                    # We are a signal handler, and this thread is in the middle of a frame: it goes on with ours.
                    return
                self._is_writing = True
                try:
                    while self._frames:
                        self._write(self._frames.pop(0))
                finally:
                    self._is_writing = False
            if not self._frames:
                return

    def log_error(self, message_lines: list[str]) -> None:
        """Write an error's lines as one frame."""
        self.log("\n".join(message_lines), frame_type("ERROR", json=in_json()))

    def _write(self, frame: bytes) -> None:
        while frame:
            try:
                frame = frame[write(self._descriptor, frame) :]
            except BlockingIOError:
                # Somebody made it non-blocking, for us or for who shares it.
                from select import POLLOUT, poll

                room = poll()
                room.register(self._descriptor, POLLOUT)
                room.poll()

    def _forget_threads(self) -> None:
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]
        self._is_writing = False
        self._frames.clear()


def _choose_sink() -> StandardLogSink | FramedTelemetryLogSink:
    descriptor = runtime.log_descriptor
    if descriptor is None:
        return StandardLogSink()
    try:
        fstat(descriptor)
    except OSError:
        # Closed by user code before the first record: nothing is to be lost for that.
        return StandardLogSink()
    return FramedTelemetryLogSink(descriptor)


log_sink: StandardLogSink | FramedTelemetryLogSink = _choose_sink()
"""The sink of this process."""
