"""Responses that are read while they are made: `LambdaFunction.stream`."""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from caloric.testing import FunctionFailedError, InvocationStream, LambdaFunction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import WriteFunction

    MakeFunction = Callable[..., LambdaFunction]

pytest_plugins = ["pytester"]

SOURCE = """
    import json, os, time
    import caloric

    def wait_for(path):
        while path and not os.path.exists(path):
            time.sleep(0.002)

    def words(event, context):
        print("begins")
        yield "one "
        wait_for(event.get("gate"))
        yield "two"

    def many(event, context):
        for number in range(100):
            yield b"%02d" % number

    def page(event, context):
        headers = {"Content-Type": "text/event-stream", "X-Id": context.aws_request_id}
        return caloric.HttpResponse(201, headers, ["a=1; Path=/", "b=2"], words(event, context))

    def whole(event, context):
        return {"answer": 42}

    def nothing(event, context):
        return iter(())

    def fails(event, context):
        raise ValueError("at once")

    def breaks(event, context):
        yield "half"
        raise ValueError("in the middle")

    def breaks_prelude(event, context):
        with context.open_stream(content_type=HTTP) as stream:
            stream.write('{"statusCode"')
            raise ValueError("in the prelude")

    HTTP = "application/vnd.awslambda.http-integration-response"
    PRELUDES = {
        "endless": b"x" * 20_000,
        "unended": b"{}",
        "no JSON": b"{" + bytes(8),
        "no object": b"[]" + bytes(8),
        "headers": b'{"headers": []}' + bytes(8),
        "cookies": b'{"cookies": "a=1"}' + bytes(8),
    }

    def prelude(event, context):
        with context.open_stream(content_type=HTTP) as stream:
            stream.write(PRELUDES[event])

    def cut(event, context):
        with context.open_stream(content_type=HTTP) as stream:
            for byte in b'{"statusCode": 404}' + bytes(8) + b"body":
                stream.write(bytes([byte]))

    def works_on(event, context):
        context.after_response(wait_for, event["gate"])
        yield "answer"

    def stalls(event, context):
        yield "one"
        time.sleep(60)

    def endless(event, context):
        while True:
            yield b"x" * 100_000
"""


@pytest.fixture(params=[False, True], ids=["process", "in_process"])
def make(
    request: pytest.FixtureRequest, lambda_function: MakeFunction, write_function: WriteFunction
) -> MakeFunction:
    root = write_function(SOURCE)
    return lambda handler, **options: lambda_function(
        f"app.{handler}", task_root=root, in_process=request.param, **options
    )


@pytest.fixture
def make_process(lambda_function: MakeFunction, write_function: WriteFunction) -> MakeFunction:
    root = write_function(SOURCE)
    return lambda handler, **options: lambda_function(f"app.{handler}", task_root=root, **options)


def test_a_piece_is_there_before_the_next_is_made(make_process: MakeFunction, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    function = make_process("words", timeout=60)
    stream = function.stream({"gate": str(gate)})
    assert next(stream) == b"one "
    assert repr(stream) == "<InvocationStream of app.words, not finished>"
    gate.touch()
    assert list(stream) == [b"two"]
    result = stream.result()
    assert repr(stream) == "<InvocationStream of app.words, finished>"
    assert result.error is None
    assert result.logs == "begins\n"
    assert result.cold_start
    assert result.timings["response_ms"] > 0
    assert result.report.line.startswith(f"REPORT RequestId: {result.request_id}")
    with pytest.raises(ValueError, match="streamed its response"):
        _ = result.payload


def test_a_stream_has_a_type_and_can_be_read_at_once(make: MakeFunction) -> None:
    stream = make("words").stream()
    assert isinstance(stream, InvocationStream)
    assert stream.streamed
    assert stream.content_type == "text/plain; charset=utf-8"
    assert (stream.status, stream.headers, stream.cookies) == (None, {}, [])
    assert stream.read() == b"one two"
    assert stream.read() == b""
    assert stream.result() is stream.result()


def test_the_prelude_of_an_http_response_is_told_apart(make: MakeFunction) -> None:
    stream = make("page").stream(request_id="12345678-0000-4000-8000-000000000000")
    assert stream.status == 201
    assert stream.content_type == "text/event-stream"
    assert stream.headers["x-id"] == "12345678-0000-4000-8000-000000000000"
    assert stream.cookies == ["a=1; Path=/", "b=2"]
    assert b"".join(stream) == b"one two"


def test_a_prelude_may_come_in_pieces(make: MakeFunction) -> None:
    stream = make("cut").stream()
    assert (stream.status, stream.headers, stream.read()) == (404, {}, b"body")


def test_what_is_not_streamed_is_one_piece(make: MakeFunction) -> None:
    stream = make("whole").stream()
    assert list(stream) == [b'{"answer":42}']
    assert not stream.streamed
    assert (stream.content_type, stream.status) == ("application/json", None)
    assert stream.result().payload == {"answer": 42}


def test_an_empty_stream_has_no_piece(make: MakeFunction) -> None:
    stream = make("nothing").stream()
    assert stream.read() == b""
    assert stream.result().error is None


def test_a_function_that_fails_at_once_gives_nothing(make: MakeFunction) -> None:
    stream = make("fails").stream()
    assert list(stream) == []
    assert not stream.streamed
    assert (stream.content_type, stream.status) == ("application/json", None)
    error = stream.result().error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "at once")
    with pytest.raises(FunctionFailedError, match="at once"):
        stream.read()


