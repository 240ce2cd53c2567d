"""An init that is run again within the invocation, with real processes (spec extensions-telemetry 3.1 and 3.3)."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from caloric._rust import ExecutionEnvironment
from caloric.cli.options import FAST_WAY_IN
from caloric.local.extensions import launch_extensions
from caloric.local.process import function_environment, supervise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caloric._rust import InvokeResult
    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")

# Each start counts itself in the environment's own temporary folder, which a reset keeps.
COUNTS = """
    import os, pathlib, time
    starts = pathlib.Path(os.environ["TMPDIR"], "starts")
    count = int(starts.read_text()) + 1 if starts.exists() else 1
    starts.write_text(str(count))
    print("start", count)
"""

HANDLER = """
    def handler(event, context):
        if event == "die":
            os._exit(9)
        if event == "hang":
            time.sleep(60)
        return [count, context.get_remaining_time_in_millis() > 0]
"""


class Start(Protocol):
    """The type of the `start` fixture."""

    def __call__(self, init: str, **options: Any) -> ExecutionEnvironment: ...


@pytest.fixture
def start(write_function: WriteFunction) -> Iterator[Start]:
    """Return a function that makes an environment of a function with the given lines at its import."""
    environments: list[ExecutionEnvironment] = []

    def make(init: str, **options: Any) -> ExecutionEnvironment:
        root = str(write_function(COUNTS + init + HANDLER))
        environment = ExecutionEnvironment(**{"timeout_ms": 30_000, "keep_log": True, **options})
        variables = function_environment(environment, task_root=root)
        supervise(environment, [*FAST_WAY_IN, "app.handler"], variables, cwd=root)
        environments.append(environment)
        return environment

    yield make
    for environment in environments:
        environment.close()


def lines(result: InvokeResult) -> list[str]:
    return result.log.decode().splitlines()


def platform_lines(result: InvokeResult) -> list[str]:
    """The platform's lines, without what differs each time."""
    kinds = ("INIT_REPORT", "START", "END", "REPORT")
    cut = {"INIT_REPORT": 1, "REPORT": 5}
    found = [line for line in lines(result) if line.startswith(kinds)]
    return [
        " ".join([line.split()[0], *line.split("\t")[cut.get(line.split()[0], 99) :]]).strip()
        for line in found
    ]


def test_an_import_that_fails_once_is_no_error(start: Start) -> None:
    environment = start("""
    if count == 1:
        raise RuntimeError("not yet")
""")
    result = environment.invoke(b"0")
    assert json.loads(result.payload) == [2, True]
    assert (result.status, result.function_error, result.init_duration_ms) == ("success", None, None)
    assert platform_lines(result) == [
        "INIT_REPORT Phase: init Status: error Error Type: Runtime.Unknown",
        "START",
        "END",
        "REPORT",
    ]
    log = result.log.decode()
    assert log.index("start 1\n") < log.index("INIT_REPORT") < log.index("start 2\n") < log.index("START ")
    phases = result.phases
    assert phases["failed_init_ms"] > 0
    inside = ("process_start_ms", "runtime_init_ms", "response_ms", "after_response_ms")
    assert sum(phases[name] for name in inside) == pytest.approx(result.duration_ms, abs=0.1)
    assert result.billed_duration_ms - 1 < result.duration_ms <= result.billed_duration_ms
    following = environment.invoke(b"0")
    assert json.loads(following.payload) == [2, True]
    assert [line.split()[0] for line in lines(following)] == ["START", "END", "REPORT"]


def test_an_import_that_is_too_slow_once_has_the_functions_time_limit(start: Start) -> None:
    environment = start(
        """
    time.sleep(60 if count == 1 else 0.6)
    """,
        init_timeout_ms=500,
    )
    result = environment.invoke(b"0")
    assert json.loads(result.payload) == [2, True]
    assert platform_lines(result)[0] == "INIT_REPORT Phase: init Status: timeout"
    assert result.duration_ms > 600, "its own init is part of the invocation"


