"""Between invocations nothing of an execution environment runs, as on AWS."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from caloric._rust import ExecutionEnvironment
from caloric.cli.options import FAST_WAY_IN
from caloric.local.process import function_environment, supervise
from caloric.testing.processes import group_of
from tests.freezers import FREEZERS, groups, is_frozen, skip_unless_usable

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
    told = []

    def handler(event, context):
        if event == "told":
            if not told:
                signal.signal(signal.SIGCHLD, lambda number, frame: told.append(number))
                told.append(subprocess.Popen(["sleep", "600"]).pid)
            return told
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
        if event == "wait":
            time.sleep(600)
        return [[pid, state(pid)] for pid in (os.getpid(), *family)]
"""


class Start(Protocol):
    """The type of the `start` fixture."""

    def __call__(self, **options: Any) -> ExecutionEnvironment: ...


@pytest.fixture(params=FREEZERS)
def freezer(request: pytest.FixtureRequest) -> str:
    """Each of what can stop processes here."""
    name: str = request.param
    skip_unless_usable(name)
    return name


@pytest.fixture
def start(write_function: WriteFunction, freezer: str) -> Iterator[Start]:
    """Return a function that makes an environment of the function above."""
    folder = str(write_function(FUNCTION))
    environments: list[ExecutionEnvironment] = []

    def make(**options: Any) -> ExecutionEnvironment:
        environment = ExecutionEnvironment(timeout_ms=20_000, freezer=freezer, **options)
        variables = function_environment(environment, task_root=folder)
        supervise(environment, [*FAST_WAY_IN, "app.handler"], variables, cwd=folder)
        environments.append(environment)
        return environment

    yield make
    for environment in environments:
        environment.close()
    # A group goes when the kernel has let go of its last process, which is a moment after that was reaped.
    wait_until(lambda: not groups(os.getpid()))


def invoke(environment: ExecutionEnvironment, event: object) -> Any:
    result = environment.invoke(json.dumps(event).encode())
    assert result.function_error is None, result.payload
    return json.loads(result.payload)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)


def test_background_threads_stand_still_between_invocations(start: Start) -> None:
    environment = start()
    invoke(environment, "ticks")
    runtime = invoke(environment, "pid")[0][0]
    wait_until(lambda: is_frozen(runtime))
    frozen = time.monotonic()
    time.sleep(0.3)
    thawed = time.monotonic()
    ticks = invoke(environment, "ticks")
    assert not [tick for tick in ticks if frozen < tick < thawed]
    # And go on where they stopped.
    wait_until(lambda: invoke(environment, "ticks")[-1] > thawed)


def test_without_freezing_they_go_on(start: Start) -> None:
    environment = start(freeze=False)
    assert environment.freezer == "off"
    before = len(invoke(environment, "ticks"))
    # Twenty ticks of a millisecond, however busy the machine is.
    time.sleep(0.5)
    assert len(invoke(environment, "ticks")) - before > 20


def test_all_processes_are_frozen_and_go_on_but_the_one_the_function_stopped(start: Start) -> None:
    environment = start()
    family = invoke(environment, "family")
    assert len(family) == 4
    for _ in range(3):
        wait_until(lambda: all(is_frozen(pid) for pid, _ in family))
        stopped = [status == "T" for _, status in invoke(environment, "family")]
        assert stopped == [False, False, False, True]


def test_an_environment_is_frozen_after_its_init_too(start: Start, tmp_path: Path) -> None:
    environment = start()
    folder = str(tmp_path / "task")
    variables = function_environment(environment, task_root=folder)
    runtime = environment.start_process(FAST_WAY_IN[0], [*FAST_WAY_IN, "app.handler"], variables, cwd=folder)
    wait_until(lambda: is_frozen(runtime))
    assert invoke(environment, "pid")[0][0] == runtime


def test_no_invocation_is_lost_around_the_moment_of_the_freeze(start: Start) -> None:
    environment = start()
    runtime = invoke(environment, "pid")[0][0]
    moments = random.Random(5)
    for _ in range(200):
        time.sleep(moments.uniform(0.003, 0.007))
        assert invoke(environment, "pid")[0][0] == runtime


def test_a_frozen_process_can_be_killed_and_is_noticed(start: Start, freezer: str) -> None:
    environment = start()
    runtime = invoke(environment, "pid")[0][0]
    wait_until(lambda: is_frozen(runtime))
    os.kill(runtime, signal.SIGKILL)
    if freezer == "cgroup-v1":
        # It dies when it goes on, mostly: which is what the next invocation finds, unless it was quicker.
        assert environment.invoke(b'"pid"').error_type in ("Runtime.ExitError", None)
    wait_until(lambda: not Path(f"/proc/{runtime}").exists())
    runtime = invoke(environment, "pid")[0][0]
    wait_until(lambda: is_frozen(runtime))
    environment.close()
    assert not Path(f"/proc/{runtime}").exists()


