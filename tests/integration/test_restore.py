"""SnapStart on our endpoint, with every runtime (spec runtime-api 1.8 and 5)."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from caloric._rust import ExecutionEnvironment
from caloric.local.process import function_environment, supervise
from tests.runtimes import COMMANDS, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")

HOOKS = """
    import os, sys, time
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    restored = None

    @register_before_snapshot
    def before():
        print("before")
        {before}

    @register_after_restore
    def after():
        global restored
        restored = time.time()
        print("after")
        {after}

    def handler(event, context):
        print("handler")
        return {{
            "variables": dict(os.environ),
            "log": [context.log_group_name, context.log_stream_name],
            "version": context.function_version,
            "pid": os.getpid(),
        }}
"""


def hooks(before: str = "pass", after: str = "pass") -> str:
    return HOOKS.format(before=before, after=after)


@contextlib.contextmanager
def function(way: str, folder: Path, **options: Any) -> Iterator[ExecutionEnvironment]:
    """The function in `folder` on an environment with SnapStart."""
    settings = {"snap_start": True, "keep_log": True, "timeout_ms": 10_000, **options}
    with ExecutionEnvironment(**settings) as made:
        variables = function_environment(
            made, handler="app.handler", task_root=os.fspath(folder), base=environment(made.address)
        )
        with supervise(made, [*COMMANDS[way], "app.handler"], variables, cwd=os.fspath(folder)):
            yield made


def own_lines(log: bytes) -> list[str]:
    """The log's lines, of the platform's only their first word."""
    return [re.sub(r"^([A-Z_]{3,}) .*", r"\1", line) for line in log.decode().splitlines()]


@pytest.mark.parametrize("way", COMMANDS)
def test_a_function_is_initialised_restored_and_served(way: str, write_function: WriteFunction) -> None:
    with function(way, write_function(hooks(after="time.sleep(0.02)")), function_version="7") as made:
        first, second = made.invoke(b"{}"), made.invoke(b"{}")
    assert own_lines(first.log) == [
        "before",
        "INIT_REPORT",
        "RESTORE_START",
        "after",
        "RESTORE_REPORT",
        "START",
        "handler",
        "END",
        "REPORT",
    ]
    assert own_lines(second.log) == ["START", "handler", "END", "REPORT"]
    assert first.init_duration_ms is not None
    assert first.restore_duration_ms is not None
    assert first.restore_duration_ms >= 20
    assert first.phases["restore_ms"] == first.restore_duration_ms
    assert first.billed_duration_ms >= first.restore_duration_ms + first.duration_ms
    report = first.log.decode().splitlines()[-1]
    assert f"\tRestore Duration: {first.restore_duration_ms:.2f} ms\tBilled Restore Duration: " in report
    assert "Init Duration" not in report
    assert (second.init_duration_ms, second.restore_duration_ms) == (None, None)
    assert "restore_ms" not in second.phases
    seen = json.loads(first.payload)
    assert seen["variables"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start"
    assert not {"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"} & set(seen["variables"])
    assert seen["log"] == [None, None]
    assert seen["version"] == "7"
    assert json.loads(second.payload)["pid"] == seen["pid"]


@pytest.mark.parametrize("way", COMMANDS)
def test_a_function_without_hooks_is_restored_too(way: str, write_function: WriteFunction) -> None:
    with function(way, write_function("def handler(event, context): return event")) as made:
        result = made.invoke(b"[1]")
    assert json.loads(result.payload) == [1]
    assert result.restore_duration_ms is not None


@pytest.mark.parametrize("way", COMMANDS)
def test_without_snapstart_nothing_is_restored(way: str, write_function: WriteFunction) -> None:
    with function(way, write_function(hooks()), snap_start=False) as made:
        result = made.invoke(b"{}")
    assert own_lines(result.log) == ["START", "handler", "END", "REPORT"]
    assert result.restore_duration_ms is None
    assert json.loads(result.payload)["variables"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"


@pytest.mark.parametrize("way", COMMANDS)
@pytest.mark.parametrize("raised", ["raise ValueError('no')", "sys.exit(3)", "raise KeyboardInterrupt"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_that_fails_fails_the_invocation_and_the_next_one_starts_anew(
    way: str, raised: str, when: str, write_function: WriteFunction
) -> None:
    # The second process finds the file and does not fail.
    once = f"if not os.path.exists('failed'): open('failed', 'x'); {raised}"
    with function(way, write_function(hooks(**{when: once}))) as made:
        failed, served = made.invoke(b"{}"), made.invoke(b"{}")
    document = json.loads(failed.payload)
    error_type = {"raise ValueError('no')": "ValueError", "sys.exit(3)": "SystemExit"}.get(
        raised, "KeyboardInterrupt"
    )
    assert document["errorType"] == error_type
    assert (failed.status, failed.function_error) == ("error", "Unhandled")
    assert (failed.init_duration_ms, failed.restore_duration_ms) == (None, None)
    lines = failed.log.decode().splitlines()
    name, kind = {
        "before": ("INIT_REPORT", "Runtime.BeforeSnapshotError"),
        "after": ("RESTORE_REPORT", "Runtime.AfterRestoreError"),
    }[when]
    (reported,) = (line for line in lines if line.startswith(name) and "Error Type" in line)
    assert reported.endswith(f"\tStatus: error\tError Type: {kind}")
    assert lines[-1].endswith(f"\tStatus: error\tError Type: {kind}")
    assert f"[ERROR] {error_type}" in failed.log.decode()
    assert served.status == "success"
    assert served.restore_duration_ms is not None


@pytest.mark.parametrize("way", COMMANDS)
def test_a_restore_hook_that_takes_too_long_is_killed(way: str, write_function: WriteFunction) -> None:
    folder = write_function(hooks(after="time.sleep(60)"))
    with function(way, folder, restore_timeout_ms=300) as made:
        result = made.invoke(b"{}")
    assert json.loads(result.payload) == {
        "errorType": "Runtime.RestoreHookUserTimeout",
        "errorMessage": f"RequestId: {result.request_id} Error: Task timed out after 0.30 seconds in the Restore "
        "phase",
    }
    assert (result.status, result.error_type) == ("timeout", "Runtime.RestoreHookUserTimeout")
    assert re.search(
        r"RESTORE_REPORT Restore Duration: 3\d\d\.\d\d ms\tStatus: timeout\n", result.log.decode()
    )


@pytest.mark.parametrize("way", COMMANDS)
def test_a_process_that_ends_in_its_restore_is_an_exit_error(way: str, write_function: WriteFunction) -> None:
    with function(way, write_function(hooks(after="os._exit(9)"))) as made:
        result = made.invoke(b"{}")
    assert result.error_type == "Runtime.ExitError"
    assert b"exit status 9" in result.payload


def test_an_init_for_a_snapshot_has_a_limit_too(write_function: WriteFunction) -> None:
    folder = write_function(hooks(before="time.sleep(60)"))
    with function("fast", folder, init_timeout_ms=200) as made:
        assert json.loads(made.invoke(b"{}").payload)["errorType"] == "Sandbox.Timedout"


# ---- the commands -------------------------------------------------------------------------------------------------


def test_invoke_shows_the_restore(write_function: WriteFunction) -> None:
    run = subprocess.run(
        [
            CALORIC,
            "invoke",
            "app.handler",
            "--snapstart",
            "--json",
            "--repeat",
            "2",
        ],
        cwd=write_function(hooks()),
        capture_output=True,
        check=True,
    )
    first, second = map(json.loads, run.stdout.splitlines())
    assert first["restoreDurationMs"] == first["phasesMs"]["restore_ms"] > 0
    assert first["initDurationMs"] > 0
    assert second["restoreDurationMs"] is None
    assert first["result"]["version"] == "1", "SnapStart is for published versions"
    assert "RESTORE_REPORT" in first["logs"]


@pytest.mark.parametrize("option", ["--snapstart", "--enable-init-caching"])
@pytest.mark.parametrize("way", COMMANDS)
def test_emulate_restores(way: str, option: str, write_function: WriteFunction) -> None:
    command = [CALORIC, "emulate", "--port", "0", option, "--"]
    with subprocess.Popen(
        [*command, *COMMANDS[way], "app.handler"],
        cwd=write_function(hooks()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr is not None
            match = re.search(rb"http://([\d.]+):(\d+)(\S+)", process.stderr.readline())
            assert match
            host, port, path = (part.decode() for part in match.groups())
            with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=20)) as connection:
                connection.request("POST", path, b"{}")
                response = connection.getresponse()
                seen = json.loads(response.read())
        finally:
            process.terminate()
        _, err = process.communicate(timeout=20)
    assert response.headers["X-Amz-Executed-Version"] == seen["version"] == "1"
    assert seen["log"] == [None, None]
    assert b"RESTORE_REPORT Restore Duration: " in err
