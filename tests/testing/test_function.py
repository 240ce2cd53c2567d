"""`LambdaFunction`: invocations, cold and warm, limits, runtimes, and what is refused."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from caloric.testing import FunctionFailedError, LambdaFunction, LambdaFunctionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import WriteFunction

    MakeFunction = Callable[..., LambdaFunction]

SOURCE = """
    import json, logging, os, sys, time

    print("module imported")
    count = 0

    def handler(event, context):
        global count
        count += 1
        return {"event": event, "count": count, "pid": os.getpid()}

    def raises(event, context):
        print("about to fail")
        raise ValueError("no such thing: é")

    def describes(event, context):
        client = context.client_context
        return {
            "request_id": context.aws_request_id,
            "tenant_id": context.tenant_id,
            "trace_id": os.environ["_X_AMZN_TRACE_ID"],
            "custom": client and client.custom,
            "identity": context.identity.cognito_identity_id,
            "name": context.function_name,
            "memory": context.memory_limit_in_mb,
            "version": context.function_version,
            "remaining": context.get_remaining_time_in_millis(),
        }

    def sleeps(event, context):
        time.sleep(event)

    def variable(event, context):
        return os.environ.get(event)

    def data(event, context):
        return b"\\xff\\x00"

    def unserialisable(event, context):
        return object()

    def exits(event, context):
        sys.exit(3)

    def logs(event, context):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        logging.getLogger("app").warning("logged")
