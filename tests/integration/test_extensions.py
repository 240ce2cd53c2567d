"""External extensions as real processes: phases, events, telemetry, failures, the end, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from caloric._rust import ExecutionEnvironment
from caloric.cli.options import FAST_WAY_IN
from caloric.local.extensions import extension_environment, launch_extensions
from caloric.local.process import function_environment, supervise
from tests.freezers import is_frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import MakeExtension, WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")

HANDLER = """
    import os, time

    def handler(event, context):
        print("the function says", event)
        if event == "die":
            os._exit(1)
        if event == "hang":
            time.sleep(60)
        return event
"""


class Function:
    """An environment with a handler and extensions, and what the extensions wrote down."""

    def __init__(self, root: Path, journal: Path, extensions: list[Path], **options: Any) -> None:
        self.journal = journal
        paths = {path.name: str(path) for path in extensions}
        self.environment = ExecutionEnvironment(
            extensions=list(paths), handler="app.handler", keep_log=True, **options
        )
        variables = function_environment(
            self.environment, handler="app.handler", task_root=str(root), user={"JOURNAL": str(journal)}
        )
        launch_extensions(self.environment, paths, variables)
        self.process = supervise(self.environment, [*FAST_WAY_IN, "app.handler"], variables, cwd=str(root))

    def close(self) -> None:
        """End the environment; returns when all its processes are gone."""
        self.environment.close()
        assert self.process.join(5)

    def notes(self, kind: str) -> list[Any]:
        """Return what the extensions wrote down under `kind`."""
        if not self.journal.exists():
            return []
        lines = map(json.loads, self.journal.read_text(encoding="utf-8").splitlines())
        return [value for _, found, value in lines if found == kind]

    def events(self, kind: str) -> list[Any]:
        """Return the events of one type."""
        return [event for event in self.notes("event") if event["eventType"] == kind]


class MakeFunction(Protocol):
    """The type of the `function` fixture."""

    def __call__(self, *extensions: Path, **options: Any) -> Function: ...


@pytest.fixture
def function(write_function: WriteFunction, tmp_path: Path) -> Iterator[MakeFunction]:
    """Return a function that makes an environment with the handler above and the given extensions."""
    made: list[Function] = []

    def make(*extensions: Path, **options: Any) -> Function:
        root = write_function(HANDLER)
        made.append(
            Function(root, tmp_path / "journal", list(extensions), **{"timeout_ms": 20_000, **options})
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


# ---- invocations -------------------------------------------------------------------------------------------------


def test_an_extension_is_registered_before_the_runtime_and_gets_each_invocation(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "events"))
    first = environment.environment.invoke(b'"one"')
    second = environment.environment.invoke(b'"two"')
    assert (first.payload, second.payload) == (b'"one"', b'"two"')
    assert environment.notes("registered") == [
        {"functionName": "test_function", "functionVersion": "$LATEST", "handler": "app.handler"}
    ]
    events = environment.events("INVOKE")
    assert [event["requestId"] for event in events] == [first.request_id, second.request_id]
    assert events[0]["invokedFunctionArn"] == environment.environment.function_arn
    assert 0 < events[0]["deadlineMs"] - time.time() * 1000 < 20_000
    assert b"EXTENSION\tName: observer\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\nSTART " in first.log
    assert first.init_duration_ms is not None
    assert "extensions_ms" in first.phases


def test_what_an_extension_prints_is_kept_apart_from_the_functions_log(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "events"))
    result = environment.environment.invoke(b'"x"')
    # The line may come a moment after the extension's next poll.
    log = result.extension_log + environment.environment.invoke(b'"y"').extension_log
    assert f"[observer] working on {result.request_id}\n".encode() in log
    assert b"the function says x" in result.log
    assert b"working on" not in result.log


def test_an_extension_sees_the_functions_variables_but_not_all(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "events"))
    environment.environment.invoke(b"1")
    (variables,) = environment.notes("environ")
    assert variables["AWS_LAMBDA_FUNCTION_NAME"] == "test_function"
    assert variables["AWS_LAMBDA_RUNTIME_API"] == environment.environment.address
    assert "JOURNAL" in variables
    assert variables["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert variables["TZ"] == ":UTC"
    hidden = {"_HANDLER", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_LOG_GROUP_NAME"}
    assert not hidden & set(variables)


def test_an_extension_is_started_as_on_aws(function: MakeFunction, make_extension: MakeExtension) -> None:
    environment = function(make_extension("observer", "events"))
    environment.environment.invoke(b"1")
    assert environment.notes("process") == [
        {
            "arguments": 0,
            "folder": os.getcwd(),
            "leads its group": True,
            "input": "/dev/null",
            "one output": True,
        }
    ]


def test_a_link_is_an_extension_of_its_own_name(
    function: MakeFunction, make_extension: MakeExtension, tmp_path: Path
) -> None:
    link = tmp_path / "observer"
    link.symlink_to(make_extension("program", "events"))
    environment = function(link)
    environment.environment.invoke(b"1")
    assert len(environment.events("INVOKE")) == 1


def test_an_extension_that_registers_under_another_name_is_not_the_one_that_is_waited_for(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "other-name"), init_timeout_ms=1500, timeout_ms=1500)
    result = environment.environment.invoke(b"1")
    assert result.error_type == "Sandbox.Timedout"
    assert b"EXTENSION\tName: observer\tState: Started\tEvents: []\n" in result.log


def test_the_hidden_variables_are_those_of_the_documentation() -> None:
    hidden = [
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_XRAY_DAEMON_ADDRESS",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        "_AWS_XRAY_DAEMON_ADDRESS",
        "_AWS_XRAY_DAEMON_PORT",
        "_HANDLER",
        "_LAMBDA_TELEMETRY_LOG_FD",
        "_X_AMZN_TRACE_ID",
        "_MINE",
    ]
    visible = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_RUNTIME_API",
        "TZ",
        "MINE",
    ]
    assert list(extension_environment(dict.fromkeys([*hidden, *visible], "x"))) == visible


def test_telemetry_tells_of_everything_in_order(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "telemetry"), freeze=False)
    result = environment.environment.invoke(b'"one"')
    environment.close()
    assert environment.notes("subscribed") == [[200, "OK"]]
    told = environment.notes("telemetry")
    platform = [event["type"] for event in told if event["type"].startswith("platform.")]
    assert platform == [
        "platform.initStart",
        "platform.telemetrySubscription",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.initReport",
        "platform.start",
        "platform.runtimeDone",
        "platform.report",
    ]
    records = {event["type"]: event["record"] for event in told}
    report = records["platform.report"]
    assert (report["requestId"], report["status"]) == (result.request_id, "success")
    assert report["metrics"]["durationMs"] == pytest.approx(result.duration_ms, abs=0.001)
    assert report["metrics"]["billedDurationMs"] == result.billed_duration_ms
    assert report["metrics"]["initDurationMs"] == pytest.approx(result.init_duration_ms, abs=0.001)
    spans = [span["name"] for span in records["platform.runtimeDone"]["spans"]]
    assert spans == ["responseLatency", "responseDuration", "runtimeOverhead"]
    assert records["platform.runtimeDone"]["metrics"]["producedBytes"] == len(b'"one"')
    assert {"type": "function", "record": "the function says one\n"} in [
        {"type": event["type"], "record": event["record"]} for event in told
    ]
    assert f"working on {result.request_id}\n" in [
        event["record"] for event in told if event["type"] == "extension"
    ]


def test_what_is_told_while_frozen_arrives_with_the_next_invocation(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "telemetry"))
    results = [environment.environment.invoke(b"%d" % number) for number in range(3)]
    environment.close()
    reports = [
        event["record"]["requestId"]
        for event in environment.notes("telemetry")
        if event["type"] == "platform.report"
    ]
    assert reports == [result.request_id for result in results], "none is lost and none comes twice"


def test_an_extension_stands_still_between_invocations(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "events"))
    for number in range(3):
        environment.environment.invoke(b"1")
        assert len(environment.events("INVOKE")) == number + 1
        (pid,) = environment.notes("pid")
        deadline = time.monotonic() + 20
        while not is_frozen(pid):
            assert time.monotonic() < deadline, "it is not frozen"
            time.sleep(0.01)
    environment.close()
    assert environment.events("SHUTDOWN"), "it goes on for its end"


def test_an_extension_shares_the_functions_memory(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("greedy", "large"), memory_size_mb=256)
    result = environment.environment.invoke(b'"hang"')
    assert result.error_type == "Runtime.OutOfMemory"
    assert result.max_memory_used_mb == 256


# ---- the end -----------------------------------------------------------------------------------------------------


def test_closing_sends_shutdown_and_waits_for_the_extension(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "events"))
    environment.environment.invoke(b"1")
    environment.close()
    (event,) = environment.events("SHUTDOWN")
    assert event["shutdownReason"] == "spindown"
    assert abs(event["deadlineMs"] - time.time() * 1000) < 10_000


def test_an_extension_that_does_not_end_is_killed(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "stubborn"))
    environment.environment.invoke(b"1")
    began = time.monotonic()
    environment.close()
    assert environment.events("SHUTDOWN")
    assert time.monotonic() - began >= 1.5, "it had its time"


def test_an_extension_that_did_not_ask_for_shutdown_is_killed_at_once(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "deaf"))
    environment.environment.invoke(b"1")
    environment.close()
    assert len(environment.events("INVOKE")) == 1
    assert not environment.events("SHUTDOWN")


@pytest.mark.parametrize(
    ("event", "reason", "error_type"),
    [(b'"die"', "failure", "Runtime.ExitError"), (b'"hang"', "timeout", "Sandbox.Timedout")],
)
def test_a_failed_invocation_ends_the_extensions_and_the_next_one_starts_them_anew(
    function: MakeFunction, make_extension: MakeExtension, event: bytes, reason: str, error_type: str
) -> None:
    environment = function(make_extension("observer", "events"), timeout_ms=3000, init_timeout_ms=30_000)
    assert environment.environment.invoke(event).error_type == error_type
    assert [event["shutdownReason"] for event in environment.events("SHUTDOWN")] == [reason]
    # All of them start within this invocation.
    assert environment.environment.invoke(b'"again"', timeout_ms=30_000).payload == b'"again"'
    assert len(environment.notes("registered")) == 2


INTERNAL = """
    import http.client, json, os, signal, sys, threading

    def call(method, path, body, **headers):
        connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        connection.request(method, "/2020-01-01/extension" + path, body, headers)
        return connection.getresponse()

    def note(kind, value):
        with open(os.environ["JOURNAL"], "a") as journal:
            journal.write(json.dumps(["internal", kind, value]) + "\\n")

    def on_sigterm(*_):
        note("ended", None)
        sys.exit(0)

    def poll():
        while True:
            headers = {"Lambda-Extension-Identifier": identifier}
            note("event", json.loads(call("GET", "/event/next", None, **headers).read()))

    signal.signal(signal.SIGTERM, on_sigterm)
    name = {"Lambda-Extension-Name": "internal", "Lambda-Extension-Accept-Feature": "accountId"}
    answer = call("POST", "/register", '{"events": ["INVOKE"]}', **name)
    identifier = answer.getheader("Lambda-Extension-Identifier")
    note("registered", json.loads(answer.read()))
    threading.Thread(target=poll, daemon=True).start()

    def handler(event, context):
        return event
