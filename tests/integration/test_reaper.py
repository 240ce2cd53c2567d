"""Nothing that a function starts outlives it: neither its runtime, nor the environment, nor the process behind both."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from caloric._rust import ExecutionEnvironment
from caloric.cli.options import FAST_WAY_IN
from caloric.local.process import function_environment, supervise
from tests.freezers import FREEZERS, groups, is_frozen, skip_unless_usable
from tests.runtimes import environment as variables_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import MakeExtension, WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
# A stopped child, and a grandchild that left its parent, its session and its process group; both ignore all they can.
FAMILY = """
    import os, signal, time

    def sleeper(detach):
        read, write = os.pipe()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            if detach:
                os.setsid()
                if os.fork():
                    os._exit(0)
            os.write(write, str(os.getpid()).encode())
            time.sleep(600)
        pid = int(os.read(read, 20))
        if detach:
            os.wait()
        return pid

    def family():
        stopped, detached = sleeper(False), sleeper(True)
        os.kill(stopped, signal.SIGSTOP)
        return [os.getpid(), stopped, detached]

    def handler(event, context):
        pids = family()
        if isinstance(event, str):
            with open(event + "~", "w") as file:
                file.write(" ".join(map(str, pids)))
            os.rename(event + "~", event)
            time.sleep(600)
        if event == 3:
            os._exit(3)
        return pids
"""

# What a program that uses the library might look like when it is killed.
PROGRAM = """
import sys
from caloric._rust import ExecutionEnvironment
from caloric.local.process import function_environment, supervise

command, where = sys.argv[2:], sys.argv[1]
environment = ExecutionEnvironment(timeout_ms=60_000)
supervise(environment, command, function_environment(environment))
environment.invoke(b'"%s"' % where.encode())
"""


# What one with an extension might look like when it is killed between two invocations.
FROZEN = """
import os, sys, time
from caloric._rust import ExecutionEnvironment
from caloric.local.extensions import launch_extensions
from caloric.local.process import function_environment, supervise

where, extension, *command = sys.argv[1:]
environment = ExecutionEnvironment(timeout_ms=60_000, extensions=["observer"])
variables = function_environment(environment, user={"JOURNAL": os.environ["JOURNAL"]})
launch_extensions(environment, {"observer": extension}, variables)
supervise(environment, command, variables)
pids = environment.invoke(b"0").payload.decode()
with open(where + "~", "w") as file:
    file.write(pids.strip("[]").replace(",", " "))
os.rename(where + "~", where)
time.sleep(600)
"""


def is_there(pid: int) -> bool:
    """Whether the process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    children = [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text(encoding="ascii").split()
    ]
    return [*children, *(each for child in children for each in descendants(child))]


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def all_gone(pids: list[int]) -> bool:
    return not any(map(is_there, pids))


@pytest.fixture
def environment(write_function: WriteFunction) -> Iterator[ExecutionEnvironment]:
    """Return an environment whose function leaves processes behind."""
    folder = str(write_function(FAMILY))
    environment = ExecutionEnvironment(timeout_ms=20_000, keep_log=True)
    variables = function_environment(environment, task_root=folder)
    with supervise(environment, [*FAST_WAY_IN, "app.handler"], variables, cwd=folder):
        yield environment


def test_closing_leaves_nothing_behind(environment: ExecutionEnvironment) -> None:
    pids = json.loads(environment.invoke(b"0").payload)
    reaper = parent_of(pids[0])
    assert name_of(reaper) == "caloric-reaper"
    assert parent_of(pids[2]) == reaper, "who left the family is the reaper's child"
    assert all(map(is_there, pids))
    environment.close()
    # Not soon: when close returns.
    assert all_gone([*pids, reaper])


def test_a_timeout_leaves_nothing_of_the_old_process_behind(environment: ExecutionEnvironment) -> None:
    pids = json.loads(environment.invoke(b"0").payload)
    result = environment.invoke(b'"/dev/null/x"', timeout_ms=1)
    assert result.status == "timeout"
    assert all_gone(pids)
    assert environment.invoke(b"1").function_error is None


def test_an_exit_is_told_as_it_was_and_leaves_nothing_behind(environment: ExecutionEnvironment) -> None:
    pids = json.loads(environment.invoke(b"0").payload)
    result = environment.invoke(b"3")
    assert "Runtime exited with error: exit status 3" in json.loads(result.payload)["errorMessage"]
    assert all_gone(pids)