def test_an_import_that_always_fails_is_tried_twice_and_told_once(start: Start) -> None:
    environment = start("""
    raise RuntimeError(f"start {count}")
    """)
    result = environment.invoke(b"0")
    document = json.loads(result.payload)
    assert (document["errorType"], document["errorMessage"]) == ("RuntimeError", "start 2")
    assert (result.status, result.function_error) == ("error", "Unhandled")
    assert platform_lines(result) == [
        "INIT_REPORT Phase: init Status: error Error Type: Runtime.Unknown",
        "INIT_REPORT Phase: invoke Status: error Error Type: Runtime.Unknown",
        "START",
        "END",
        "REPORT Status: error Error Type: Runtime.Unknown",
    ]
    following = environment.invoke(b"0")
    assert json.loads(following.payload)["errorMessage"] == "start 3", "once for each further invocation"


def test_the_functions_time_limit_ends_the_init_within_the_invocation(start: Start) -> None:
    environment = start(
        """
    time.sleep(60 if count < 3 else 0)
    """,
        init_timeout_ms=500,
    )
    result = environment.invoke(b"0", timeout_ms=700)
    assert json.loads(result.payload) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {result.request_id} Error: Task timed out after 0.70 seconds",
    }
    assert platform_lines(result) == [
        "INIT_REPORT Phase: init Status: timeout",
        "INIT_REPORT Phase: invoke Status: timeout",
        "START",
        "END",
        "REPORT Status: timeout",
    ]
    assert (result.status, result.duration_ms, result.billed_duration_ms) == ("timeout", 700, 700)
    assert json.loads(environment.invoke(b"0").payload) == [3, True]


@pytest.mark.parametrize(("event", "status"), [("die", "error"), ("hang", "timeout")])
def test_after_a_reset_the_init_belongs_to_the_next_invocation(start: Start, event: str, status: str) -> None:
    environment = start("")
    limit = 30_000 if event == "die" else 1000
    failed = environment.invoke(json.dumps(event).encode(), timeout_ms=limit)
    assert (failed.status, failed.init_duration_ms is not None) == (status, True)
    result = environment.invoke(b"0")
    assert json.loads(result.payload) == [2, True]
    assert result.init_duration_ms is None
    assert "Init Duration" not in result.log.decode()
    assert lines(result)[0] == "start 2", "what init prints comes before START"
    assert 0 < result.phases["runtime_init_ms"] < result.duration_ms
    assert "failed_init_ms" not in result.phases


def test_an_extension_that_crashes_in_the_first_init_is_started_again(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    extension = tmp_path / "unsteady"
    program = Path(__file__).with_name("extension_program.py")
    first = """[ -e "$TMPDIR/tried" ] || { touch "$TMPDIR/tried"; echo "the first time fails"; exit 5; }"""
    extension.write_text(
        f'#!/bin/sh\n{first}\nexec "{sys.executable}" -S "{program}" "$0" events "$#"\n', encoding="utf-8"
    )
    extension.chmod(0o755)
    root = str(write_function(COUNTS + HANDLER))
    with ExecutionEnvironment(timeout_ms=30_000, keep_log=True, extensions=["unsteady"]) as environment:
        journal = {"JOURNAL": str(tmp_path / "journal")}
        variables = function_environment(environment, task_root=root, user=journal)
        launch_extensions(environment, {"unsteady": str(extension)}, variables)
        supervise(environment, [*FAST_WAY_IN, "app.handler"], variables, cwd=root)
        result = environment.invoke(b"0")
        assert json.loads(result.payload) == [1, True], "the runtime was not started the first time"
    assert result.extension_log.startswith(b"[unsteady] the first time fails\n")
    assert platform_lines(result)[0] == "INIT_REPORT Phase: init Status: error Error Type: Extension.Crash"
    assert b"EXTENSION\tName: unsteady\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\nSTART " in result.log


def test_invoke_shows_both_attempts_and_one_result(write_function: WriteFunction) -> None:
    root = write_function(COUNTS + '\n    raise RuntimeError("on purpose")\n')
    done = subprocess.run(
        [CALORIC, "invoke", "app.handler", "--timeout", "20"],
        cwd=root,
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.count(b"\n") == 1
    assert json.loads(done.stdout)["errorMessage"] == "on purpose"
    printed = [line for line in done.stderr.decode().splitlines() if line.startswith(("start", "INIT"))]
    assert [line.split("\t")[1] if "\t" in line else line for line in printed] == [
        "start 1",
        "Phase: init",
        "start 2",
        "Phase: invoke",
    ]
