"""A Runtime API that says what a test tells it to, to the byte, and records what it was asked.

For what a well-behaved endpoint never does: refusing answers, closing connections, answering nonsense.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

CLOSE = b"<close>"
RESET = b"<reset>"
HANG = b"<hang>"
# As the first part of a step: the rest follows as soon as the request's head is there, and its body is never read.
EARLY = b"<early>"


@dataclass(frozen=True)
class Slowly:
    """These bytes, one per write, with a pause in seconds before each."""

    data: bytes
    pause: float = 0.0


Part = bytes | Slowly | threading.Event
Step = Part | tuple[Part, ...]
ACCEPTED = (
    b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'
)


def event(body: object = None, request_id: str = "id-1", **headers: str) -> bytes:
    """The answer to `/next`: `body` as JSON (bytes as they are) and the headers of an invocation.

    A keyword names a header, with `_` for `-`; an empty value leaves it out.
    """
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {
        "Lambda-Runtime-Aws-Request-Id": request_id,
        "Lambda-Runtime-Deadline-Ms": "4102444800000",
        "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:012345678912:function:test_function",
        "Content-Type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


def status(code: int, error_type: str = "Test", *, close: bool = False) -> bytes:
    """A refusal."""
    body = json.dumps({"errorMessage": f"scripted {code}", "errorType": error_type}).encode()
    connection = "Connection: close\r\n" if close else ""
    return f"HTTP/1.1 {code} Scripted\r\n{connection}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Request:
    """What was asked, and over which connection (counted from 0)."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    chunks: list[bytes] = field(default_factory=list)
    """Of a chunked body, as they were sent."""
    trailers: dict[str, str] = field(default_factory=dict)
    """Behind a chunked body."""
    complete: bool = False
    """Whether all of it came."""

    @property
    def call(self) -> str:
        """The last word of the path: next, response, error."""
        return self.path.rpartition("/")[2]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ScriptedApi:
    """Answers the n-th request with the n-th step; after the last one every request hangs.

    A step is bytes to send, `Slowly`, an event to wait for, `CLOSE`, `RESET`, `HANG`, or a tuple of those, in order.
    """

    steps: list[Step]
    requests: list[Request] = field(default_factory=list)
    keep_chunks: bool = True
    """Off: what comes in chunks is forgotten."""
    let_read: threading.Event = field(default_factory=threading.Event)
    """Not set: no chunk is read after the first one."""

    def __post_init__(self) -> None:
        self.let_read.set()
        self._changed = threading.Condition()
        self._connections: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> ScriptedApi:
        return self

    def __exit__(self, *exception: object) -> None:
        # Shutting down wakes the thread in accept, which closing alone does not.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._connections:
            connection.close()

    def wait_for(self, count: int, timeout: float = 20) -> list[Request]:
        """Wait until so many requests came, and return them."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.requests) >= count, timeout)
        assert arrived, f"{len(self.requests)} of {count} requests came: {[r.call for r in self.requests]}"
        return self.requests

    def wait_for_chunks(self, index: int, count: int, timeout: float = 20) -> list[bytes]:
        """Wait until so many chunks of a request came, and return them."""
        self.wait_for(index + 1, timeout)
        request = self.requests[index]
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(request.chunks) >= count, timeout)
        assert arrived, f"{len(request.chunks)} of {count} chunks came: {request.chunks}"
        return request.chunks

    def wait_for_end(self, index: int, timeout: float = 20) -> Request:
        """Wait until a request is complete, and return it."""
        self.wait_for(index + 1, timeout)
        request = self.requests[index]
        with self._changed:
            assert self._changed.wait_for(lambda: request.complete, timeout), "the request did not end"
        return request

    def step(self, index: int, request: Request) -> Step:
        """What the `index`-th request is answered with."""
        return self.steps[index] if index < len(self.steps) else HANG

    def calls(self) -> list[str]:
        return [request.call for request in self.requests]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            number = len(self._connections) - 1
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        stream = connection.makefile("rb")
        try:
            while request := _read_head(stream, number):
                scripted = self.steps[len(self.requests) : len(self.requests) + 1]
                early = any(EARLY in _parts(step) for step in scripted)
                chunked = "chunked" in request.headers.get("transfer-encoding", "")
                if not early and not chunked:
                    _read_body(stream, request)
                with self._changed:
                    index = len(self.requests)
                    self.requests.append(request)
                    self._changed.notify_all()
                if not early and chunked and not self._read_chunks(stream, request):
                    return
                parts = _parts(self.step(index, request))
                for part in parts:
                    if part == CLOSE:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    if part == RESET:
                        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        stream.close()
                        connection.close()
                        return
                    if isinstance(part, threading.Event):
                        part.wait()
                    elif isinstance(part, Slowly):
                        for byte in part.data:
                            time.sleep(part.pause)
                            connection.sendall(bytes([byte]))
                    elif part not in (HANG, EARLY):
                        connection.sendall(part)
                if early:
                    return
        except OSError:
            return

    def _read_chunks(self, stream: Any, request: Request) -> bool:
        """Read a chunked body; `False` when it broke off."""
        while line := stream.readline():
            size = int(line, 16)
            chunk = stream.read(size)
            if size == 0:
                request.trailers = _read_fields(stream)
            elif len(chunk) < size or stream.read(2) != b"\r\n":
                return False
            with self._changed:
                if self.keep_chunks:
                    request.chunks += [chunk] if size else []
                    request.body += chunk
                request.complete = size == 0
                self._changed.notify_all()
            if size == 0:
                return True
            self.let_read.wait()
        return False


def _parts(step: Step) -> tuple[Part, ...]:
    return step if isinstance(step, tuple) else (step,)


def _read_head(stream: Any, number: int) -> Request | None:
    line = stream.readline()
    if not line:
        return None
    method, path, _ = line.decode().split(" ", 2)
    return Request(method, path, _read_fields(stream), b"", number)


def _read_fields(stream: Any) -> dict[str, str]:
    fields = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        fields[name.strip().lower()] = value.strip()
    return fields


def _read_body(stream: Any, request: Request) -> None:
    request.body = stream.read(int(request.headers.get("content-length", 0)))
    request.complete = True
