"""The two emulators, started and invoked alike: what a test does to the one it can do to the other."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tests.parts import rie
from tests.ports import free_port
from tests.runtimes import COMMANDS, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from typing_extensions import Self

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
INVOKE_PATH = "/2015-03-31/functions/function/invocations"
# Seconds. Nothing here takes so long unless it is broken.
PATIENCE = 30.0

Kind: TypeAlias = Literal["aws", "caloric"]


class Answer:
    """What the caller of an invocation gets."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.body)


class Emulator:
    """An emulator that listens on `port`; `options` and `command` are its arguments, in that order.

    Leaving its context ends it, if it has not ended.
    """

    def __init__(
        self,
        kind: Kind,
        folder: Path,
        command: Sequence[str],
        *,
        options: Sequence[str] = (),
        variables: dict[str, str] | None = None,
        address: bool = True,
        port: int | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self.port = free_port() if port is None else port
        self.runtime_api = f"127.0.0.1:{free_port()}"
        program = [str(rie())] if kind == "aws" else [CALORIC, "emulate"]
        own = ["--runtime-interface-emulator-address", f"127.0.0.1:{self.port}"] if address else []
        if not {"--concurrency", "--reload", "--runtime-api-address"} & set(options):
            own += ["--runtime-api-address", self.runtime_api]
        self._log = tempfile.NamedTemporaryFile(suffix=".log")  # noqa: SIM115 - open as long as the process
        given = environment("", **(variables or {}))
        # An image's entry point tells by it that it is to start the emulator.
        del given["AWS_LAMBDA_RUNTIME_API"]
        self.process = subprocess.Popen(
            [*prefix, *program, *own, *options, *command],
            cwd=folder,
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._callers: ThreadPoolExecutor | None = None
        self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except ConnectionRefusedError:
                time.sleep(0.005)
            else:
                return
        raise AssertionError(f"does not listen, exit status {self.process.poll()}: {self.log}")

    def call(
        self, body: bytes = b"{}", *, method: str = "POST", path: str = INVOKE_PATH, **headers: str
    ) -> Answer:
        """Send a request; `_` in a header's name is a hyphen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(
                method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
            )
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def invoke(self, event: object = None, **headers: str) -> Answer:
        """Invoke with an event."""
        return self.call(json.dumps(event).encode(), **headers)

    def start_invoking(self, event: object = None, **headers: str) -> Future[Answer]:
        """Invoke with an event on a thread of its own."""
        if self._callers is None:
            self._callers = ThreadPoolExecutor(64)
        return self._callers.submit(self.invoke, event, **headers)

    @property
    def log(self) -> str:
        """All that was written to stdout and stderr so far."""
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def wait_for_log(self, condition: Callable[[str], object]) -> str:
        """Wait until the log satisfies `condition`, and return it."""
        deadline = time.monotonic() + PATIENCE
        while not condition(text := self.log):
            assert time.monotonic() < deadline, f"the log never came to be as expected: {text}"
            time.sleep(0.005)
        return text

    def reports(self) -> list[str]:
        """Return the REPORT lines so far."""
        return re.findall(r"^REPORT RequestId: .*$", self.log, re.MULTILINE)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end, and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.end()
        if self._callers is not None:
            self._callers.shutdown(cancel_futures=True)
        self._log.close()


class Reloaded(Emulator):
    """`caloric emulate --reload` of a function whose code a test changes."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        handler: str = "app.handler",
        variables: dict[str, str] | None = None,
    ) -> None:
        super().__init__(
            "caloric",
            folder,
            ["--", *runtime("caloric", handler)],
            options=["--reload", "--timeout", "60", *options],
            variables=variables,
        )

    @property
    def reloads(self) -> list[str]:
        """What it said about reloads, line by line."""
        return re.findall(r"^caloric emulate: (reloaded: .*)$", self.log, re.MULTILINE)

    def wait_for_reload(self, save: Callable[[], object]) -> str:
        """Change something and wait until that took effect. Returns what was said."""
        before = len(self.reloads)
        save()
        self.wait_for_log(lambda _: len(self.reloads) > before)
        return self.reloads[before]


def runtime(kind: Kind, handler: str = "app.handler") -> list[str]:
    """Return the command of a Python runtime: AWS's under AWS's emulator, which is the control."""
    return [*COMMANDS["awslambdaric" if kind == "aws" else "fast"], handler]


def script(folder: Path, source: str) -> list[str]:
    """Return the command of a runtime whose Python source is `source`.

    It has `call(method, path, body=b"", headers={}) -> (status, headers, body)`, one connection to its Runtime API.
    """
    path = folder / "runtime.py"
    path.write_text(_PREAMBLE + source, encoding="utf-8")
    return [sys.executable, "-I", str(path)]


_PREAMBLE = '''\
import http.client, json, os, signal, sys, time

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=b"", headers={}):
    api.request(method, "/2018-06-01" + path, body, headers)
    response = api.getresponse()
    return response.status, response.headers, response.read()


def take():
    """The next event's request id and bytes."""
    _, headers, body = call("GET", "/runtime/invocation/next")
    return headers["Lambda-Runtime-Aws-Request-Id"], body


def respond(request_id, value):
    return call("POST", f"/runtime/invocation/{request_id}/response", json.dumps(value).encode())


'''


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(*pids: int) -> None:
    """Wait until none of the processes is there."""
    deadline = time.monotonic() + PATIENCE
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"one of {pids} is still there"
        time.sleep(0.005)


def children_of(pid: int) -> list[int]:
    """Return the pids of all processes below `pid`."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            status = Path(f"/proc/{entry}/stat").read_text(encoding="ascii", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(status.rpartition(")")[2].split()[1]) == pid:
            found += [int(entry), *children_of(int(entry))]
    return found
