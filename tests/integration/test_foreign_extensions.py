"""Extensions and a runtime that are not ours: AWS's Rust crates, on the endpoint, beside Caloric and awslambdaric."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.parts import foreign
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")

HANDLER = """
    def handler(event, context):
        print("function:", context.aws_request_id)
        return event
"""


def invoke(handler: str, *options: str, folder: Path) -> list[str]:
    """Invoke twice, with the observer as an external extension; return the log's lines."""
    command = [CALORIC, "invoke", handler, "--event", '{"a":1}', "--repeat", "2", "--timeout", "20"]
    run = subprocess.run(
        [
            *command,
            "--extension",
            str(foreign("observer")),
            "--env",
            f"OBSERVER_PORT={free_port()}",
            *options,
        ],
        cwd=folder,
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    assert [json.loads(line) for line in run.stdout.splitlines()] == [{"a": 1}] * 2
    return run.stderr.decode().splitlines()


def request_ids(log: list[str]) -> list[str]:
    return [match[1] for line in log if (match := re.match(r"START RequestId: (\S+) ", line))]


def observed(log: list[str], start: str) -> list[str]:
    """Return what the observer printed after `start`."""
    prefix = f"[observer] {start}"
    return [line.removeprefix(prefix) for line in log if line.startswith(prefix)]


def check_observer(log: list[str]) -> None:
    """It got each event and, parsed by AWS's own types, all telemetry in order."""
    first, second = request_ids(log)
    assert observed(log, "event ") == [f"INVOKE {first}", f"INVOKE {second}", "SHUTDOWN spindown"]
    told = [line.partition(" ")[0] for line in observed(log, "telemetry ")]
    platform = [kind for kind in told if kind not in ("Function", "PlatformExtension")]
    assert platform == [
        "PlatformInitStart",
        "PlatformTelemetrySubscription",
        "PlatformInitRuntimeDone",
        "PlatformInitReport",
        *["PlatformStart", "PlatformRuntimeDone", "PlatformReport"] * 2,
    ]
    lines = observed(log, "telemetry Function ")
    assert f'"function: {first}\\n"' in lines
    assert f'"function: {second}\\n"' in lines


def test_a_rust_runtime_with_an_internal_and_an_external_extension(tmp_path: Path) -> None:
    log = invoke("handler", "--runtime", str(foreign("echo")), folder=tmp_path)
    assert "EXTENSION\tName: observer\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in log
    assert "EXTENSION\tName: internal\tState: Ready\tEvents: [INVOKE]" in log
    check_observer(log)
    for request_id in request_ids(log):
        assert f"internal extension: {request_id}" in log


@pytest.mark.parametrize("runtime", ["caloric", "awslambdaric"])
def test_a_rust_extension_beside_a_python_runtime(write_function: WriteFunction, runtime: str) -> None:
    command = f"{sys.executable} -m {runtime} app.handler"
    log = invoke("app.handler", "--runtime", command, folder=write_function(HANDLER))
    check_observer(log)


def test_the_internal_extension_alone_gives_the_runtime_its_half_second(tmp_path: Path) -> None:
    command = [CALORIC, "invoke", "handler", "--runtime", str(foreign("echo"))]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=50, check=False)
    assert (run.returncode, run.stdout) == (0, b"{}\n"), run.stderr.decode()
    (request_id,) = request_ids(run.stderr.decode().splitlines())
    assert f"internal extension: {request_id}\n" in run.stderr.decode()