"""


def test_an_internal_extension_gets_invocations_and_its_process_a_signal(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    environment = Function(write_function(INTERNAL), tmp_path / "journal", [], timeout_ms=20_000)
    first = environment.environment.invoke(b'"one"')
    second = environment.environment.invoke(b'"two"')
    environment.close()
    assert [event["requestId"] for event in environment.events("INVOKE")] == [
        first.request_id,
        second.request_id,
    ]
    (registered,) = environment.notes("registered")
    assert registered["accountId"] == environment.environment.function_arn.split(":")[4]
    assert b"EXTENSION\tName: internal\tState: Ready\tEvents: [INVOKE]\n" in first.log
    assert environment.notes("ended") == [None]
    assert not environment.events("SHUTDOWN")


# ---- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "error_type", "reason"),
    [
        ("exit-at-start", "Extension.Crash", "exit status 3"),
        ("init-error", "Extension.InitError", "exit status 1"),
        ("last-words", "Extension.ExitError", "exit status 1"),
        ("crash", "Extension.Crash", "exit status 7"),
    ],
)
def test_an_extension_that_fails_is_the_error_of_the_invocation(
    function: MakeFunction, make_extension: MakeExtension, mode: str, error_type: str, reason: str
) -> None:
    environment = function(make_extension("healthy", "events"), make_extension("bad", mode))
    result = environment.environment.invoke(b'"hang"' if mode == "crash" else b"1")
    assert json.loads(result.payload) == {
        "errorType": error_type,
        "errorMessage": f"RequestId: {result.request_id} Error: {reason}",
    }
    assert result.log.decode().endswith(f"\tStatus: error\tError Type: {error_type}\n")
    if mode == "exit-at-start":
        assert result.extension_log.count(b"[bad] no configuration\n") == 2, "init is tried twice"
    if mode == "last-words":
        assert b"[bad] bye\n" in result.extension_log, "without a line end, too"
    if mode == "init-error":
        assert (
            b"\tState: InitError\tEvents: [INVOKE, SHUTDOWN]\tError Type: Extension.NoConfig\n" in result.log
        )


def test_an_extension_that_cannot_be_executed_is_a_launch_error(
    function: MakeFunction, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n", encoding="utf-8")
    broken.chmod(0o755)
    result = function(broken).environment.invoke(b"1")
    assert result.error_type == "Extension.LaunchError"
    assert f"fork/exec {broken}: no such file or directory".encode() in result.payload


def test_a_file_that_may_not_be_executed_is_a_launch_error(
    function: MakeFunction, make_extension: MakeExtension, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program", encoding="utf-8")
    environment = function(make_extension("healthy", "telemetry"), plain)
    result = environment.environment.invoke(b"1")
    assert json.loads(result.payload)["errorType"] == "Extension.LaunchError"
    assert f"fork/exec {plain}: permission denied".encode() in result.payload
    line = b"EXTENSION\tName: plain\tState: LaunchError\tEvents: []\tError Type: PermissionDenied\n"
    assert line in result.log
    assert not environment.events("INVOKE")


@pytest.mark.parametrize(
    ("extensions", "message"),
    [
        (["a", "a"], "two extensions are called 'a'"),
        ([str(number) for number in range(11)], "11 extensions, where a function can have 10"),
        (["a/b"], "'a/b' is no file name, as an extension's must be"),
    ],
)
def test_extensions_that_are_not_possible_are_refused(extensions: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExecutionEnvironment(extensions=extensions)


# ---- Managed Instances -------------------------------------------------------------------------------------------


def test_on_managed_instances_an_extension_gets_telemetry_and_shutdown(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "managed"), max_concurrency=2, timeout_ms=30_000)
    results = [environment.environment.invoke(event) for event in (b'"one"', b'"two"')]
    assert [result.payload for result in results] == [b'"one"', b'"two"']
    assert b"EXTENSION\tName: observer\tState: Ready\tEvents: [SHUTDOWN]\nSTART " in results[0].log
    environment.close()
    assert not environment.events("INVOKE")
    assert [event["shutdownReason"] for event in environment.events("SHUTDOWN")] == ["spindown"]
    assert environment.notes("subscribed") == [[200, "OK"]]
    told = environment.notes("telemetry")
    assert [event["type"] for event in told if event["type"].startswith("platform.")] == [
        "platform.initStart",
        "platform.telemetrySubscription",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.initReport",
        *["platform.start", "platform.report"] * 2,
    ]
    assert told[0]["record"]["initializationType"] == "lambda-managed-instances"
    (variables,) = environment.notes("environ")
    assert variables["AWS_LAMBDA_INITIALIZATION_TYPE"] == "lambda-managed-instances"
    reports = [event["record"] for event in told if event["type"] == "platform.report"]
    assert [report["requestId"] for report in reports] == [result.request_id for result in results]
    assert [list(report["metrics"]) for report in reports] == [["durationMs"]] * 2


def test_on_managed_instances_an_extension_that_fails_is_the_error_of_init(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("bad", "exit-at-start"), max_concurrency=2)
    result = environment.environment.invoke(b"1")
    assert result.error_type == "Extension.Crash"
    assert result.log.count(b"INIT_REPORT") == 1, "nothing is run again"
    assert b"[bad] no configuration\n" in result.extension_log


def test_on_managed_instances_nobody_may_ask_for_invocations(
    function: MakeFunction, make_extension: MakeExtension
) -> None:
    environment = function(make_extension("observer", "events"), max_concurrency=2, init_timeout_ms=4000)
    environment.environment.invoke(b"1")
    registered = environment.notes("registered")
    assert registered
    assert registered[0]["errorType"] == "Extension.InvalidEventType"


# ---- the command line --------------------------------------------------------------------------------------------


def caloric(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [CALORIC, *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        timeout=50,
        check=False,
    )


def test_invoke_starts_extensions_and_ends_them(
    write_function: WriteFunction, make_extension: MakeExtension, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    path = make_extension("observer", "events")
    done = caloric(
        "invoke",
        "app.handler",
        "--event",
        '"hi"',
        "--extension",
        str(path),
        cwd=write_function(HANDLER),
        JOURNAL=str(journal),
    )
    assert (done.returncode, done.stdout) == (0, b'"hi"\n'), done.stderr
    assert b"EXTENSION\tName: observer\tState: Ready" in done.stderr
    assert b"[observer] working on " in done.stderr
    assert b"the function says hi\n" in done.stderr
    assert '"shutdownReason": "spindown"' in journal.read_text(encoding="utf-8")


def test_invoke_shows_the_extensions_log_in_its_document(
    write_function: WriteFunction, make_extension: MakeExtension, tmp_path: Path
) -> None:
    path = make_extension("bad", "exit-at-start")
    arguments = ["invoke", "app.handler", "--json", "--extension", str(path)]
    done = caloric(*arguments, cwd=write_function(HANDLER), JOURNAL=str(tmp_path / "journal"))
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["error"]["errorType"] == "Extension.Crash"
    assert document["extensionLogs"] == "[bad] no configuration\n" * 2


def test_an_extension_that_cannot_be_started_is_the_users_mistake(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    root = write_function(HANDLER)
    plain = tmp_path / "plain"
    plain.write_text("", encoding="utf-8")
    executables = [tmp_path / folder / "same" for folder in ("a", "b")]
    for executable in executables:
        executable.parent.mkdir()
        executable.write_text("#!/bin/sh\n", encoding="utf-8")
        executable.chmod(0o755)
    for paths, message in (
        ([tmp_path / "missing"], "does not exist"),
        ([tmp_path], "is a folder: name the executable in it"),
        ([plain], "is not executable (chmod +x"),
        (executables, "two extensions are called 'same'"),
    ):
        arguments = [argument for path in paths for argument in ("--extension", str(path))]
        done = caloric("invoke", "app.handler", *arguments, cwd=root)
        assert (done.returncode, done.stdout) == (2, b"")
        assert message in done.stderr.decode(), done.stderr


@pytest.mark.parametrize("source", ["option", "layer"])
def test_extensions_and_several_invocations_at_once_go_together(
    write_function: WriteFunction, make_extension: MakeExtension, tmp_path: Path, source: str
) -> None:
    path = make_extension("observer", "managed")
    given = ["--extension", str(path)] if source == "option" else ["--layer", str(path.parent.parent)]
    arguments = ["--max-concurrency", "2", "--timeout", "30", "--event", '"hi"', *given]
    journal = str(tmp_path / "journal")
    done = caloric("invoke", "app.handler", *arguments, cwd=write_function(HANDLER), JOURNAL=journal)
    assert (done.returncode, done.stdout) == (0, b'"hi"\n'), done.stderr
    assert b"EXTENSION\tName: observer\tState: Ready\tEvents: [SHUTDOWN]" in done.stderr
    assert '"shutdownReason": "spindown"' in Path(journal).read_text(encoding="utf-8")