"""

WAYS = [{}, {"in_process": True}, {"runtime": "awslambdaric"}]


def way_name(way: dict[str, Any]) -> str:
    return next(iter(way), "process") if "runtime" not in way else way["runtime"]


@pytest.fixture(params=WAYS, ids=way_name)
def make(
    request: pytest.FixtureRequest, lambda_function: MakeFunction, write_function: WriteFunction
) -> MakeFunction:
    """Make a function of the source above, in each of the ways to run one."""
    root = write_function(SOURCE)
    return lambda handler, **options: lambda_function(handler, task_root=root, **{**request.param, **options})


@pytest.fixture
def make_process(lambda_function: MakeFunction, write_function: WriteFunction) -> MakeFunction:
    """Make a function of the source above, in a process of its own."""
    root = write_function(SOURCE)
    return lambda handler, **options: lambda_function(handler, task_root=root, **options)


# ---- in all ways -------------------------------------------------------------------------------------------------


def test_a_result_has_payload_logs_report_and_timings(make: MakeFunction) -> None:
    result = make("app.logs", memory=256).invoke()
    assert result.raise_for_error() is result
    assert (result.payload, result.raw_payload, result.error, result.status) == (
        None,
        b"null",
        None,
        "success",
    )
    assert result.log_lines[:3] == ["module imported", "to stdout", "to stderr"]
    assert result.log_lines[3].startswith("[WARNING]\t")
    assert result.log_lines[3].endswith("\tlogged")
    assert result.request_id in result.log_lines[3]
    start, end, report = result.platform_logs.splitlines()
    assert start == f"START RequestId: {result.request_id} Version: $LATEST"
    assert end == f"END RequestId: {result.request_id}"
    assert report == result.report.line
    assert f"Billed Duration: {result.report.billed_duration_ms} ms\tMemory Size: 256 MB" in report
    assert result.report.init_duration_ms is not None
    assert f"Init Duration: {result.report.init_duration_ms:.2f} ms" in report
    assert result.timings["response_ms"] <= result.report.duration_ms + 0.001
    assert result.executed_version == "$LATEST"
    assert "app.logs, cold" in repr(result)
    assert "null" in repr(result)


def test_the_first_invocation_is_cold_and_the_others_are_warm_until_told_otherwise(
    make: MakeFunction,
) -> None:
    function = make("app.handler")
    first, second = function.invoke({"n": 1}), function.invoke([2])
    assert (first.cold_start, second.cold_start) == (True, False)
    assert (first.payload["event"], second.payload["event"]) == ({"n": 1}, [2])
    assert (first.payload["count"], second.payload["count"]) == (1, 2)
    assert first.payload["pid"] == second.payload["pid"] == function.pid
    assert "module imported" in first.logs
    assert "module imported" not in second.logs
    function.cold_start()
    third = function.invoke()
    assert (third.cold_start, third.payload["count"], third.payload["event"]) == (True, 1, {})
    assert "module imported" in third.logs


def test_the_context_is_what_was_given(make: MakeFunction) -> None:
    result = make("app.describes", timeout=20, memory=512, function_name="orders").invoke(
        client_context={"custom": {"a": 1}},
        cognito_identity={"cognitoIdentityId": "eu-west-1:1", "cognitoIdentityPoolId": "p"},
        trace_id="Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
        tenant_id="acme",
        request_id="8f507cfc-xmpl-4697-b07a-ac58fc914c95",
    )
    payload = result.payload
    assert 10_000 < payload.pop("remaining") <= 20_000
    assert payload == {
        "request_id": "8f507cfc-xmpl-4697-b07a-ac58fc914c95",
        "tenant_id": "acme",
        "trace_id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
        "custom": {"a": 1},
        "identity": "eu-west-1:1",
        "name": "orders",
        "memory": "512",
        "version": "$LATEST",
    }
    assert result.request_id == "8f507cfc-xmpl-4697-b07a-ac58fc914c95"


def test_a_function_that_raises_is_a_result_whose_payload_says_so(make: MakeFunction) -> None:
    result = make("app.raises").invoke()
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("ValueError", "no such thing: é")
    assert "in raises" in result.error.stack_trace[-1]
    assert json.loads(result.raw_payload) == result.error.document
    assert result.status == "error"
    for look in (lambda: result.payload, result.raise_for_error):
        with pytest.raises(FunctionFailedError) as raised:
            look()
        text = str(raised.value)
        assert text.startswith("app.raises failed: ValueError: no such thing: é\n")
        assert "in raises" in text
        assert "about to fail" in text
        assert raised.value.result is result
    assert "ValueError: no such thing" in repr(result)


def test_what_cannot_be_sent_is_the_functions_error(make: MakeFunction) -> None:
    error = make("app.unserialisable").invoke().error
    assert error is not None
    assert error.type == "Runtime.MarshalError"
    assert "not JSON serializable" in error.message
    error = make("app.handler").invoke(b"{").error
    assert error is not None
    assert error.type == "Runtime.UnmarshalError"


def test_bytes_are_no_json_and_there_all_the_same(make: MakeFunction) -> None:
    result = make("app.data").invoke()
    assert result.raw_payload == b"\xff\x00"
    with pytest.raises(ValueError, match=r"returned 2 bytes \(application/unknown\) that are no JSON"):
        _ = result.payload


def test_a_missing_module_names_the_task_root(make: MakeFunction, tmp_path: Path) -> None:
    function = make("ap.handler")
    for _ in range(2):
        result = function.invoke()
        assert result.error is not None
        assert result.error.type == "Runtime.ImportModuleError"
        with pytest.raises(FunctionFailedError, match=r"There is no ap\.py in the task root") as raised:
            result.raise_for_error()
        assert str(tmp_path / "task") in str(raised.value)


def test_exit_ends_the_process_and_the_next_invocation_is_cold(make: MakeFunction) -> None:
    function = make("app.exits")
    for _ in range(2):
        result = function.invoke()
        assert result.cold_start
        assert result.error is not None
        assert result.error.type == "Runtime.ExitError"
        assert (
            result.error.message
            == f"RequestId: {result.request_id} Error: Runtime exited with error: exit status 3"
        )


def test_variables_are_the_functions_own(make: MakeFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGE", "outer")
    monkeypatch.setenv("SHARED", "yes")
    function = make("app.variable", env={"STAGE": "test"})
    assert [
        function.invoke(name).payload for name in ("STAGE", "SHARED", "AWS_LAMBDA_FUNCTION_NAME", "NONE")
    ] == [
        "test",
        "yes",
        "test_function",
        None,
    ]
    assert os.environ["STAGE"] == "outer"
    assert "AWS_LAMBDA_FUNCTION_NAME" not in os.environ


def test_a_layer_is_used(make: MakeFunction, write_function: WriteFunction, tmp_path: Path) -> None:
    write_function("from lib_in_layer import answer\ndef handler(event, context):\n    return answer\n")
    folder = tmp_path / "layer"
    (folder / "python").mkdir(parents=True)
    (folder / "python" / "lib_in_layer.py").write_text("answer = 1\n")
    archive = tmp_path / "layer.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("python/lib_in_layer.py", "answer = 42\n")
    assert make("app.handler", layers=[folder, archive]).invoke().payload == 42


def test_begin_does_not_wait(make: MakeFunction) -> None:
    function = make("app.handler")
    begun = [function.begin(number) for number in range(3)]
    results = [invocation.result(20) for invocation in begun]
    assert [result.payload["event"] for result in results] == [0, 1, 2]
    assert all(invocation.done for invocation in begun)
    assert begun[0].result() is results[0]
    assert [result.cold_start for result in results] == [True, False, False]


def test_a_closed_function_says_so(make: MakeFunction) -> None:
    with make("app.handler") as function:
        function.invoke()
    function.close()
    with pytest.raises(LambdaFunctionError, match="was closed"):
        function.invoke()
    assert "closed" in repr(function)


# ---- in a process of its own -------------------------------------------------------------------------------------


def test_a_function_that_takes_too_long_times_out(make_process: MakeFunction) -> None:
    function = make_process("app.sleeps", timeout=0.2)
    result = function.invoke(60)
    assert result.status == "timeout"
    assert result.error is not None
    assert result.error.message.endswith("Task timed out after 0.20 seconds")
    assert "timeout" in repr(result)
    assert function.shutdown_reasons() == ["timeout"]
    assert function.invoke(0).cold_start
    assert function.invoke(60, timeout=0.1).status == "timeout"


def test_a_result_is_waited_for_as_long_as_asked(make_process: MakeFunction) -> None:
    function = make_process("app.sleeps", timeout=900)
    begun = function.begin(600)
    assert not begun.done
    with pytest.raises(TimeoutError, match=r"app.sleeps has not finished after 0.01 s"):
        begun.result(0.01)
    assert "not finished" in repr(begun)
    function.shutdown()
    result = begun.result(20)
    assert result.error is not None
    assert "The execution environment was closed" in result.error.message


def test_snapstart_restores_the_function(make_process: MakeFunction) -> None:
    result = make_process("app.describes", snapstart=True).invoke()
    assert (result.payload["version"], result.executed_version) == ("1", "1")
    assert result.report.restore_duration_ms is not None
    assert result.cold_start
    assert "RESTORE_REPORT" in result.platform_logs
    assert "RESTORE" not in result.logs
    assert "INIT" not in result.logs


def test_managed_instances_run_several_at_once(
    make_process: MakeFunction, write_function: WriteFunction
) -> None:
    write_function(
        """
        import time
        from pathlib import Path

        def handler(event, context):
            mine, other = (Path(place) for place in event)
            mine.touch()
            while not other.exists():
                time.sleep(0.01)
            return True
        """
    )
    function = make_process("app.handler", max_concurrency=2, timeout=30)
    places = [os.path.join(function.task_root, name) for name in ("a", "b")]
    begun = [function.begin(places), function.begin(places[::-1])]
    assert [invocation.result(40).payload for invocation in begun] == [True, True]
    assert [event.type for event in function.telemetry("platform.start", "platform.report")] == [
        *["platform.start"] * 2,
        *["platform.report"] * 2,
    ]


def test_any_other_runtime_is_a_command_line(make_process: MakeFunction, tmp_path: Path) -> None:
    program = tmp_path / "runtime.py"
    program.write_text(
        "import os, urllib.request as http\n"
        "api = f\"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation/\"\n"
        "while True:\n"
        "    with http.urlopen(api + 'next') as event:\n"
        "        name, body = event.headers['Lambda-Runtime-Aws-Request-Id'], event.read()\n"
        "    http.urlopen(api + name + '/response', b'[' + body + b']').close()\n"
    )
    function = make_process("anything", runtime=[sys.executable, str(program)])
    assert function.invoke({"n": 1}).payload == [{"n": 1}]


def test_an_environment_ends_with_all_it_started(make_process: MakeFunction) -> None:
    function = make_process("app.handler")
    pid = function.invoke().payload["pid"]
    assert [info.pid for info in function.processes()] == [pid]
    assert function.processes()[0].command.endswith("app.handler")
    function.close()
    assert not Path(f"/proc/{pid}").exists()
    assert function.processes() == []


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"handler": "app"}, "the handler 'app' has no dot"),
        (
            {"runtime": "node"},
            "there is no runtime 'node': it is 'caloric', 'awslambdaric' or a command line",
        ),
        ({"runtime": []}, "command line is empty"),
        ({"runtime": ["no-such-program"]}, "'no-such-program' was not found on PATH"),
        ({"timeout": 0}, "timeout=0 is out of range: 0.001 to 900 seconds"),
        ({"timeout": 901}, "timeout=901 is out of range"),
        ({"init_timeout": 0}, "init_timeout=0 is out of range"),
        ({"memory": 64}, "memory=64 is out of range: 128 to 10240 MB"),
        ({"task_root": "/no/such/folder"}, "the task root /no/such/folder is no folder"),
        ({"layers": ["/no/such/layer.zip"]}, "/no/such/layer.zip"),
        ({"extensions": ["/no/such/extension"]}, "the extension '/no/such/extension' does not exist"),
        ({"env": {"PORT": 80}}, "the environment variable PORT must be a str, not 80"),
        ({"snapstart": True, "max_concurrency": 2}, "several invocations at once"),
        ({"in_process": True, "runtime": "awslambdaric"}, "in_process and runtime exclude each other"),
        ({"in_process": True, "snapstart": True}, "in_process and snapstart exclude each other"),
        ({"in_process": True, "max_concurrency": 2}, "in_process and max_concurrency exclude each other"),
        ({"in_process": True, "extensions": ["/bin/true"]}, "in_process and extensions exclude each other"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    options: dict[str, Any], message: str, lambda_function: MakeFunction, tmp_path: Path
) -> None:
    with pytest.raises(LambdaFunctionError, match="^.*" + message.replace("(", r"\(")):
        lambda_function(**{"handler": "app.handler", "task_root": tmp_path, **options})


def test_a_missing_awslambdaric_is_named(
    lambda_function: MakeFunction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "awslambdaric", None)
    with pytest.raises(LambdaFunctionError, match="pip install awslambdaric"):
        lambda_function("app.handler", task_root=tmp_path, runtime="awslambdaric")


def test_an_event_without_a_form_in_json_is_the_callers_mistake(make_process: MakeFunction) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        make_process("app.handler").invoke(object())


def test_an_unknown_reason_is_refused_and_nothing_is_left(make_process: MakeFunction) -> None:
    function = make_process("app.handler")
    pid = function.invoke().payload["pid"]
    with pytest.raises(ValueError, match="must be one of spindown, timeout, failure"):
        function.shutdown("boredom")  # type: ignore[arg-type]
    assert not Path(f"/proc/{pid}").exists()