@pytest.mark.parametrize("how", ["command", "library"])
def test_killing_the_parent_leaves_nothing_behind(
    how: str, write_function: WriteFunction, tmp_path: Path
) -> None:
    folder, where = write_function(FAMILY), tmp_path / "pids"
    if how == "command":
        command = [CALORIC, "invoke", "app.handler", "--timeout", "60"]
        command += ["--event", json.dumps(str(where))]
    else:
        command = [sys.executable, "-c", PROGRAM, str(where), *FAST_WAY_IN, "app.handler"]
    variables = variables_for("")
    del variables["AWS_LAMBDA_RUNTIME_API"]
    # In a group of its own, which is then killed as a whole: the reaper is not to go with it.
    with subprocess.Popen(
        command, cwd=folder, env=variables, stderr=subprocess.PIPE, start_new_session=True
    ) as parent:
        wait_until(where.exists)
        pids = [int(pid) for pid in where.read_text(encoding="ascii").split()]
        reaper = parent_of(pids[0])
        assert all(map(is_there, [*pids, reaper]))
        assert parent_of(reaper) == parent.pid
        os.killpg(parent.pid, signal.SIGKILL)
        # Ends only when nobody has it open any more: the reaper does not hold on to the function's output.
        parent.communicate(timeout=30)
        wait_until(lambda: all_gone([*pids, reaper]))


@pytest.mark.parametrize("freezer", FREEZERS)
def test_killing_the_parent_of_a_frozen_environment_leaves_nothing_behind(
    freezer: str, write_function: WriteFunction, tmp_path: Path, make_extension: MakeExtension
) -> None:
    skip_unless_usable(freezer)
    folder, where = write_function(FAMILY), tmp_path / "pids"
    command = [sys.executable, "-c", FROZEN, str(where), str(make_extension("observer", "events"))]
    variables = variables_for("")
    del variables["AWS_LAMBDA_RUNTIME_API"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    variables |= {"TMPDIR": str(temporary), "CALORIC_FREEZER": freezer, "JOURNAL": str(tmp_path / "journal")}
    with subprocess.Popen([*command, *FAST_WAY_IN, "app.handler"], cwd=folder, env=variables) as parent:
        wait_until(where.exists)
        family = [int(pid) for pid in where.read_text(encoding="ascii").split()]
        # The child that the function has stopped is none of theirs.
        wait_until(lambda: all(map(is_frozen, family)))
        pids = descendants(parent.pid)
        assert len(pids) == 2 + len(family) + 1, "two reapers, the function's, the extension"
        assert len(groups(parent.pid)) == (freezer != "signals")
        assert list(temporary.iterdir())
        parent.kill()
        wait_until(lambda: all_gone(pids))
    wait_until(lambda: not groups(parent.pid))
    wait_until(lambda: not list(temporary.iterdir()))


def test_a_fork_of_the_parent_does_not_keep_the_processes_alive(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    folder, where = write_function(FAMILY), tmp_path / "pids"
    forking = PROGRAM.replace(
        "environment.invoke", "import os, time\nif os.fork() == 0: time.sleep(60)\nenvironment.invoke"
    )
    command = [sys.executable, "-W", "ignore", "-c", forking, str(where), *FAST_WAY_IN, "app.handler"]
    with subprocess.Popen(command, cwd=folder, start_new_session=True) as parent:
        try:
            wait_until(where.exists)
            pids = [int(pid) for pid in where.read_text(encoding="ascii").split()]
            parent.kill()
            wait_until(lambda: all_gone(pids))
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def test_the_program_goes_with_its_reaper(environment: ExecutionEnvironment) -> None:
    runtime, *children = json.loads(environment.invoke(b"0").payload)
    try:
        os.kill(parent_of(runtime), signal.SIGKILL)
        wait_until(lambda: not is_there(runtime))
        # The first may still have been handed to the process that ended.
        wait_until(lambda: environment.invoke(b"1").function_error is None)
    finally:
        # The reaper would have, and nobody else is there for it.
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def test_ctrl_c_in_a_terminal_is_not_for_the_reaper(environment: ExecutionEnvironment) -> None:
    runtime = json.loads(environment.invoke(b"0").payload)[0]
    reaper = parent_of(runtime)
    assert os.getpgid(reaper) == reaper
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        os.kill(reaper, number)
    assert json.loads(environment.invoke(b"1").payload)[0] == runtime


def test_variables_for_the_dynamic_linker_are_the_functions_alone(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    source = """
        import os

        def handler(event, context):
            return [os.environ["LD_PRELOAD"], os.environ["EMPTY"]]
    """
    folder, output = str(write_function(source)), tmp_path / "output"
    with output.open("wb") as file, ExecutionEnvironment(timeout_ms=20_000) as environment:
        variables = {
            **function_environment(environment, task_root=folder),
            "LD_PRELOAD": "/no/such/library.so",
            "EMPTY": "",
        }
        with supervise(
            environment, [*FAST_WAY_IN, "app.handler"], variables, cwd=folder, output_fd=file.fileno()
        ):
            assert json.loads(environment.invoke(b"0").payload) == ["/no/such/library.so", ""]
    # The linker complains once for each program that is executed: the runtime, not the reaper.
    assert output.read_text().count("/no/such/library.so") == 1
