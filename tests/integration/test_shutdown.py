"""`on_shutdown` hooks when an environment ends: under our endpoint in every situation, and under AWS's emulator."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from caloric._rust import ExecutionEnvironment
from caloric.cli.options import FAST_WAY_IN
from caloric.local.extensions import launch_extensions
from caloric.local.process import function_environment, supervise
from tests.freezers import is_frozen
from tests.parts import rie
from tests.ports import free_port
from tests.runtimes import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
PATIENCE = 20
FUNCTION = """
    import asyncio, os, signal, subprocess, threading, time
    from caloric import lifecycle

    def note(*words):
        with open(os.environ["JOURNAL"], "a") as file:
            file.write(" ".join(map(str, words)) + "\\n")

    at_hand = None

    @lifecycle.on_init
    def began():
        note("init", os.getpid())

    @lifecycle.on_shutdown
    def ended():
        note("shutdown", at_hand, 0 < lifecycle.remaining_shutdown_ms() <= 450)

    def handler(event, context):
        global at_hand
        at_hand = event
        if event == "hang":
            note("hanging")
            time.sleep(60)
        if event == "busy":
            note("hanging")
            while True: pass
        if event == "loop":
            note("hanging")
            asyncio.run(asyncio.sleep(60))
        if event == "thread":
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        at_hand = f"after {event}"
        return event
"""


class Function:
    """An environment with the function above."""

    def __init__(self, root: Path, journal: Path, extensions: dict[str, str], **options: Any) -> None:
        self.journal = journal
        self.environment = ExecutionEnvironment(
            keep_log=True, extensions=list(extensions), handler="app.handler", **options
        )
        variables = function_environment(
            self.environment, handler="app.handler", task_root=str(root), user={"JOURNAL": str(journal)}
        )
        if extensions:
            launch_extensions(self.environment, extensions, variables)
        self.process = supervise(self.environment, [*FAST_WAY_IN, "app.handler"], variables, cwd=str(root))

    def invoke(self, event: object) -> Any:
        """Return the answer to an event."""
        return json.loads(self.environment.invoke(json.dumps(event).encode()).payload)

    def close(self) -> None:
        """End the environment; returns when all its processes are gone."""
        self.environment.close()
        assert self.process.join(PATIENCE)

    @property
    def notes(self) -> list[str]:
        """What the function wrote down, without its pid."""
        lines = self.journal.read_text(encoding="utf-8").splitlines() if self.journal.exists() else []
        return ["init" if line.startswith("init ") else line for line in lines]

    @property
    def pid(self) -> int:
        """Of the runtime process that was started last."""
        lines = self.journal.read_text(encoding="utf-8").splitlines()
        return int([line for line in lines if line.startswith("init ")][-1].split()[1])


class MakeFunction(Protocol):
    """The type of the `function` fixture."""

    def __call__(self, extensions: dict[str, str] | None = None, **options: Any) -> Function: ...


@pytest.fixture
def function(write_function: WriteFunction, tmp_path: Path) -> Iterator[MakeFunction]:
    """Return a function that makes an environment of the function above."""
    made: list[Function] = []

    def make(extensions: dict[str, str] | None = None, **options: Any) -> Function:
        root = write_function(FUNCTION)
        options = {"timeout_ms": 20_000, **options}
        made.append(Function(root, tmp_path / "journal", extensions or {}, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


@pytest.mark.parametrize("event", ["plain", "thread"])
def test_hooks_run_when_an_idle_environment_ends(event: str, function: MakeFunction) -> None:
    started = function(freeze=False)
    assert started.invoke(event) == event
    started.close()
    assert started.notes == ["init", f"shutdown after {event} True"]


@pytest.mark.parametrize("event", ["plain", "thread"])
def test_hooks_run_when_a_frozen_environment_ends(event: str, function: MakeFunction) -> None:
    started = function()
    assert started.invoke(event) == event
    wait_until(lambda: is_frozen(started.pid))
    started.close()
    assert started.notes == ["init", f"shutdown after {event} True"]


@pytest.mark.parametrize("event", ["hang", "busy", "loop"])
def test_hooks_run_when_an_invocation_takes_too_long(event: str, function: MakeFunction) -> None:
    started = function(timeout_ms=1500)
    assert started.invoke(event)["errorType"] == "Sandbox.Timedout"
    # Everything starts anew, hooks included.
    assert started.invoke("next") == "next"
    started.close()
    assert started.notes == ["init", "hanging", f"shutdown {event} True", "init", "shutdown after next True"]


def test_hooks_run_when_the_environment_ends_in_an_invocation(function: MakeFunction) -> None:
    started = function()
    started.environment.submit(b'"hang"', lambda result: None)
    wait_until(lambda: "hanging" in started.notes)
    started.close()
    assert started.notes == ["init", "hanging", "shutdown hang True"]


def test_hooks_run_where_there_are_external_extensions_too(function: MakeFunction, tmp_path: Path) -> None:
    program = Path(__file__).with_name("extension_program.py")
    extension = tmp_path / "observer"
    extension.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -S "{program}" "$0" events $#\n', encoding="utf-8"
    )
    extension.chmod(0o755)
    started = function({"observer": str(extension)})
    result = started.environment.invoke(b'"x"')
    assert b"EXTENSION\tName: caloric-lifecycle-hooks\tState: Ready\tEvents: []\n" in result.log
    started.close()
    notes = started.journal.read_text(encoding="utf-8")
    assert "shutdown after x True\n" in notes
    shutdown = notes.index("shutdown after x")
    assert '"eventType": "SHUTDOWN"' in notes[shutdown:], "extensions are told when the runtime is gone"


def test_hooks_run_at_the_end_of_a_command(write_function: WriteFunction, tmp_path: Path) -> None:
    folder, journal = write_function(FUNCTION), tmp_path / "journal"
    variables = {**environment(""), "JOURNAL": str(journal)}
    del variables["AWS_LAMBDA_RUNTIME_API"]
    subprocess.run(
        [CALORIC, "invoke", "app.handler", "--event", '"x"', "--env", f"JOURNAL={journal}"],
        cwd=folder,
        env=variables,
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert journal.read_text(encoding="utf-8").splitlines()[1:] == ["shutdown after x True"]


@pytest.mark.parametrize("way", [[*FAST_WAY_IN], [sys.executable, "-m", "caloric"]], ids=["fast", "module"])
def test_hooks_run_when_awss_emulator_is_stopped(
    way: list[str], write_function: WriteFunction, tmp_path: Path
) -> None:
    folder, journal, port, api = write_function(FUNCTION), tmp_path / "journal", free_port(), free_port()
    emulator = subprocess.Popen(
        [
            str(rie()),
            "--runtime-interface-emulator-address",
            f"127.0.0.1:{port}",
            "--runtime-api-address",
            f"127.0.0.1:{api}",
            *way,
            "app.handler",
        ],
        cwd=folder,
        env={**environment(""), "JOURNAL": str(journal)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(url, b'"x"', timeout=PATIENCE) as answer:
                    assert answer.read() == b'"x"'
                break
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        emulator.send_signal(signal.SIGTERM)
        emulator.wait(PATIENCE)
    finally:
        emulator.kill()
        emulator.wait()
    assert journal.read_text(encoding="utf-8").splitlines()[1:] == ["shutdown after x True"]
