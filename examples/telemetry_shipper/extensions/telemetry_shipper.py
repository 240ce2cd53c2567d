#!/usr/bin/env python3
"""Ships a function's logs and the platform's reports to a file or to an HTTP endpoint, as lines of JSON.

SHIP_TO is a path, or a URL that takes POST; SHIP_TYPES says which telemetry, by default platform and function.
"""

from __future__ import annotations

import os
from collections import deque
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

# What takes long to import is imported when it is needed: the function waits for this extension to register.
from caloric.extension import Extension, ExtensionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from caloric.extension import ShutdownEvent

BATCH_BYTES = 256 * 1024
"""What is sent at once, about."""
BUFFER_BYTES = 4 * 1024 * 1024
"""What is kept while the destination does not take it; then the oldest goes."""
ATTEMPT_S = 1.0
"""How long the destination may take for one batch. Invocations wait for it."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 10.0
"""Between attempts while the environment lives: each pause is twice the one before."""
RESERVE_MS = 200
"""At the end, so long before the process is killed, the last attempt is over."""


class Buffer:
    """Lines that wait to be sent, oldest first, and a bound for them."""

    def __init__(self) -> None:
        self.lines: deque[bytes] = deque()
        self.size = 0
        self.dropped = 0

    def add(self, line: bytes) -> None:
        """Append a line, at the cost of the oldest where there is no room."""
        self.lines.append(line)
        self.size += len(line)
        while self.size > BUFFER_BYTES and len(self.lines) > 1:
            self.remove(1)
            self.dropped += 1

    def batch(self) -> list[bytes]:
        """Return the first lines, as many as are sent at once and one at least."""
        size, count = 0, 0
        for line in self.lines:
            size += len(line)
            if count and size > BATCH_BYTES:
                break
            count += 1
        return [self.lines[number] for number in range(count)]

    def remove(self, count: int) -> None:
        """Forget the first `count` lines."""
        for _ in range(count):
            self.size -= len(self.lines.popleft())


class Shipper:
    """Sends what is in its buffer by `send`, which raises `OSError` when that fails, and tries again later."""

    def __init__(self, send: Callable[[bytes, float], None]) -> None:
        self.send = send
        self.buffer = Buffer()
        self.pause = FIRST_PAUSE_S
        self.not_before = 0.0

    def add(self, records: list[dict[str, Any]]) -> None:
        """Take records, and send what there is unless that has failed a moment ago."""
        import json

        for record in records:
            self.buffer.add(json.dumps(record).encode() + b"\n")
        if monotonic() >= self.not_before:
            self.ship()

    def ship(self, attempt_s: float = ATTEMPT_S) -> bool:
        """Send until nothing is left, or until it fails: then return False."""
        while self.buffer.lines or self.buffer.dropped:
            if self.buffer.dropped:
                self.buffer.lines.appendleft(
                    b'{"type":"shipper.dropped","record":%d}\n' % self.buffer.dropped
                )
                self.buffer.size += len(self.buffer.lines[0])
                self.buffer.dropped = 0
            batch = self.buffer.batch()
            try:
                self.send(b"".join(batch), attempt_s)
            except OSError as error:
                print(f"{os.environ['SHIP_TO']}: {error}; {len(self.buffer.lines)} records wait")
                self.not_before = monotonic() + self.pause
                self.pause = min(2 * self.pause, LAST_PAUSE_S)
                return False
            self.buffer.remove(len(batch))
            self.pause = FIRST_PAUSE_S
        return True

    def finish(self, remaining_ms: Callable[[], int]) -> None:
        """Send the rest, again and again while there is time."""
        while (left_ms := remaining_ms() - RESERVE_MS) > 0:
            if self.ship(min(ATTEMPT_S, left_ms / 1000)):
                return
            sleep(0.05)
        print(f"the time is up: {len(self.buffer.lines)} records are lost")


def to_file(path: str) -> Callable[[bytes, float], None]:
    """Return what appends to a file."""

    def send(lines: bytes, _timeout_s: float) -> None:
        # One write for each batch: lines of several environments do not mix.
        with open(path, "ab", buffering=0) as file:
            file.write(lines)

    return send


def to_url(url: str) -> Callable[[bytes, float], None]:
    """Return what posts to a URL, each time over a new connection: one that was kept may not survive a freeze."""

    def send(lines: bytes, timeout_s: float) -> None:
        from http.client import HTTPException
        from urllib.request import Request, urlopen

        request = Request(url, lines, {"Content-Type": "application/x-ndjson"}, method="POST")
        try:
            # A status of 400 and above is an OSError, too.
            with urlopen(request, timeout=timeout_s) as response:
                response.read()
        except HTTPException as error:
            raise OSError(f"no HTTP answer: {error!r}") from error

    return send


extension = Extension()
shippers: list[Shipper] = []


@extension.on_init
def init() -> None:
    """Fail early, with a reason, when nothing could ever be shipped."""
    destination = os.environ.get("SHIP_TO", "")
    if not destination:
        raise ExtensionError("Extension.NoDestination", "set SHIP_TO to a file or to a URL")
    is_url = destination.startswith(("http://", "https://"))
    shippers.append(Shipper(to_url(destination) if is_url else to_file(destination)))


@extension.on_telemetry(*os.environ.get("SHIP_TYPES", "platform,function").split(","), timeout_ms=100)
def telemetry(records: list[dict[str, Any]]) -> None:
    """Take a batch of the platform's."""
    shippers[0].add(records)


@extension.on_shutdown
def shutdown(event: ShutdownEvent) -> None:
    """Send what is left."""
    shippers[0].finish(event.get_remaining_time_in_millis)


if __name__ == "__main__":
    extension.run()
