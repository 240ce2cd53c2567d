"""`caloric.extension`: real processes on our endpoint, what they are told, and what becomes of their failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.integration.test_extension_protocol import REGISTERED
from tests.integration.test_extensions import HANDLER, Function
from tests.runtimes import environment as variables_for
from tests.scripted_api import ScriptedApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import WriteFunction

# What every extension of these tests begins and ends with. It is found by its own shebang, as a user's would be.
BEGIN = """\
    #!/usr/bin/env python3
    import json, os, sys, time
    from caloric.extension import Extension, ExtensionError

    extension = Extension()

    def note(kind, value):
        with open(os.environ["JOURNAL"], "a", encoding="utf-8") as journal:
            journal.write(json.dumps([extension.name, kind, value]) + "\\n")

    """
TELEMETRY = """\
    @extension.on_telemetry("platform", "function", timeout_ms=25)
    def telemetry(records):
        for record in records:
            note("telemetry", record)
    """
SHUTDOWN = """\
    @extension.on_shutdown
    def shutdown(event):
        note("shutdown", [event.reason, event.get_remaining_time_in_millis()])
    """


class MakeExtension(Protocol):
    """The type of the `sdk_extension` fixture."""

    def __call__(self, *sources: str) -> Path: ...


@pytest.fixture
def sdk_extension(tmp_path: Path) -> MakeExtension:
    """Return a function that writes an extension of these callbacks, and returns its path."""

    def make(*sources: str) -> Path:
        path = tmp_path / "extensions" / "observer"
        path.parent.mkdir(exist_ok=True)
        program = [dedent(source) for source in (BEGIN, *sources, "extension.run()\n")]
        path.write_text("\n".join(program), encoding="utf-8")
        path.chmod(0o755)
        return path

    return make


class MakeFunction(Protocol):
    """The type of the `function` fixture."""

    def __call__(self, *extensions: Path, **options: Any) -> Function: ...


@pytest.fixture
def function(write_function: WriteFunction, tmp_path: Path) -> Iterator[MakeFunction]:
    """Return a function that makes an environment with a handler and the given extensions."""
    made: list[Function] = []

    def make(*extensions: Path, **options: Any) -> Function:
        limits = {"timeout_ms": 20_000, "init_timeout_ms": 30_000}
        root = write_function(HANDLER)
        made.append(Function(root, tmp_path / "journal", list(extensions), **{**limits, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


# ---- events ------------------------------------------------------------------------------------------------------


def test_an_extension_is_told_of_the_function_its_invocations_and_its_end(
    function: MakeFunction, sdk_extension: MakeExtension
) -> None:
    source = """
        @extension.on_init
        def init():
            e = extension
            note("init", [e.function_name, e.function_version, e.handler, e.account_id, e.receives_telemetry])

        @extension.on_invoke
        def invoked(event):
            left = event.get_remaining_time_in_millis()
            note("invoke", [event.request_id, event.invoked_function_arn, left, event.raw["deadlineMs"]])
            note("trace", event.trace_id)
    """
    environment = function(sdk_extension(source, SHUTDOWN))
    results = [environment.environment.invoke(b"%d" % number) for number in range(2)]
    environment.close()
    assert environment.notes("init") == [["test_function", "$LATEST", "app.handler", "012345678912", False]]
    invoked = environment.notes("invoke")
    arn = environment.environment.function_arn
    assert [one[:2] for one in invoked] == [[result.request_id, arn] for result in results]
    assert all(0 < left <= 20_000 for _, _, left, _ in invoked)
    assert all(trace.startswith("Root=") for trace in environment.notes("trace"))
    ((reason, left),) = environment.notes("shutdown")
    assert reason == "spindown"
    assert 0 < left <= 2000


@pytest.mark.parametrize(
    ("source", "events"),
    [
        ("@extension.on_invoke\ndef f(event): pass", "[INVOKE]"),
        ("@extension.on_shutdown\ndef f(event): pass", "[SHUTDOWN]"),
        ('@extension.on_telemetry("function")\ndef f(records): pass', "[SHUTDOWN]"),
        ("", "[]"),
    ],
)
def test_it_registers_for_what_it_has_callbacks_for(
    function: MakeFunction, sdk_extension: MakeExtension, source: str, events: str
) -> None:
    result = function(sdk_extension(source)).environment.invoke(b"1")
    assert f"EXTENSION\tName: observer\tState: Ready\tEvents: {events}\n" in result.log.decode()


@pytest.mark.parametrize(
    ("event", "reason", "error_type"),
    [(b'"die"', "failure", "Runtime.ExitError"), (b'"hang"', "timeout", "Sandbox.Timedout")],
)
def test_after_a_reset_it_is_started_anew_and_loses_no_telemetry(
    function: MakeFunction, sdk_extension: MakeExtension, event: bytes, reason: str, error_type: str
) -> None:
    environment = function(sdk_extension(TELEMETRY, SHUTDOWN), timeout_ms=3000)
    failed = environment.environment.invoke(event)
    assert failed.error_type == error_type
    assert [one for one, _ in environment.notes("shutdown")] == [reason]
    # The end of the invocation was told before; its report comes only when the extension is gone.
    told = {record["type"]: record["record"] for record in environment.notes("telemetry")}
    assert told["platform.runtimeDone"]["status"] == {"failure": "error", "timeout": "timeout"}[reason]
    assert environment.environment.invoke(b'"again"').payload == b'"again"'
    environment.close()
    reports = [one for one in environment.notes("telemetry") if one["type"] == "platform.report"]
    assert [one["record"]["status"] for one in reports] == [
        told["platform.runtimeDone"]["status"],
        "success",
    ]


# ---- telemetry ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", [True, False])
def test_all_telemetry_is_delivered_before_the_shutdown_callback(
    function: MakeFunction, sdk_extension: MakeExtension, freeze: bool
) -> None:
    environment = function(sdk_extension(TELEMETRY, SHUTDOWN), freeze=freeze)
    ids = []
    for number in range(5):
        ids.append(environment.environment.invoke(b"%d" % number).request_id)
        # Longer than until it is frozen, so that there is a freeze to get over.
        time.sleep(0.02)
    environment.close()
    journal = [json.loads(line)[1:] for line in environment.journal.read_text(encoding="utf-8").splitlines()]
    assert [kind for kind, _ in journal].index("shutdown") == len(journal) - 1
    told = [value for kind, value in journal if kind == "telemetry"]
    reports = [one["record"]["requestId"] for one in told if one["type"] == "platform.report"]
    assert reports == ids
    lines = [one["record"] for one in told if one["type"] == "function"]
    assert lines == [f"the function says {number}\n" for number in range(5)]
    assert all(set(one) == {"time", "type", "record"} for one in told)


def test_each_function_gets_its_own_types(function: MakeFunction, sdk_extension: MakeExtension) -> None:
    source = """
        @extension.on_telemetry("platform", max_items=1000)
        def platform(records):
            note("platform", [record["type"] for record in records])

        @extension.on_telemetry("function", "extension", timeout_ms=25)
        def lines(records):
            note("lines", [record["type"] for record in records])

        @extension.on_invoke
        def invoked(event):
            print("a line of the extension")
    """
    environment = function(sdk_extension(source))
    result = environment.environment.invoke(b"1")
    environment.close()
    platform = {kind for batch in environment.notes("platform") for kind in batch}
    assert {"platform.start", "platform.report"} <= platform
    assert all(kind.startswith("platform.") for kind in platform)
    lines = [kind for batch in environment.notes("lines") for kind in batch]
    assert sorted(set(lines)) == ["extension", "function"]
    assert b"Types: [Platform, Function, Extension]" in result.log


def test_telemetry_comes_before_the_invocation_that_came_after_it(
    function: MakeFunction, sdk_extension: MakeExtension
) -> None:
    source = """
        @extension.on_invoke
        def invoked(event):
            note("invoke", event.request_id)
            # Without freezing the telemetry of this invocation comes in the meantime.
            time.sleep(0.3)
    """
    environment = function(sdk_extension(TELEMETRY, source), freeze=False)
    first, second = (environment.environment.invoke(b"1").request_id for _ in range(2))
    environment.close()
    journal = [json.loads(line)[1:] for line in environment.journal.read_text(encoding="utf-8").splitlines()]
    done = next(
        place
        for place, (kind, value) in enumerate(journal)
        if kind == "telemetry"
        and value["type"] == "platform.runtimeDone"
        and value["record"]["requestId"] == first
    )
    assert journal.index(["invoke", first]) < done < journal.index(["invoke", second])


# ---- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "error_type", "reported"),
    [
        ("@extension.on_init\ndef f(): {}['x']", "Extension.InitError", "Extension.KeyError"),
        (
            "@extension.on_init\ndef f(): raise ExtensionError('Extension.NoConfiguration', 'set SINK')",
            "Extension.InitError",
            "Extension.NoConfiguration",
        ),
    ],
)
def test_an_exception_in_init_fails_the_init_with_its_name(
    function: MakeFunction, sdk_extension: MakeExtension, source: str, error_type: str, reported: str
) -> None:
    result = function(sdk_extension(source)).environment.invoke(b"1")
    assert json.loads(result.payload) == {
        "errorType": error_type,
        "errorMessage": f"RequestId: {result.request_id} Error: exit status 1",
    }
    assert f"State: InitError\tEvents: []\tError Type: {reported}\n" in result.log.decode()
    assert b"[observer] Traceback (most recent call last):\n" in result.extension_log


@pytest.mark.parametrize("callback", ["on_invoke", "on_telemetry"])
def test_what_a_callback_raises_is_logged_and_nothing_else_fails(
    function: MakeFunction, sdk_extension: MakeExtension, callback: str
) -> None:
    source = """
        @extension.on_invoke
        def on_invoke(event):
            note("invoke", event.request_id)
            if "CALLBACK" == "on_invoke":
                raise ValueError("broken")

        @extension.on_telemetry("platform", "function", timeout_ms=25)
        def on_telemetry(records):
            note("batch", len(records))
            if "CALLBACK" == "on_telemetry":
                raise ValueError("broken")
    """
    environment = function(sdk_extension(source.replace("CALLBACK", callback), SHUTDOWN), freeze=False)
    log = ""
    invocations = 0
    # What it prints may come a moment after an invocation, and is found with the next.
    while invocations < 3 or log.count("[observer] ValueError: broken\n") < 2:
        result = environment.environment.invoke(b"1")
        assert result.payload == b"1"
        log += result.extension_log.decode()
        invocations += 1
        assert invocations < 2000, log
        time.sleep(0.01)
    environment.close()
    assert len(environment.notes("invoke")) == invocations
    assert environment.notes("shutdown")
    assert f"[observer] caloric: {callback} failed:\n[observer] Traceback (most recent call last):\n" in log


def test_an_extension_can_end_the_environment(function: MakeFunction, sdk_extension: MakeExtension) -> None:
    source = """
        @extension.on_invoke
        def invoked(event):
            raise ExtensionError("Extension.SinkIsGone", "nobody listens")
    """
    result = function(sdk_extension(source)).environment.invoke(b'"hang"')
    assert result.error_type == "Extension.ExitError"
    assert b"nobody listens" in result.extension_log


def test_an_extension_can_end_the_environment_while_it_waits_for_an_event(
    function: MakeFunction, sdk_extension: MakeExtension
) -> None:
    source = """
        @extension.on_telemetry("function", timeout_ms=25)
        def telemetry(records):
            raise ExtensionError("Extension.SinkIsGone")
    """
    result = function(sdk_extension(source)).environment.invoke(b'"hang"')
    assert result.error_type == "Extension.ExitError"


def test_a_name_that_is_not_the_files_is_explained(
    function: MakeFunction, sdk_extension: MakeExtension
) -> None:
    source = """
        extension.name = "another"
    """
    result = function(sdk_extension(source, SHUTDOWN)).environment.invoke(b"1")
    assert result.error_type == "Extension.Crash"
    assert b"is 'another' the name of the file that was started in /opt/extensions?" in result.extension_log


# ---- by hand -----------------------------------------------------------------------------------------------------


def test_without_a_platform_it_says_how_to_get_one(sdk_extension: MakeExtension) -> None:
    variables = variables_for("")
    del variables["AWS_LAMBDA_RUNTIME_API"]
    done = subprocess.run(
        [sys.executable, str(sdk_extension(""))], env=variables, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("observer: AWS_LAMBDA_RUNTIME_API is not set")
    assert b"caloric invoke --extension PATH" in done.stderr


def test_ctrl_c_ends_it_quietly(sdk_extension: MakeExtension, tmp_path: Path) -> None:
    with ScriptedApi([REGISTERED]) as api:
        process = subprocess.Popen(
            [sys.executable, str(sdk_extension(SHUTDOWN))],
            env={**variables_for(api.address), "JOURNAL": os.fspath(tmp_path / "journal")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        api.wait_for(2)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (130, b"", b"")
