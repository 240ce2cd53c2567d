"""Runs a case under a runtime: a process of its own, in a folder that is always the same and always new."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.conformance.observation import STUCK, WAITING, observe
from tests.runtimes import COMMANDS, environment
from tests.scripted_api import ACCEPTED, HANG, ScriptedApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.conformance.case import Case
    from tests.conformance.observation import Observation
    from tests.scripted_api import Request, Step

PEER = "awslambdaric"
# Seconds. What is over sooner ends sooner.
PATIENCE = 40


class Endpoint(ScriptedApi):
    """The other side of a case, which knows when it is over."""

    def __init__(self, case: Case, over: threading.Event, on_request: Callable[[int], None]) -> None:
        self._case = case
        self._over = over
        self._on_request = on_request
        self._events = iter(case.events)
        super().__init__([*(case.steps or ())])

    def step(self, index: int, request: Request) -> Step:
        """Answer the request; the one that nothing was scripted for ends the case."""
        self._on_request(index)
        step: Step | None
        if self._case.steps is not None:
            step = self.steps[index] if index < len(self.steps) else None
        else:
            step = next(self._events, None) if request.method == "GET" else ACCEPTED
        if step is None:
            self._over.set()
            return HANG
        return step


def run(case: Case, way: str, folder: Path) -> Observation:
    """Run `case` under the runtime `way`, in `folder`, which is made and removed."""
    write_files(case, folder)
    try:
        return _run(case, way, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_files(case: Case, folder: Path) -> None:
    """Make `folder` the case's task root, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A str's bytes, also where a case is about what is not UTF-8.
        path.write_bytes(
            content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
        )


def _run(case: Case, way: str, folder: Path) -> Observation:
    over = threading.Event()
    started = threading.Event()
    process: subprocess.Popen[bytes]

    def send_signal(index: int) -> None:
        if index in case.signals:
            started.wait()
            process.send_signal(case.signals[index])

    variables = {name: value.replace("{task}", str(folder)) for name, value in case.environment.items()}
    inherited: tuple[int, ...] = ()
    streams: list[int] = []
    if case.telemetry:
        readable, writable = os.pipe()
        variables["_LAMBDA_TELEMETRY_LOG_FD"] = str(writable)
        inherited = (writable,)
        streams.append(readable)
    with Endpoint(case, over, send_signal) as api:
        process = subprocess.Popen(
            [*COMMANDS[way], *([] if case.handler is None else [case.handler])],
            cwd=folder,
            env=environment(api.address, **variables),
            stdin=subprocess.DEVNULL if case.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=inherited,
            # A group of its own, so that children it leaves behind end with it.
            start_new_session=True,
        )
        with process:
            started.set()
            for descriptor in inherited:
                os.close(descriptor)
            assert process.stdout is not None
            assert process.stderr is not None
            readers = [_Reader(process.stdout.fileno()), _Reader(process.stderr.fileno())]
            readers += map(_Reader, streams)
            if process.stdin is not None:
                process.stdin.write(case.stdin or b"")
                process.stdin.close()
            exit_status = _wait(process, over, case.grace)
            output = [reader.all() for reader in readers]
        requests = [*api.requests]
    for descriptor in streams:
        os.close(descriptor)
    frames = output[2] if case.telemetry else None
    return observe(requests, output[0], output[1], frames, exit_status, str(folder), case.masks)


def _wait(process: subprocess.Popen[bytes], over: threading.Event, grace: float) -> str:
    """Wait until the case is over or the process has ended, end it and what it started, and say how it ended."""

    def watch() -> None:
        process.wait()
        over.set()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    in_time = over.wait(PATIENCE)
    if in_time and grace:
        watcher.join(grace)
    status = process.returncode
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    watcher.join()
    if not in_time:
        return STUCK
    if status is None:
        return WAITING
    return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"


class _Reader:
    """Reads a pipe until its end, all the time, since a process that fills it would wait for ever."""

    def __init__(self, descriptor: int) -> None:
        self._data: list[bytes] = []
        self._thread = threading.Thread(target=self._read, args=(descriptor,), daemon=True)
        self._thread.start()

    def _read(self, descriptor: int) -> None:
        while data := os.read(descriptor, 1 << 16):
            self._data.append(data)

    def all(self) -> bytes:
        """Return everything, once every process has closed its end."""
        self._thread.join()
        return b"".join(self._data)


class Runs:
    """Runs of many cases ahead of those who ask for them, on all processors."""

    def __init__(self, folder: Path, cases: Iterable[Case]) -> None:
        self._folder = folder
        # Starting and ending processes leaves a processor idle now and then.
        self._pool = ThreadPoolExecutor((os.cpu_count() or 1) + 1)
        self._futures: dict[str, Future[dict[str, Observation]]] = {}
        for case in cases:
            self._start(case)

    def _start(self, case: Case) -> Future[dict[str, Observation]]:
        if case.name not in self._futures:
            number = len(self._futures)
            self._futures[case.name] = self._pool.submit(
                self._run, case, self._folder / f"{number:03}" / "task"
            )
        return self._futures[case.name]

    @staticmethod
    def _run(case: Case, folder: Path) -> dict[str, Observation]:
        # One after the other: they share the folder, so that paths are the same.
        return {way: run(case, way, folder) for way in COMMANDS}

    def of(self, case: Case) -> dict[str, Observation]:
        """Return what was observed under each runtime."""
        return self._start(case).result()

    def close(self) -> None:
        """Start no more of them, and wait for those that run."""
        self._pool.shutdown(cancel_futures=True)


def applies(case: Case) -> bool:
    """Whether the case is for this Python."""
    return sys.version_info[:2] >= case.python
