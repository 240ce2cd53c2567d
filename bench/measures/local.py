"""The local side: `caloric invoke` and `caloric emulate`, against AWS's emulator."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from typing import IO, TYPE_CHECKING

from bench import goals
from bench.contest import Contestant, WrongAnswerError
from bench.layout import FUNCTIONS
from bench.runtimes import check_answer, fast, peers
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.layout import Layout
    from bench.runtimes import Runtime

HANDLER = "hello.handler"
TIMEOUT_S = 20
INVOKE_PATH = "/2015-03-31/functions/function/invocations"


class CaloricInvoke(Contestant):
    """`caloric invoke`, from before the process is created until it has ended."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(goals.INVOKE)
        self._command = [layout.default.caloric, "invoke", HANDLER, "--event", "{}"]
        self._variables = fast(layout).environment()

    def check(self) -> None:
        self.sample()
        self.sample()

    def sample(self) -> Mapping[str, Sequence[float]]:
        start = time.perf_counter_ns()
        try:
            done = subprocess.run(
                self._command,
                cwd=FUNCTIONS,
                env=self._variables,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise WrongAnswerError(f"did not end within {TIMEOUT_S} s") from None
        end = time.perf_counter_ns()
        if done.returncode:
            raise WrongAnswerError(
                f"exit code {done.returncode}: {done.stderr.decode(errors='replace').strip()}"
            )
        check_answer(done.stdout, "hello")
        return {"invoke": [(end - start) / 1e6]}


class Emulator:
    """A process that serves the invoke path for one runtime."""

    def __init__(self, command: Sequence[str], runtime: Runtime, port: int, handler: str = HANDLER) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self.address = ("127.0.0.1", port)
        self._process = subprocess.Popen(
            [*command, *runtime.full_command(handler)],
            cwd=FUNCTIONS,
            env={**runtime.environment(), "_HANDLER": handler},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def connect(self) -> socket.socket:
        """Return a connection as soon as the port is open. Raises `WrongAnswerError` if it stays shut."""
        deadline = time.monotonic() + TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                connection = socket.create_connection(self.address, TIMEOUT_S)
            except ConnectionRefusedError:
                time.sleep(0.001)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        self._log.seek(0)
        raise WrongAnswerError(f"does not listen: {self._log.read(4096).decode(errors='replace').strip()}")

    def close(self) -> None:
        """End it. SIGTERM first, so that it ends the runtime, which may lead a group of its own."""
        self._process.terminate()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def invoke(connection: socket.socket, path: str = INVOKE_PATH) -> bytes:
    """Invoke with `{}` over a kept connection and return the answer's body.

    As little client as there can be, the same for everybody. Raises `WrongAnswerError`.
    """
    connection.sendall(
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        % path.encode()
    )
    received = b""
    while True:
        try:
            chunk = connection.recv(65536)
        except OSError as error:
            raise WrongAnswerError(f"did not answer: {error}") from None
        if not chunk:
            raise WrongAnswerError("closed the connection instead of an answer")
        received += chunk
        head, found, body = received.partition(b"\r\n\r\n")
        if not found:
            continue
        length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0].strip()
        if not head.startswith(b"HTTP/1.1 200 ") or not length.isdigit():
            raise WrongAnswerError(f"answered {received[:300].decode(errors='replace')}")
        if len(body) >= int(length):
            return body


def _rie(program: Path, runtime: Runtime) -> Emulator:
    port, runtime_api = free_port(), free_port()
    command = [str(program), "--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    return Emulator([*command, "--runtime-api-address", f"127.0.0.1:{runtime_api}"], runtime, port)


class RieStart(Contestant):
    """AWS's emulator with the peer, from before the process is created to the first answer."""

    def __init__(self, layout: Layout, program: Path) -> None:
        super().__init__(goals.RIE_START)
        self._program = program
        self._runtime = peers(layout)[0]

    def check(self) -> None:
        self.sample()

    def sample(self) -> Mapping[str, Sequence[float]]:
        start = time.perf_counter_ns()
        emulator = _rie(self._program, self._runtime)
        try:
            with emulator.connect() as connection:
                answer = invoke(connection)
            end = time.perf_counter_ns()
        finally:
            emulator.close()
        check_answer(answer, "hello")
        return {"invoke": [(end - start) / 1e6]}


class WarmInvoke(Contestant):
    """Requests over one kept connection, one after the other, each answer checked."""

    def __init__(self, name: str, command: list[str] | Path, runtime: Runtime, count: int) -> None:
        super().__init__(name)
        self._command = command
        self._runtime = runtime
        self._count = count
        self._emulator: Emulator | None = None
        self._connection: socket.socket | None = None

    def check(self) -> None:
        if isinstance(self._command, list):
            port = free_port()
            self._emulator = Emulator([*self._command, "--port", str(port), "--"], self._runtime, port)
        else:
            self._emulator = _rie(self._command, self._runtime)
        self._connection = self._emulator.connect()
        self.sample()

    def sample(self) -> Mapping[str, Sequence[float]]:
        assert self._connection is not None
        times = []
        for _ in range(self._count):
            start = time.perf_counter_ns()
            answer = invoke(self._connection)
            times.append((time.perf_counter_ns() - start) / 1e3)
            check_answer(answer, "hello")
        return {"emulate": times}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._emulator is not None:
            self._emulator.close()


def one_invocation(layout: Layout, rie: Path) -> list[Contestant]:
    """From nothing to one result."""
    return [RieStart(layout, rie), CaloricInvoke(layout)]


def warm_invocations(layout: Layout, rie: Path, count: int) -> list[Contestant]:
    """Through HTTP, both emulators with both runtimes."""
    emulate = [layout.default.caloric, "emulate"]
    peer = peers(layout)[0]
    return [
        WarmInvoke(goals.RIE_FAST, rie, fast(layout), count),
        WarmInvoke(goals.EMULATE_FAST, emulate, fast(layout), count),
        WarmInvoke(goals.RIE_PEER, rie, peer, count),
        WarmInvoke(goals.EMULATE_PEER, emulate, peer, count),
    ]