def test_only_signals_are_seen_by_parents(start: Start, freezer: str) -> None:
    environment = start()
    runtime = invoke(environment, "pid")[0][0]
    child = invoke(environment, "told")[0]
    for _ in range(2):
        wait_until(lambda: is_frozen(runtime) and is_frozen(child))
        invoke(environment, "pid")
    assert (len(invoke(environment, "told")) > 1) == (freezer == "signals")


def test_the_next_process_is_frozen_as_the_first_was(start: Start, freezer: str) -> None:
    environment = start()
    assert environment.freezer == freezer
    seen = set()
    for _ in range(3):
        runtime = invoke(environment, "pid")[0][0]
        wait_until(partial(is_frozen, runtime))
        seen.add(group_of(runtime))
        assert len(groups(os.getpid())) == (freezer != "signals")
        assert environment.invoke(b'"wait"', timeout_ms=50).status == "timeout"
    # A group of its own for each.
    assert len(seen) == (1 if freezer == "signals" else 3)


def test_an_environment_that_is_never_frozen_makes_no_group(start: Start) -> None:
    environment = start(freeze=False)
    runtime = invoke(environment, "pid")[0][0]
    time.sleep(0.05)
    assert not is_frozen(runtime)
    assert group_of(runtime) is None
    assert not groups(os.getpid())


def test_without_control_groups_there_are_signals(write_function: WriteFunction) -> None:
    # The hierarchies are covered by an empty folder that cannot be written to.
    covered = 'mount -t tmpfs -o ro none /sys/fs/cgroup && exec "$0" -c "$1"'
    in_own_mounts = ["unshare", "--mount", "sh", "-c"]
    possible = subprocess.run([*in_own_mounts, covered, "true"], capture_output=True, text=True, timeout=20)
    if possible.returncode:
        pytest.skip(f"mounts of its own cannot be given to a process here: {possible.stderr.strip()}")
    program = f"""
import json, time
from caloric._rust import ExecutionEnvironment
from caloric.local.process import function_environment, supervise

with ExecutionEnvironment(timeout_ms=20_000) as environment:
    print(environment.freezer)
    supervise(environment, {[*FAST_WAY_IN, "app.handler"]!r}, function_environment(environment))
    pid = json.loads(environment.invoke(b'"pid"').payload)[0][0]
    while open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.002)
    print(environment.invoke(b'"pid"').status)
try:
    ExecutionEnvironment(freezer="cgroup-v2")
except ValueError as error:
    print(error)
"""
    run = subprocess.run(
        [*in_own_mounts, covered, sys.executable, program],
        cwd=write_function(FUNCTION),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    freezer, status, refused = run.stdout.splitlines()
    assert (freezer, status) == ("signals", "success")
    assert refused.startswith("the freezer 'cgroup-v2' cannot be used here: ")
    assert refused.endswith("; 'auto' takes what there is")


def test_the_variable_decides_and_a_wrong_one_is_a_mistake(write_function: WriteFunction) -> None:
    os.environ["CALORIC_FREEZER"] = "signals"
    with ExecutionEnvironment() as environment:
        assert environment.freezer == "signals"
    with ExecutionEnvironment(freezer="auto") as environment:
        assert environment.freezer in FREEZERS
    with ExecutionEnvironment(max_concurrency=2) as environment:
        assert environment.freezer == "off"
    with pytest.raises(ValueError, match="the freezer 'ice' is not known: it can be auto, cgroup-v2,"):
        ExecutionEnvironment(freezer="ice")
    os.environ["CALORIC_FREEZER"] = "ice"
    command = [CALORIC, "invoke", "app.handler", "--event", "0"]
    run = subprocess.run(command, cwd=write_function(FUNCTION), capture_output=True, text=True, timeout=50)
    assert run.returncode == 2
    assert run.stderr == (
        "caloric invoke: CALORIC_FREEZER: the freezer 'ice' is not known: "
        "it can be auto, cgroup-v2, cgroup-v1 or signals\n"
    )


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
            wait_until(lambda: is_frozen(runtime))
        else:
            before = len(call("ticks"))
            time.sleep(0.5)
            assert len(call("ticks")) - before > 20
        emulator.terminate()
        emulator.communicate(timeout=20)
