"""The folder that stands in for `/tmp`: one for each environment, kept over resets, gone at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from caloric._rust import ExecutionEnvironment
from caloric.cli.options import FAST_WAY_IN
from caloric.local.process import function_environment, supervise
from tests.runtimes import environment as variables_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
FUNCTION = """
    import os, tempfile, time

    def handler(event, context):
        folder = tempfile.gettempdir()
        if event == "exit":
            os._exit(1)
        with open(os.path.join(folder, event), "w") as file:
            file.write("x")
        if event == "wait":
            time.sleep(600)
        return [folder, sorted(os.listdir(folder))]
"""


def invoke(environment: ExecutionEnvironment, event: str) -> Any:
    return json.loads(environment.invoke(json.dumps(event).encode()).payload)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def test_what_a_process_left_is_there_for_the_next_and_gone_at_the_end(write_function: WriteFunction) -> None:
    folder = str(write_function(FUNCTION))
    environment = ExecutionEnvironment(timeout_ms=20_000)
    variables = function_environment(environment, task_root=folder)
    with supervise(environment, [*FAST_WAY_IN, "app.handler"], variables, cwd=folder):
        temporary, files = invoke(environment, "first")
        assert temporary == environment.temporary_folder
        assert files == ["first"]
        assert invoke(environment, "exit")["errorType"] == "Runtime.ExitError"
        assert invoke(environment, "second") == [temporary, ["first", "second"]]
    assert not Path(temporary).exists()
    with pytest.raises(RuntimeError, match="is closed"):
        environment.temporary_folder  # noqa: B018


def test_each_environment_has_its_own_and_it_is_private() -> None:
    with ExecutionEnvironment() as first, ExecutionEnvironment() as second:
        assert first.temporary_folder == first.temporary_folder != second.temporary_folder
        assert Path(first.temporary_folder).stat().st_mode & 0o777 == 0o700
        assert function_environment(first)["TMPDIR"] == first.temporary_folder
        assert function_environment(first, user={"TMPDIR": "/mine"})["TMPDIR"] == "/mine"


def test_it_is_gone_even_when_the_parent_is_killed(write_function: WriteFunction, tmp_path: Path) -> None:
    folder, machines = write_function(FUNCTION), tmp_path / "tmp"
    machines.mkdir()
    variables = {**variables_for(""), "TMPDIR": str(machines)}
    del variables["AWS_LAMBDA_RUNTIME_API"]
    command = [CALORIC, "invoke", "app.handler", "--timeout", "60", "--event", '"wait"']
    with subprocess.Popen(command, cwd=folder, env=variables, stderr=subprocess.DEVNULL) as parent:
        wait_until(lambda: bool(list(machines.glob("caloric-*/tmp/wait"))))
        parent.send_signal(signal.SIGKILL)
        parent.wait(20)
    wait_until(lambda: not os.listdir(machines))


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    script = "from caloric._rust import ExecutionEnvironment as E\ntry: E().temporary_folder\n"
    script += "except OSError as error: print(error.strerror)"
    variables = {**os.environ, "TMPDIR": str(tmp_path / "missing")}
    run = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, timeout=30)
    assert run.stdout == b"cannot make a folder for temporary files: No such file or directory\n"


@pytest.mark.parametrize(
    "command", [["invoke", "app.handler"], ["emulate", "--port", "0", "--", "true", "x"]]
)
def test_the_commands_say_so_in_a_sentence(command: list[str], tmp_path: Path) -> None:
    variables = {**variables_for(""), "TMPDIR": str(tmp_path / "missing")}
    run = subprocess.run([CALORIC, *command], env=variables, capture_output=True, timeout=30)
    assert run.returncode == 2
    assert run.stderr.decode().splitlines() == [
        f"caloric {command[0]}: cannot make a folder for temporary files: No such file or directory (TMPDIR)"
    ]
