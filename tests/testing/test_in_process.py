"""A handler in the test's own process: what is shared, what is lent, and what is given back."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from caloric.testing import FunctionFailedError, LambdaFunction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import WriteFunction

    MakeFunction = Callable[..., LambdaFunction]


@pytest.fixture
def make(lambda_function: MakeFunction, write_function: WriteFunction) -> MakeFunction:
    """Make a function of a source, in this process."""

    def make_function(source: str, **options: Any) -> LambdaFunction:
        root = write_function(source)
        return lambda_function("app.handler", task_root=root, in_process=True, **options)

    return make_function


def test_the_handler_runs_in_the_tests_thread(make: MakeFunction) -> None:
    function = make("import threading\ndef handler(event, context):\n    return threading.get_ident()\n")
    import threading

    assert function.invoke().payload == threading.get_ident()


def test_a_patch_of_the_test_takes_effect(make: MakeFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    function = make("def rate():\n    return 1\ndef handler(event, context):\n    return rate()\n")
    assert function.invoke().payload == 1
    monkeypatch.setattr("app.rate", lambda: 2)
    assert function.invoke().payload == 2


def test_a_module_that_the_test_has_imported_is_the_functions(
    make: MakeFunction, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    function = make("number = 1\ndef handler(event, context):\n    return number\n")
    monkeypatch.syspath_prepend(str(tmp_path / "task"))
    app: Any = importlib.import_module("app")
    app.number = 2
    assert function.invoke().payload == 2
    function.cold_start()
    assert function.invoke().payload == 1
    function.close()
    assert sys.modules.pop("app") is app


def test_modules_are_gone_when_the_function_is(make: MakeFunction, write_function: WriteFunction) -> None:
    write_function("value = []", "package_of_app/part.py")
    function = make(
        "import package_of_app.part as part\n"
        "def handler(event, context):\n    part.value.append(1)\n    return len(part.value)\n"
    )
    assert [function.invoke().payload, function.invoke().payload] == [1, 2]
    function.cold_start()
    assert function.invoke().payload == 1
    assert "app" in sys.modules
    function.close()
    assert not [name for name in sys.modules if name == "app" or name.startswith("package_of_app")]


def test_a_module_of_the_same_name_from_elsewhere_is_not_taken(
    make: MakeFunction, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "app.py").write_text("def handler(event, context):\n    return 'the other'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "other"))
    other = importlib.import_module("app")
    function = make("def handler(event, context):\n    return 'this one'\n")
    assert function.invoke().payload == "this one"
    function.close()
    assert sys.modules.pop("app") is other


def test_output_is_the_tests_and_the_logs(make: MakeFunction, capsys: pytest.CaptureFixture[str]) -> None:
    function = make(
        "import sys\ndef handler(event, context):\n    print('out')\n    print('err', file=sys.stderr)\n"
    )
    result = function.invoke()
    assert capsys.readouterr() == ("out\n", "err\n")
    assert result.logs == "out\nerr\n"
    print("the test's own")
    assert function.invoke().logs == "out\nerr\n"


def test_log_records_are_lambdas_and_the_tests(make: MakeFunction, caplog: pytest.LogCaptureFixture) -> None:
    handlers = list(logging.getLogger().handlers)
    function = make(
        "import logging\nlogging.getLogger().setLevel('INFO')\n"
        "def handler(event, context):\n    logging.info('said')\n",
        env={"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"},
    )
    result = function.invoke()
    assert f'"message":"said","logger":"root","requestId":"{result.request_id}"' in result.logs
    assert [record.message for record in caplog.records] == ["said"]
    assert logging.getLogger().handlers == handlers


def test_what_a_function_changes_is_kept_for_it_and_for_nobody_else(
    make: MakeFunction, tmp_path: Path
) -> None:
    before = dict(os.environ), list(sys.path), os.getcwd(), sys.stdout, sys.stderr
    function = make(
        """
        import os, sys

        os.environ["SET_AT_INIT"] = "1"
        os.environ.pop("GIVEN")
        sys.path.insert(0, "/added/at/init")
        os.chdir("/")

        def handler(event, context):
            os.environ["CALLS"] = os.environ.get("CALLS", "") + "x"
            names = ("SET_AT_INIT", "GIVEN", "CALLS", "AWS_LAMBDA_RUNTIME_API")
            return [os.environ.get(name) for name in names], sys.path[0], os.getcwd()
        """,
        env={"GIVEN": "yes"},
    )
    address = function.environment.address
    assert function.invoke().payload == [["1", None, "x", address], "/added/at/init", "/"]
    assert function.invoke().payload == [["1", None, "xx", address], "/added/at/init", "/"]
    assert (dict(os.environ), list(sys.path), os.getcwd(), sys.stdout, sys.stderr) == before


def test_the_working_directory_is_the_task_root(make: MakeFunction, tmp_path: Path) -> None:
    function = make("import os\ndef handler(event, context):\n    return os.getcwd()\n")
    assert function.invoke().payload == str(tmp_path / "task")


def test_variables_set_by_the_test_between_invocations_are_seen(
    make: MakeFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = make("import os\ndef handler(event, context):\n    return os.environ.get('LATER')\n")
    assert function.invoke().payload is None
    monkeypatch.setenv("LATER", "now")
    assert function.invoke().payload == "now"


def test_the_exception_itself_is_at_hand(make: MakeFunction) -> None:
    function = make("class Odd(Exception):\n    pass\ndef handler(event, context):\n    raise Odd('so')\n")
    result = function.invoke()
    assert type(result.exception).__name__ == "Odd"
    with pytest.raises(FunctionFailedError) as raised:
        result.raise_for_error()
    assert raised.value.__cause__ is result.exception
    assert result.error is not None
    assert [entry.split(",")[0] for entry in result.error.stack_trace] == [
        f'  File "{function.task_root}/app.py"'
    ]


def test_the_exception_of_an_import_is_too(make: MakeFunction) -> None:
    result = make("raise KeyError('config')\n").invoke()
    assert isinstance(result.exception, KeyError)
    assert result.error is not None
    assert result.error.type == "KeyError"


def test_a_tests_own_outcome_reaches_the_test(make: MakeFunction) -> None:
    function = make(
        "import pytest\ndef handler(event, context):\n    if event:\n        pytest.fail('in the handler')\n"
    )
    with pytest.raises(pytest.fail.Exception, match="in the handler"):
        function.invoke(True)
    result = function.invoke(False)
    assert result.payload is None
    assert not result.cold_start


def test_no_time_limit_holds(make: MakeFunction) -> None:
    function = make(
        "import time\ndef handler(event, context):\n"
        "    while context.get_remaining_time_in_millis() > 0:\n        time.sleep(0.01)\n"
        "    time.sleep(0.05)\n    return 'late'\n",
        timeout=0.001,
    )
    assert function.invoke().payload == "late"
    assert function.invoke(timeout=0.002).payload == "late"


def test_a_handler_may_invoke_another_function(
    make: MakeFunction, lambda_function: MakeFunction, tmp_path: Path
) -> None:
    outer = make("call = None\ndef handler(event, context):\n    print('outer')\n    return call(event)\n")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "inner_app.py").write_text(
        "def handler(event, context):\n    print('inner')\n    return event + 1\n"
    )
    inner = lambda_function("inner_app.handler", task_root=tmp_path / "inner", in_process=True)
    outer.invoke(0)
    sys.modules["app"].call = lambda event: inner.invoke(event).payload  # type: ignore[attr-defined]
    result = outer.invoke(1)
    assert result.payload == 2
    assert result.logs == "outer\ninner\n"


def test_telemetry_has_the_functions_lines(make: MakeFunction) -> None:
    function = make("def handler(event, context):\n    print('hello')\n")
    function.invoke()
    assert [event.record for event in function.telemetry("function")] == ["hello\n"]
    assert [event.type for event in function.telemetry("platform.start", "platform.report")] == [
        "platform.start",
        "platform.report",
    ]


def test_nothing_is_left_open(make: MakeFunction) -> None:
    source = "def handler(event, context):\n    return 1\n"
    make(source).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        function = make(source)
        function.invoke()
        function.close()
    # The endpoint closes its side of a connection a moment later, on its own thread.
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_breakpoints_and_coverage_reach_the_handler(
    make: MakeFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[str] = []
    lines: list[int] = []

    def trace(frame: Any, event: str, _argument: object) -> Any:
        if frame.f_code.co_filename.endswith("task/app.py") and event == "line":
            lines.append(frame.f_lineno)
        return trace

    monkeypatch.setattr(sys, "breakpointhook", lambda: stopped.append(sys._getframe(1).f_code.co_name))
    function = make("def handler(event, context):\n    breakpoint()\n    return event\n")
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function.invoke()
    finally:
        sys.settrace(before)
    assert stopped == ["handler"]
    assert {2, 3} <= set(lines)


def test_results_can_be_asked_for_in_any_order(make: MakeFunction) -> None:
    function = make("def handler(event, context):\n    return event\n")
    begun = [function.begin(number) for number in range(3)]
    assert [invocation.result(20).payload for invocation in reversed(begun)] == [2, 1, 0]


def test_each_of_those_that_wait_has_an_init_of_its_own_when_it_fails(make: MakeFunction) -> None:
    function = make("raise OSError('no config')\n")
    begun = [function.begin() for _ in range(3)]
    errors = [invocation.result(20).error for invocation in reversed(begun)]
    assert [error and error.message for error in errors] == ["no config"] * 3


STREAMS = """
import asyncio
import caloric