def test_a_stream_that_fails_midway_ends_and_the_result_tells(make: MakeFunction) -> None:
    function = make("breaks")
    stream = function.stream()
    assert list(stream) == [b"half"]
    assert stream.streamed
    result = stream.result()
    assert result.status == "error"
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("ValueError", "in the middle")
    assert "breaks" in result.error.stack_trace[-1]
    if function.in_process:
        assert isinstance(result.exception, ValueError)
    with pytest.raises(FunctionFailedError, match="in the middle"):
        function.stream().read()


def test_a_failure_in_the_prelude_is_the_functions(make: MakeFunction) -> None:
    stream = make("breaks_prelude").stream()
    assert stream.status is None
    assert list(stream) == []
    error = stream.result().error
    assert error is not None
    assert error.message == "in the prelude"


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("endless", "does not end within 16384 bytes: it begins with b'xxx"),
        ("unended", "does not end"),
        ("no JSON", "is no JSON"),
        ("no object", r"it should be a dict, not \[\]"),
        ("headers", r"headers should be a dict, not \[\]"),
        ("cookies", "cookies should be a list, not 'a=1'"),
    ],
)
def test_a_prelude_that_is_none_is_a_value_error(kind: str, problem: str, make: MakeFunction) -> None:
    stream = make("prelude").stream(kind)
    for _ in range(2):
        with pytest.raises(ValueError, match=problem):
            _ = stream.status
    with pytest.raises(ValueError, match=problem):
        next(stream)
    assert stream.result().error is None


def test_what_is_not_read_is_skipped(make: MakeFunction) -> None:
    function = make("many")
    result = function.stream().result()
    assert result.error is None
    stream = function.stream()
    assert next(stream).startswith(b"00")
    assert stream.result().error is None
    assert list(stream) == []
    assert function.stream().read() == b"".join(b"%02d" % number for number in range(100))


def test_a_time_limit_ends_a_stream(make_process: MakeFunction) -> None:
    stream = make_process("stalls", timeout=0.5).stream()
    assert list(stream) == [b"one"]
    assert stream.result().status == "timeout"


def test_who_does_not_read_holds_the_function_up_and_close_ends_it(make_process: MakeFunction) -> None:
    function = make_process("endless", timeout=60)
    stream = function.stream()
    assert len(next(stream)) > 0
    function.close()
    error = stream.result(timeout=30).error
    assert error is not None
    assert error.message.endswith("The execution environment was closed")


def test_in_process_the_handler_runs_when_the_first_piece_is_asked_for(
    lambda_function: MakeFunction, write_function: WriteFunction
) -> None:
    source = """
        import threading

        ran = []

        def handler(event, context):
            ran.append(threading.get_ident())
            yield event
    """
    function = lambda_function("app.handler", task_root=write_function(source), in_process=True)
    first, second, last = function.stream("a"), function.begin("b"), function.stream("c")
    # Of those that wait each is run by who asks for a later one.
    assert last.read() == b"c"
    assert second.result().raw_payload == b"b"
    assert first.read() == b"a"
    app: Any = importlib.import_module("app")
    assert app.ran == [threading.get_ident()] * 3


def test_streams_of_managed_instances_run_at_once(
    lambda_function: MakeFunction, write_function: WriteFunction, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    function = lambda_function("app.words", task_root=write_function(SOURCE), max_concurrency=2, timeout=60)
    streams = [function.stream({"gate": str(gate)}) for _ in range(2)]
    assert [next(stream) for stream in streams] == [b"one "] * 2
    gate.touch()
    assert [stream.read() for stream in streams] == [b"two"] * 2


def test_the_logs_of_a_stream_are_in_a_failing_tests_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        app="def handler(event, context):\n    print('said by the function')\n    yield 'piece'\n",
        test_it="""
        def test_it(lambda_function):
            stream = lambda_function("app.handler").stream()
            assert stream.read() == b"another"
        """,
    )
    result = pytester.runpytest_inprocess("-p", "no:ddtrace", "-p", "no:benchmark")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Captured Lambda logs of app.handler*", "*said by the function*"])


def test_the_end_is_waited_for_as_long_as_asked(make_process: MakeFunction, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    stream = make_process("works_on", timeout=60).stream({"gate": str(gate)})
    assert list(stream) == [b"answer"]
    with pytest.raises(TimeoutError, match=r"has not finished after 0\.05 s"):
        stream.result(timeout=0.05)
    gate.touch()
    assert stream.result(timeout=30).error is None
