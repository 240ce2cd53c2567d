"""Start-up: from the moment before the process is created to its first `GET /next`.

A listener of a few lines is the Runtime API here, so that nothing of ours is part of the figure but the
runtime. It then hands out an event and reads the response: every single start is checked.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

from bench.contest import Contestant, WrongAnswerError
from bench.layout import FUNCTIONS
from bench.runtimes import check_answer, ours, peers, production, python_floor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.layout import Layout
    from bench.runtimes import Runtime

NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n"
RESPONSE = b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\r\n"
EVENT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 1\r\n"
    b"Lambda-Runtime-Deadline-Ms: 4102444800000\r\nLambda-Runtime-Trace-Id: Root=1-2-3;Parent=4;Sampled=0\r\n"
    b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:012345678912:function:bench\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)
TIMEOUT_S = 20


class Start(Contestant):
    """One start per round."""

    def __init__(self, metric: str, runtime: Runtime, handler: str, answer: str) -> None:
        super().__init__(runtime.name)
        self._metric = metric
        self._command = runtime.full_command(handler)
        self._variables = {**runtime.environment(), "_HANDLER": handler}
        self._answer = answer
        self._log = os.memfd_create("log")

    def check(self) -> None:
        """Start twice: the first start compiles what is not compiled yet."""
        self.sample()
        self.sample()

    def sample(self) -> Mapping[str, Sequence[float]]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            host, port = server.getsockname()
            variables = {**self._variables, "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}"}
            os.ftruncate(self._log, 0)
            os.lseek(self._log, 0, os.SEEK_SET)
            actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
            duplicates = [(os.POSIX_SPAWN_DUP2, self._log, descriptor) for descriptor in (1, 2)]
            # posix_spawn cannot change the directory, and its cheapest detour is an exec that would be timed.
            before = os.getcwd()
            os.chdir(FUNCTIONS)
            try:
                start = time.perf_counter_ns()
                pid = os.posix_spawn(
                    self._command[0],
                    self._command,
                    variables,
                    file_actions=[*actions, *duplicates],
                    # As subprocess does: Python ignores SIGPIPE and SIGXFSZ, which programs must not inherit.
                    setsigdef=(13, 25),
                )
            finally:
                os.chdir(before)
            try:
                end = self._serve_once(server, pid)
            finally:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
        return {self._metric: [(end - start) / 1e6]}

    def _serve_once(self, server: socket.socket, pid: int) -> int:
        """Return when the first poll had come, in ns, once the first invocation was answered rightly.

        All contestants use one connection, so only one is served.
        """
        connection = self._accept(server, pid)
        with connection:
            connection.settimeout(TIMEOUT_S)
            try:
                head = _read_head(connection)[0]
                end = time.perf_counter_ns()
                if not head.startswith(NEXT):
                    raise WrongAnswerError(f"began with {head.decode(errors='replace')}: {self._logged()}")
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sendall(EVENT)
                head, body = _read_head(connection)
                length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or b"0")
                while len(body) < length:
                    body += _receive(connection)
            except (OSError, ValueError) as error:
                raise WrongAnswerError(f"{error}: {self._logged()}") from None
        if not head.startswith(RESPONSE):
            raise WrongAnswerError(f"answered with {head.decode(errors='replace')}: {self._logged()}")
        check_answer(body[:length], self._answer)
        return end

    def _accept(self, server: socket.socket, pid: int) -> socket.socket:
        server.settimeout(0.5)
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                return server.accept()[0]
            except TimeoutError:
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    break
        raise WrongAnswerError(f"did not poll: {self._logged()}")

    def _logged(self) -> str:
        return os.pread(self._log, 4096, 0).decode(errors="replace").strip() or "it wrote nothing"

    def close(self) -> None:
        os.close(self._log)


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return a request's head and what came of its body."""
    received = b""
    while True:
        head, found, rest = received.partition(b"\r\n\r\n")
        if found:
            return head + b"\r\n", rest
        received += _receive(connection)


def _receive(connection: socket.socket) -> bytes:
    chunk = connection.recv(65536)
    if not chunk:
        raise ConnectionError("the connection was closed")
    return chunk


def trivial(layout: Layout) -> list[Contestant]:
    """The contestants with a handler that does nothing."""
    runtimes = [python_floor(layout), *peers(layout), *ours(layout), *production(layout)]
    return [Start("start", runtime, "hello.handler", "hello") for runtime in runtimes]


def with_boto3(layout: Layout) -> list[Contestant]:
    """The contestants with a handler that creates a boto3 client."""
    runtimes = [*peers(layout), *ours(layout)]
    return [Start("start_boto3", runtime, "with_boto3.handler", "dynamodb") for runtime in runtimes]
