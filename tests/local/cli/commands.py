"""Runs `caloric local ...` as a user does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.runtimes import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

SCRIPTS = Path(sysconfig.get_path("scripts"))
CALORIC = str(SCRIPTS / "caloric")


def variables(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment variables of a command, with the machine's AWS settings taken out."""
    found = environment("")
    del found["AWS_LAMBDA_RUNTIME_API"]
    return {**found, **(extra or {})}


def caloric(
    *arguments: str, cwd: Path, stdin: str = "", extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [CALORIC, "local", *arguments],
        cwd=cwd,
        env=variables(extra),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def wait_until(condition: Callable[[], object], what: str, limit_s: float = 30) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.01)


class Started:
    """`caloric local start` in `folder`, on a free port, until it ends or the context is left.

    `program` is what is run in place of the installed command.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        extra: Mapping[str, str] | None = None,
        program: Sequence[str] = (CALORIC,),
    ) -> None:
        self.folder = folder
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        port = () if "--port" in arguments else ("--port", "0")
        self.process = subprocess.Popen(
            [*program, "local", "start", *port, *arguments],
            cwd=folder,
            env=variables(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        found = re.match(r"listening on (http://\S+:(\d+)) ", first)
        if found is None:
            self.process.wait(20)
            errors = self.errors()
            self.__exit__(None, None, None)
            raise AssertionError(f"it did not start: {first}{errors}")
        self.url, self.port = found[1], int(found[2])

    def caloric(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command beside it."""
        return caloric(*arguments, cwd=self.folder, stdin=stdin)

    def descendants(self) -> list[int]:
        """Return the processes below it: reapers, runtimes and what these have started."""
        return _descendants(self.process.pid)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(40)

    def errors(self) -> str:
        """Return what it wrote to stderr by now."""
        self._errors.seek(0)
        return self._errors.read().decode()

    def __enter__(self) -> Started:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and is not waited for yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
