"""How long a piece of a streamed response is on its way: from the `yield` to the caller's socket."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from bench import goals
from bench.contest import Contestant, WrongAnswerError
from bench.measures.local import Emulator
from bench.runtimes import fast
from tests.ports import free_port

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence

    from bench.layout import Layout

HANDLER = "streams.handler"
PATH = "/2021-11-15/functions/function/response-streaming-invocations"
# Long enough for everybody to be asleep when the next piece comes, as it is when a model makes tokens.
PAUSE_MS = 2
# What the function yields: a time in nanoseconds, and a line end.
PIECE_SIZE = 21


class Stream(Contestant):
    """`caloric emulate` and its streaming invoke path. Both processes read one monotonic clock."""

    def __init__(self, layout: Layout, count: int) -> None:
        super().__init__(goals.EMULATE_FAST)
        self._event = json.dumps({"count": count, "pause_ms": PAUSE_MS}).encode()
        self._count = count
        port = free_port()
        self._emulator = Emulator(
            [layout.default.caloric, "emulate", "--port", str(port), "--"], fast(layout), port, HANDLER
        )
        self._connection: socket.socket | None = None

    def check(self) -> None:
        self._connection = self._emulator.connect()
        self.sample()

    def sample(self) -> Mapping[str, Sequence[float]]:
        assert self._connection is not None
        self._connection.sendall(
            b"POST %b HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%b"
            % (PATH.encode(), len(self._event), self._event)
        )
        times = []
        for arrived, piece in _pieces(self._connection):
            if len(piece) != PIECE_SIZE:
                raise WrongAnswerError(f"two pieces came as one: {piece!r}")
            times.append((arrived - int(piece)) / 1e3)
        if len(times) != self._count:
            raise WrongAnswerError(f"{len(times)} of {self._count} pieces came")
        # The head, and a first import, go with the first one.
        return {"stream": times[1:]}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._emulator.close()


def _pieces(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the payload of each message, and when it had been read. Raises `WrongAnswerError`."""
    buffer = b""
    head_read = False
    while True:
        received = connection.recv(65536)
        arrived = time.perf_counter_ns()
        if not received:
            raise WrongAnswerError("closed the connection in the middle")
        buffer += received
        if not head_read:
            head, found, rest = buffer.partition(b"\r\n\r\n")
            if not found:
                continue
            if not head.startswith(b"HTTP/1.1 200 "):
                raise WrongAnswerError(f"answered {head[:200].decode(errors='replace')}")
            buffer, head_read = rest, True
        while True:
            size, found, rest = buffer.partition(b"\r\n")
            if not found or len(rest) < int(size, 16) + 2:
                break
            length = int(size, 16)
            message, buffer = rest[:length], rest[length + 2 :]
            if not length:
                return
            headers = int.from_bytes(message[4:8], "big")
            if b"PayloadChunk" in message[: 12 + headers]:
                yield arrived, message[12 + headers : -4]