def words(event, context):
    context.after_response(print, "afterwards")
    yield "first "
    yield "second"

async def awaited(event, context):
    await asyncio.sleep(0)
    return event

async def items(event, context):
    for number in range(2):
        await asyncio.sleep(0)
        yield {"number": number}

def page(event, context):
    return caloric.HttpResponse(404, body="nothing")

def pushed(event, context):
    context.open_stream(content_type="text/csv").write("a,b")

def breaks(event, context):
    yield "half"
    raise ValueError("in the middle")

"""


@pytest.mark.parametrize("in_process", [True, False])
@pytest.mark.parametrize(
    ("handler", "payload", "content_type"),
    [
        ("words", b"first second", "text/plain; charset=utf-8"),
        ("awaited", b"{}", "application/json"),
        ("items", b'{"number":0}\n{"number":1}\n', "application/x-ndjson"),
        ("pushed", b"a,b", "text/csv"),
    ],
)
def test_what_handlers_may_be_they_may_be_here(
    handler: str,
    payload: bytes,
    content_type: str,
    in_process: bool,
    lambda_function: MakeFunction,
    write_function: WriteFunction,
) -> None:
    root = write_function(STREAMS)
    function = lambda_function(f"app.{handler}", task_root=root, in_process=in_process)
    first, result = function.invoke().raise_for_error(), function.invoke().raise_for_error()
    assert (first.raw_payload, first.content_type) == (payload, content_type)
    assert (result.raw_payload, result.content_type) == (payload, content_type)
    assert ("afterwards" in result.logs) == (handler == "words")


@pytest.mark.parametrize("in_process", [True, False])
def test_an_http_response_is_its_payload(
    in_process: bool, lambda_function: MakeFunction, write_function: WriteFunction
) -> None:
    function = lambda_function("app.page", task_root=write_function(STREAMS), in_process=in_process)
    payload = function.invoke().payload
    assert (payload["statusCode"], payload["body"]) == (404, "nothing")


@pytest.mark.parametrize("in_process", [True, False])
def test_an_error_in_the_middle_of_a_stream_is_the_results(
    in_process: bool, lambda_function: MakeFunction, write_function: WriteFunction
) -> None:
    function = lambda_function("app.breaks", task_root=write_function(STREAMS), in_process=in_process)
    result = function.invoke()
    assert result.error is not None
    assert result.error.message == "in the middle"
    if in_process:
        assert isinstance(result.exception, ValueError)


def test_lifecycle_hooks_do_not_run_here(make: MakeFunction) -> None:
    function = make(
        """
        from caloric import lifecycle

        seen = []
        lifecycle.before_invoke(lambda event, context: seen.append("before"))
        lifecycle.after_invoke(lambda event, context, result, error: seen.append("after"))

        def handler(event, context):
            return list(seen)
        """
    )
    assert function.invoke().payload == []
    assert function.invoke().payload == []
