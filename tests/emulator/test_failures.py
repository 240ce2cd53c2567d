"""Time limits, crashes and failed inits: what the caller gets, and that the next invocation starts anew."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.emulator.emulators import (
    PATIENCE,
    Emulator,
    children_of,
    is_alive,
    runtime,
    script,
    wait_until_gone,
)
from tests.emulator.rows import shows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteFunction
    from tests.emulator.emulators import Kind

# Does what the event says, and answers with its pid.
OBEYS = """
import subprocess
while True:
    rid, event = take()
    if b"exit" in event:
        os._exit(3)
    if b"kill" in event:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"sleep" in event:
        child = subprocess.Popen(["sleep", "600"])
        print("child", child.pid, flush=True)
        time.sleep(600)
    respond(rid, os.getpid())
"""


@shows("after a time limit: a new process", "the time limit: the process is killed")
def test_a_time_limit_kills_the_runtime_and_the_next_invocation_starts_it_anew(
    kind: Kind, tmp_path: Path
) -> None:
    variables = {"AWS_LAMBDA_FUNCTION_TIMEOUT": "2"}
    with Emulator(kind, tmp_path, script(tmp_path, OBEYS), variables=variables) as emulator:
        first = emulator.invoke().json()
        answer = emulator.invoke("sleep")
        assert answer.status == 200
        if kind == "aws":
            assert answer.body == b"Task timed out after 2.00 seconds"
        else:
            error = answer.json()
            assert error["errorType"] == "Sandbox.Timedout"
            assert error["errorMessage"].endswith("Error: Task timed out after 2.00 seconds")
            assert answer.headers["X-Amz-Function-Error"] == "Unhandled"
        wait_until_gone(first)
        second = emulator.invoke().json()
        assert second != first
        report = emulator.wait_for_log(lambda _: len(emulator.reports()) == 3) and emulator.reports()[1]
        assert "\tDuration: 2000.00 ms\t" in report


@shows("after a crash: a new process")
@pytest.mark.parametrize(("how", "reason"), [("exit", "exit status 3"), ("kill", "signal: killed")])
def test_a_crash_is_told_and_the_next_invocation_starts_anew(
    kind: Kind, tmp_path: Path, how: str, reason: str
) -> None:
    with Emulator(kind, tmp_path, script(tmp_path, OBEYS)) as emulator:
        first = emulator.invoke().json()
        answer = emulator.invoke(how)
        assert answer.status == (502 if kind == "aws" else 200)
        assert answer.json()["errorType"] == "Runtime.ExitError"
        assert answer.json()["errorMessage"].endswith(f"Error: Runtime exited with error: {reason}")
        assert emulator.invoke().json() != first


def test_a_reported_init_error_is_the_answer(kind: Kind, tmp_path: Path) -> None:
    source = """
document = b'{"errorType":"My.Error","errorMessage":"no such luck"}'
status, _, _ = call("POST", "/runtime/init/error", document, {"Lambda-Runtime-Function-Error-Type": "My.Error"})
print("told", status, flush=True)
sys.exit(1)
"""
    with Emulator(kind, tmp_path, script(tmp_path, source)) as emulator:
        answer = emulator.invoke()
        assert answer.status == (502 if kind == "aws" else 200)
        assert answer.json() == {"errorType": "My.Error", "errorMessage": "no such luck"}
        assert answer.headers["X-Amz-Function-Error"] == (None if kind == "aws" else "Unhandled")
        assert "told 202" in emulator.log


@shows("after a failed init: another try")
def test_after_a_failed_init_the_next_invocation_tries_again(kind: Kind, tmp_path: Path) -> None:
    # With both emulators a first failure may be tried again before it is told.
    source = f"""
flag = {str(tmp_path / "works")!r}
if not os.path.exists(flag):
    call("POST", "/runtime/init/error", b'{{"errorType":"My.Error"}}')
    sys.exit(1)
while True:
    rid, _ = take()
    respond(rid, "works")
"""
    with Emulator(kind, tmp_path, script(tmp_path, source)) as emulator:
        assert emulator.invoke().json() == {"errorType": "My.Error"}
        (tmp_path / "works").touch()
        assert emulator.invoke().json() == "works"


def test_a_runtime_that_exits_at_once_is_an_error(kind: Kind, tmp_path: Path) -> None:
    with Emulator(kind, tmp_path, ["sh", "-c", "exit 4"]) as emulator:
        answer = emulator.invoke()
    if kind == "aws":
        assert (answer.status, answer.body) == (502, b"")
    else:
        assert answer.json()["errorMessage"].endswith("Runtime exited with error: exit status 4")


@shows("SIGTERM and SIGINT")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_emulator_and_its_runtime(
    kind: Kind, tmp_path: Path, number: signal.Signals
) -> None:
    with Emulator(kind, tmp_path, script(tmp_path, OBEYS)) as emulator:
        pid = emulator.invoke().json()
        assert os.getpgid(pid) != os.getpgid(emulator.process.pid)
        assert emulator.end(number) == 0
        wait_until_gone(pid)


def test_the_end_while_an_invocation_runs_leaves_nothing(tmp_path: Path) -> None:
    with Emulator("caloric", tmp_path, script(tmp_path, OBEYS)) as emulator:
        call = emulator.start_invoking("sleep")
        log = emulator.wait_for_log(lambda log: "child " in log)
        child = int(log.split("child ")[1].split()[0])
        processes = children_of(emulator.process.pid)
        assert child in processes
        assert is_alive(child)
        assert emulator.end() == 0
        wait_until_gone(*processes)
        # Its connection is gone with the emulator, with or without an answer before.
        assert call.exception(PATIENCE) is not None or call.result().json()["errorType"] == "Sandbox.Failure"


def test_a_second_request_waits_here(write_function: WriteFunction, tmp_path: Path) -> None:
    # AWS's emulator answers 400, or crashes.
    source = f"""
        import os, time

        def handler(event, context):
            print("busy", flush=True)
            while not os.path.exists({str(tmp_path / "go")!r}):
                time.sleep(0.002)
            return event
    """
    with Emulator("caloric", write_function(source), runtime("caloric")) as emulator:
        calls = [emulator.start_invoking(number) for number in range(3)]
        emulator.wait_for_log(lambda log: "busy" in log)
        assert not any(call.done() for call in calls)
        (tmp_path / "go").touch()
        assert [call.result(PATIENCE).json() for call in calls] == [0, 1, 2]
