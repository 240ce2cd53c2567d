"""The local Lambda as a service, `caloric local start`, against ministack and AWS's emulator."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from base64 import b64encode
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bench import goals
from bench.contest import Contestant, WrongAnswerError
from bench.layout import FUNCTIONS
from bench.measures.local import HANDLER, TIMEOUT_S, WarmInvoke, invoke
from bench.runtimes import VARIABLES, check_answer, fast
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.layout import Layout

NAME = "hello"
PATH = f"/2015-03-31/functions/{NAME}/invocations"
RUNTIME = f"python{sys.version_info[0]}.{sys.version_info[1]}"


class Service:
    """A service with what it keeps: started and ended any number of times, with a function that is there each time."""

    def __init__(self, make_command: Callable[[int, Path], tuple[list[str], dict[str, str]]]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="caloric-bench-"))
        self.port = free_port()
        self._command, own = make_command(self.port, self.folder)
        self._variables = {**fast_variables(), **own}
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the service is used
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, without waiting for anything."""
        self._process = subprocess.Popen(
            self._command,
            cwd=self.folder,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def connect(self) -> socket.socket:
        """Return a connection as soon as the port is open. Raises `WrongAnswerError` if it stays shut."""
        assert self._process is not None
        deadline = time.monotonic() + TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                connection = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S)
            except ConnectionRefusedError:
                time.sleep(0.001)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        self._log.seek(0)
        raise WrongAnswerError(f"does not listen: {self._log.read(4096).decode(errors='replace').strip()}")

    def deploy(self) -> None:
        """Make the function, from a zip file, and wait until it answers. Raises `WrongAnswerError`."""
        self.connect().close()
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.write(FUNCTIONS / "hello.py", "hello.py")
        self._call(
            "POST",
            "/2015-03-31/functions",
            {
                "FunctionName": NAME,
                "Role": "arn:aws:iam::012345678912:role/bench",
                "Runtime": RUNTIME,
                "Handler": HANDLER,
                "Code": {"ZipFile": b64encode(content.getvalue()).decode()},
            },
        )
        deadline = time.monotonic() + TIMEOUT_S
        while self._call("GET", f"/2015-03-31/functions/{NAME}/configuration").get("State") == "Pending":
            if time.monotonic() > deadline:
                raise WrongAnswerError("the function does not become active")
            time.sleep(0.01)

    def _call(self, method: str, path: str, document: object = None) -> dict[str, object]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, None if document is None else json.dumps(document))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException) as error:
            raise WrongAnswerError(f"did not answer {method} {path}: {error}") from None
        finally:
            connection.close()
        if answer.status >= 300:
            raise WrongAnswerError(f"answered {answer.status}: {content[:300].decode(errors='replace')}")
        return dict(json.loads(content))

    def stop(self) -> None:
        """End the process, so that it keeps what it has."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def close(self) -> None:
        """End it, and remove what it kept."""
        self.stop()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def fast_variables() -> dict[str, str]:
    """Return the variables of a service: credentials and a region, and nothing that belongs to one function."""
    import os

    names = ("LANG", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    path = {"PATH": os.environ.get("PATH", os.defpath)}
    return {**path, **{name: VARIABLES[name] for name in names}}


def _caloric(layout: Layout) -> Service:
    assert layout.service is not None
    program = layout.service.caloric
    return Service(
        lambda port, folder: ([program, "local", "start", "--port", str(port), "--data", str(folder)], {})
    )


def _ministack(layout: Layout) -> Service:
    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        return [layout.ministack], {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(folder / "state"),
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "LOG_LEVEL": "ERROR",
        }

    return Service(command)


class FirstAnswer(Contestant):
    """From before the process is created to the first answer of a function that was stored by an earlier one."""

    def __init__(self, name: str, service: Service) -> None:
        super().__init__(name)
        self._service = service

    def check(self) -> None:
        self._service.start()
        self._service.deploy()
        with self._service.connect() as connection:
            check_answer(invoke(connection, PATH), "hello")
        self._service.stop()
        self.sample()

    def sample(self) -> Mapping[str, Sequence[float]]:
        start = time.perf_counter_ns()
        self._service.start()
        with self._service.connect() as connection:
            answer = invoke(connection, PATH)
        end = time.perf_counter_ns()
        self._service.stop()
        check_answer(answer, "hello")
        return {"local_start": [(end - start) / 1e6]}

    def close(self) -> None:
        self._service.close()


class WarmAnswer(Contestant):
    """Requests over one kept connection, one after the other, each answer checked."""

    def __init__(self, name: str, service: Service, count: int) -> None:
        super().__init__(name)
        self._service = service
        self._count = count
        self._connection: socket.socket | None = None

    def check(self) -> None:
        self._service.start()
        self._service.deploy()
        self._connection = self._service.connect()
        self.sample()

    def sample(self) -> Mapping[str, Sequence[float]]:
        assert self._connection is not None
        times = []
        for _ in range(self._count):
            start = time.perf_counter_ns()
            answer = invoke(self._connection, PATH)
            times.append((time.perf_counter_ns() - start) / 1e3)
            check_answer(answer, "hello")
        return {"local_invoke": times}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._service.close()


class WarmEmulator(WarmInvoke):
    """AWS's emulator, in the table of the services."""

    def sample(self) -> Mapping[str, Sequence[float]]:
        return {"local_invoke": super().sample()["emulate"]}


def starts(layout: Layout) -> list[Contestant]:
    """Both services, each with a function from before."""
    return [FirstAnswer(goals.MINISTACK, _ministack(layout)), FirstAnswer(goals.LOCAL, _caloric(layout))]


def warm_invocations(layout: Layout, rie: Path, count: int) -> list[Contestant]:
    """Through plain HTTP: the local Lambda, ministack, and AWS's emulator with the same runtime."""
    return [
        WarmEmulator(goals.RIE_FAST, rie, fast(layout), count),
        WarmAnswer(goals.MINISTACK, _ministack(layout), count),
        WarmAnswer(goals.LOCAL, _caloric(layout), count),
    ]
