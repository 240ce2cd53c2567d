"""Max Memory Used, over all processes of an environment, and what happens above the function's setting."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from caloric._rust import ExecutionEnvironment, InvokeResult
from caloric.cli.options import FAST_WAY_IN
from caloric.local.process import function_environment, supervise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
FUNCTION = """
    import os, signal, time

    MB = 1 << 20

    def children(count, size):
        # They share what this process has, and each has its own besides.
        for _ in range(count):
            read, write = os.pipe()
            if os.fork() == 0:
                block = bytearray(os.urandom(1)) * (size * MB)
                os.write(write, b"x")
                time.sleep(600)
            os.read(read, 1)

    def handler(event, context):
        what, size = event
        if what == "block":
            block = bytearray(b"x") * (size * MB)
        if what == "hold":
            block = bytearray(b"x") * (size * MB)
            time.sleep(10)
        if what == "keep":
            global kept
            kept = bytearray(b"x") * (size * MB)
        if what == "wait":
            time.sleep(0.3)
        if what == "children":
            children(3, size)
        if what == "children and wait":
            children(3, size)
            time.sleep(10)
        return "done"
"""


class Start(Protocol):
    """The type of the `start` fixture."""

    def __call__(self, source: str = FUNCTION, **options: Any) -> ExecutionEnvironment: ...


@pytest.fixture(params=["signals", "auto"])
def start(write_function: WriteFunction, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Return a function that makes an environment of the function above."""
    environments: list[ExecutionEnvironment] = []

    def make(source: str = FUNCTION, **options: Any) -> ExecutionEnvironment:
        folder = str(write_function(source))
        settings = {"timeout_ms": 20_000, "keep_log": True, "freezer": request.param, **options}
        environment = ExecutionEnvironment(**settings)
        variables = function_environment(environment, task_root=folder)
        supervise(environment, [*FAST_WAY_IN, "app.handler"], variables, cwd=folder)
        environments.append(environment)
        return environment

    yield make
    for environment in environments:
        environment.close()


def invoke(environment: ExecutionEnvironment, what: str, size: int = 0) -> InvokeResult:
    return environment.invoke(json.dumps([what, size]).encode())


def test_a_short_peak_of_the_process_itself_is_not_missed(start: Start) -> None:
    environment = start(memory_size_mb=1000)
    small = invoke(environment, "nothing").max_memory_used_mb
    assert 5 < small < 60
    assert small + 98 <= invoke(environment, "block", 100).max_memory_used_mb <= small + 110


def test_child_processes_count_and_what_they_share_counts_once(start: Start) -> None:
    environment = start(memory_size_mb=1000)
    shared = invoke(environment, "keep", 60).max_memory_used_mb
    together = invoke(environment, "children", 20).max_memory_used_mb
    # Three times 20, a little for each interpreter; not three times the 60 they share. What other processes on this
    # machine have in common with these, such as the interpreter's own code, is divided among all of them.
    assert shared + 45 <= together <= shared + 110


@pytest.mark.parametrize("what", ["hold", "children and wait"])
def test_more_than_the_setting_is_the_end(start: Start, what: str) -> None:
    environment = start(memory_size_mb=128)
    invoke(environment, "nothing")
    result = invoke(environment, what, 150 if what == "hold" else 60)
    message = f"RequestId: {result.request_id} Error: Runtime exited with error: signal: killed"
    assert json.loads(result.payload) == {"errorType": "Runtime.OutOfMemory", "errorMessage": message}
    assert (result.status, result.function_error) == ("error", "Unhandled")
    assert result.error_type == "Runtime.OutOfMemory"
    assert result.log.decode().endswith(
        "\tMemory Size: 128 MB\tMax Memory Used: 128 MB\tStatus: error\tError Type: Runtime.OutOfMemory\n"
    )
    after = invoke(environment, "nothing")
    assert after.payload == b'"done"'
    assert after.phases["runtime_init_ms"] > 0, "a new process"
    assert after.max_memory_used_mb < 60


def test_too_much_in_the_init_phase_fails_the_init(start: Start) -> None:
    source = """
        import time
        block = bytearray(b"x") * (200 << 20)
        time.sleep(10)
        def handler(event, context): return "never"
    """
    environment = start(source, memory_size_mb=128)
    result = environment.invoke(b"0")
    assert result.error_type == "Runtime.OutOfMemory"
    for line, phase in zip(result.log.decode().splitlines(), ("init", "invoke"), strict=False):
        assert line.startswith("INIT_REPORT Init Duration: ")
        assert line.endswith(f"\tPhase: {phase}\tStatus: error\tError Type: Runtime.OutOfMemory")


def test_what_an_earlier_invocation_had_is_not_this_ones_fault(start: Start) -> None:
    environment = start(memory_size_mb=128)
    # Too short to be caught, on a machine that is quick enough; caught on others, and then a new process answers.
    invoke(environment, "block", 140)
    assert invoke(environment, "wait").payload == b'"done"'


def test_the_command_says_what_to_do(write_function: WriteFunction) -> None:
    command = [CALORIC, "invoke", "app.handler", "--event", '["hold", 150]', "--timeout", "20"]
    run = subprocess.run(command, cwd=write_function(FUNCTION), capture_output=True, timeout=50)
    assert run.returncode == 1
    assert json.loads(run.stdout)["errorType"] == "Runtime.OutOfMemory"
    assert run.stderr.decode().splitlines()[-1] == (
        "caloric invoke: the function used more than its 128 MB; --memory MB gives it more"
    )
