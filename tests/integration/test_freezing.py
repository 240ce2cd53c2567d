"""Between invocations nothing of an execution environment runs, as on AWS."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sysconfig
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from caloric._rust import ExecutionEnvironment
from caloric.cli.options import FAST_WAY_IN
from caloric.local.process import function_environment, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
FUNCTION = """
    import os, signal, subprocess, threading, time

    ticks = []

    def tick():
        while True:
            ticks.append(time.monotonic())
            time.sleep(0.001)

    def detached():
        read, write = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            os.write(write, str(os.getpid()).encode())
            time.sleep(600)
        os.wait()
        return int(os.read(read, 20))

    def state(pid):
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]

    family = []

    def handler(event, context):
        if event == "ticks":
            if not ticks:
                threading.Thread(target=tick, daemon=True).start()
            return ticks
        if event == "family" and not family:
            threading.Thread(target=lambda: family.append(subprocess.Popen(["sleep", "600"]).pid)).start()
            while not family:
                time.sleep(0.001)
            family.append(detached())
            stopped = subprocess.Popen(["sleep", "600"]).pid
            os.kill(stopped, signal.SIGSTOP)
            while state(stopped) != "T":
                time.sleep(0.001)
            family.append(stopped)
        return [[pid, state(pid)] for pid in (os.getpid(), *family)]
"""


class Start(Protocol):
    """The type of the `start` fixture."""

    def __call__(self, **options: Any) -> ExecutionEnvironment: ...


@pytest.fixture
def start(write_function: WriteFunction) -> Iterator[Start]:
    """Return a function that makes an environment of the function above."""
    folder = str(write_function(FUNCTION))
    environments: list[ExecutionEnvironment] = []

    def make(**options: Any) -> ExecutionEnvironment:
        environment = ExecutionEnvironment(timeout_ms=20_000, **options)
        variables = function_environment(environment, task_root=folder)
        supervise(environment, [*FAST_WAY_IN, "app.handler"], variables, cwd=folder)
        environments.append(environment)
        return environment

    yield make
    for environment in environments:
        environment.close()


def invoke(environment: ExecutionEnvironment, event: object) -> Any:
    result = environment.invoke(json.dumps(event).encode())
    assert result.function_error is None, result.payload
    return json.loads(result.payload)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)


def test_background_threads_stand_still_between_invocations(start: Start) -> None:
    environment = start()
    invoke(environment, "ticks")
    runtime = invoke(environment, "pid")[0][0]
    wait_until(lambda: state(runtime) == "T")
    frozen = time.monotonic()
    time.sleep(0.3)
    thawed = time.monotonic()
    ticks = invoke(environment, "ticks")
    assert not [tick for tick in ticks if frozen < tick < thawed]
    # And go on where they stopped.
    wait_until(lambda: invoke(environment, "ticks")[-1] > thawed)


def test_without_freezing_they_go_on(start: Start) -> None:
    environment = start(freeze=False)
    before = len(invoke(environment, "ticks"))
    # Twenty ticks of a millisecond, however busy the machine is.
    time.sleep(0.5)
    assert len(invoke(environment, "ticks")) - before > 20


def test_all_processes_are_frozen_and_go_on_but_the_one_the_function_stopped(start: Start) -> None:
    environment = start()
    family = invoke(environment, "family")
    assert len(family) == 4
    for _ in range(3):
        wait_until(lambda: all(state(pid) == "T" for pid, _ in family))
        stopped = [status == "T" for _, status in invoke(environment, "family")]
        assert stopped == [False, False, False, True]


def test_an_environment_is_frozen_after_its_init_too(start: Start, tmp_path: Path) -> None:
    environment = start()
    # Once more, ahead of any invocation.
    runtime = invoke(environment, "pid")[0][0]
    os.kill(runtime, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{runtime}").exists())
    folder = str(tmp_path / "task")
    variables = function_environment(environment, task_root=folder)
    runtime = environment.start_process(FAST_WAY_IN[0], [*FAST_WAY_IN, "app.handler"], variables, cwd=folder)
    wait_until(lambda: state(runtime) == "T")
    assert invoke(environment, "pid")[0][0] == runtime


def test_no_invocation_is_lost_around_the_moment_of_the_freeze(start: Start) -> None:
    environment = start()
    runtime = invoke(environment, "pid")[0][0]
    moments = random.Random(5)
    for _ in range(200):
        time.sleep(moments.uniform(0.003, 0.007))
        assert invoke(environment, "pid")[0][0] == runtime


def test_a_frozen_process_can_be_killed_and_is_noticed(start: Start) -> None:
    environment = start()
    runtime = invoke(environment, "pid")[0][0]
    wait_until(lambda: state(runtime) == "T")
    os.kill(runtime, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{runtime}").exists())
    runtime = invoke(environment, "pid")[0][0]
    wait_until(lambda: state(runtime) == "T")
    environment.close()
    assert not Path(f"/proc/{runtime}").exists()


@pytest.mark.parametrize("freezes", [True, False])
def test_the_command_freezes_unless_told_otherwise(freezes: bool, write_function: WriteFunction) -> None:
    folder = write_function(FUNCTION)
    options = [] if freezes else ["--no-freeze"]
    command = [CALORIC, "emulate", "--port", "0", *options, "--", *FAST_WAY_IN, "app.handler"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) as emulator:
        assert emulator.stderr is not None
        url = emulator.stderr.readline().decode().split()[-1]

        def call(event: str) -> Any:
            with urllib.request.urlopen(url, json.dumps(event).encode(), timeout=20) as response:
                return json.load(response)

        call("ticks")
        runtime = call("pid")[0][0]
        if freezes:
            wait_until(lambda: state(runtime) == "T")
        else:
            before = len(call("ticks"))
            time.sleep(0.5)
            assert len(call("ticks")) - before > 20
        emulator.terminate()
        emulator.communicate(timeout=20)
