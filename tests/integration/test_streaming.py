"""Responses that are sent while they are made, as the Runtime API sees them (spec runtime-api 2)."""

from __future__ import annotations

import contextlib
import json
import time
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtimes import CALORIC, start
from tests.scripted_api import ACCEPTED, CLOSE, EARLY, HANG, RESET, ScriptedApi, event, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import WriteFunction
    from tests.scripted_api import Request, Step

ERROR_TYPE = "lambda-runtime-function-error-type"
ERROR_BODY = "lambda-runtime-function-error-body"
# The third way in: by the loop in Python that runs what tools have patched.
WITH_TOOLS = "with tools"
WAYS = [*CALORIC, WITH_TOOLS]


class Function:
    """A function that runs against a scripted API."""

    def __init__(self, api: ScriptedApi, process: Any) -> None:
        self.api = api
        self.process = process

    def response(self, index: int = 1) -> Request:
        """Wait for the request at `index` to be complete."""
        return self.api.wait_for_end(index)

    def output(self) -> tuple[str, str]:
        """End the function and return stdout and stderr."""
        self.process.kill()
        out, err = self.process.communicate(timeout=20)
        return out.decode(), err.decode()


@contextlib.contextmanager
def running(
    way: str,
    write_function: WriteFunction,
    source: str,
    *steps: Step,
    keep_chunks: bool = True,
    **variables: str,
) -> Iterator[Function]:
    folder = write_function(source)
    if way == WITH_TOOLS:
        (folder / "tool.py").write_text("import awslambdaric.bootstrap\nfrom app import handler\n")
        way, handler = "fast", "tool.handler"
    else:
        handler = "app.handler"
    with (
        ScriptedApi(list(steps) or [event(1, "id-1"), ACCEPTED, HANG], keep_chunks=keep_chunks) as api,
        start(way, handler, folder, api.address, **variables) as process,
    ):
        try:
            yield Function(api, process)
        finally:
            process.kill()


def gate(folder_of: Path) -> Path:
    return folder_of / "gate"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["def", "async def", "returned", "coroutine"])
def test_each_item_leaves_when_it_is_yielded(way: str, kind: str, write_function: WriteFunction) -> None:
    # The second item waits for a file that appears when the first one has been seen.
    body = """
    import os, time

    {define} items(event, context):
        yield "first"
        while not os.path.exists("gate"):
            time.sleep(0.01)
        yield "second"
    """
    tail = {
        "def": "handler = items",
        "async def": "handler = items",
        "returned": "def handler(event, context): return items(event, context)",
        "coroutine": "async def handler(event, context): return items(event, context)",
    }[kind]
    source = (
        body.format(define="async def" if kind in ("async def", "coroutine") else "def") + "\n    " + tail
    )
    with running(way, write_function, source) as function:
        assert function.api.wait_for_chunks(1, 1) == [b"first"]
        write_function("", "gate")
        response = function.response()
        assert response.chunks == [b"first", b"second"]
        assert response.trailers == {}
        assert response.headers["lambda-runtime-function-response-mode"] == "streaming"
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.headers["trailer"] == (
            "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"
        )
        assert response.path == "/2018-06-01/runtime/invocation/id-1/response"
        assert "content-length" not in response.headers
        function.api.wait_for(3)
        assert function.api.calls() == ["next", "response", "next"]


@pytest.mark.parametrize(
    ("items", "content_type", "sent"),
    [
        ("b'a', b'b'", "application/octet-stream", [b"a", b"b"]),
        ("bytearray(b'a'), memoryview(b'b')", "application/octet-stream", [b"a", b"b"]),
        ("'ä', '\\ud800'", "text/plain; charset=utf-8", ["ä".encode(), b"?"]),
        ("{'a': 1}, [2], 3, None", "application/x-ndjson", [b'{"a":1}\n', b"[2]\n", b"3\n", b"null\n"]),
        ("'text', b'bytes', {'a': 1}", "text/plain; charset=utf-8", [b"text", b"bytes", b'{"a":1}\n']),
        ("'', b'', 'x'", "text/plain; charset=utf-8", [b"x"]),
        ("", "application/octet-stream", []),
    ],
)
def test_the_first_item_decides_the_content_type(
    items: str, content_type: str, sent: list[bytes], write_function: WriteFunction
) -> None:
    source = f"""
    def handler(event, context):
        yield from ({items}{"," if items else ""})
    """
    with running("fast", write_function, source) as function:
        response = function.response()
        assert response.chunks == sent
        assert response.headers["content-type"] == content_type


@pytest.mark.parametrize("way", WAYS)
def test_an_http_response_around_a_generator_streams_behind_the_prelude(
    way: str, write_function: WriteFunction
) -> None:
    source = """
    import caloric

    def words():
        yield "Hello "
        yield "world"

    def handler(event, context):
        return caloric.HttpResponse(201, {"X-One": "1", "Set-Cookie": "b=2"}, ["a=1"], words())
    """
    with running(way, write_function, source) as function:
        response = function.response()
    assert response.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    prelude, _, rest = response.chunks[0].partition(bytes(8))
    assert json.loads(prelude) == {
        "statusCode": 201,
        "headers": {"X-One": "1", "content-type": "text/plain; charset=utf-8"},
        "cookies": ["a=1", "b=2"],
    }
    assert [rest, *response.chunks[1:]] == [b"Hello ", b"world"]


@pytest.mark.parametrize("way", WAYS)
def test_an_http_response_with_a_whole_body_is_a_result_like_another(
    way: str, write_function: WriteFunction
) -> None:
    source = """
    import caloric

    def handler(event, context):
        return caloric.HttpResponse(404, body=b"\\x00\\x01" if event else {"a": [1]})
    """
    steps = [event(1, "a"), ACCEPTED, event(0, "b"), ACCEPTED, HANG]
    with running(way, write_function, source, *steps) as function:
        function.api.wait_for(5)
        answers = [request.json() for request in function.api.requests if request.call == "response"]
    assert answers == [
        {
            "statusCode": 404,
            "headers": {"content-type": "application/octet-stream"},
            "body": "AAE=",
            "isBase64Encoded": True,
        },
        {
            "statusCode": 404,
            "headers": {"content-type": "application/json"},
            "body": '{"a":[1]}',
            "isBase64Encoded": False,
        },
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("define", ["def", "async def"])
def test_an_exception_in_the_middle_is_told_in_the_trailers_and_logged(
    way: str, define: str, write_function: WriteFunction
) -> None:
    source = f"""
    {define} handler(event, context):
        yield "half"
        raise ValueError("boom")
    """
    with running(way, write_function, source) as function:
        response = function.response()
        function.api.wait_for(3)
        out, _ = function.output()
    assert response.call == "response"
    assert response.chunks == [b"half"]
    assert response.trailers[ERROR_TYPE] == "ValueError"
    document = json.loads(b64decode(response.trailers[ERROR_BODY]))
    assert document["errorMessage"] == "boom"
    assert document["errorType"] == "ValueError"
    assert [entry.split(", ")[-1].split("\n")[0] for entry in document["stackTrace"]] == ["in handler"]
    assert out.startswith("[ERROR] ValueError: boom\rTraceback (most recent call last):\r")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("define", ["def", "async def"])
def test_an_exception_before_the_first_byte_is_an_ordinary_error(
    way: str, define: str, write_function: WriteFunction
) -> None:
    source = f"""
    {define} handler(event, context):
        if event:
            raise ValueError("early")
        yield "never"
    """
    with running(way, write_function, source) as function:
        error = function.response()
    assert error.call == "error"
    assert error.json()["errorMessage"] == "early"
    assert "transfer-encoding" not in error.headers


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", ["", 'yield "one"'])
def test_an_item_without_a_form_in_json_is_a_marshal_error(
    way: str, first: str, write_function: WriteFunction
) -> None:
    source = f"""
    def handler(event, context):
        {first or "pass"}
        yield object()
    """
    with running(way, write_function, source) as function:
        request = function.response()
    document = json.loads(b64decode(request.trailers[ERROR_BODY])) if first else request.json()
    assert request.call == ("response" if first else "error")
    assert document["errorType"] == "Runtime.MarshalError"
    message = "Unable to marshal response: Object of type object is not JSON serializable"
    assert document["errorMessage"] == message


@pytest.mark.parametrize(
    "raises",
    [
        "return deep()",
        "return long(100)",
        "raise ValueError('x' * 20_000)",
        "raise ValueError('ä' * 20_000)",
        "raise type('N' * 10_000, (Exception,), {})('m')",
    ],
)
def test_trailers_stay_below_what_aws_takes(raises: str, write_function: WriteFunction) -> None:
    source = f"""
    def deep(): return deep()
    def long(n): return other(n - 1) if n else 1 / 0
    def other(n): return long(n)

    def fail():
        {raises}

    def handler(event, context):
        yield "half"
        fail()
    """
    with running("fast", write_function, source) as function:
        response = function.response()
        function.api.wait_for(3)
        out, _ = function.output()
    size = sum(len(name) + len(value.encode()) + 4 for name, value in response.trailers.items())
    assert size <= 3584
    document = json.loads(b64decode(response.trailers[ERROR_BODY]))
    assert document["errorType"][:20] == response.trailers[ERROR_TYPE][:20]
    if "deep" in raises:
        assert document["errorMessage"].startswith("maximum recursion depth exceeded")
    elif "long" in raises:
        assert any("more frames" in entry for entry in document["stackTrace"])
        assert document["stackTrace"][-1] == stack_trace_in(out)[-1]
        assert len(stack_trace_in(out)) > 200
    else:
        # The log has all of it.
        assert len(out) > 9_000


def stack_trace_in(log: str) -> list[str]:
    """The entries of the first error's stack trace, as they are posted."""
    lines = [line.replace("\xa0", " ") for line in log.partition("\n")[0].split("\r")]
    starts = [index for index, line in enumerate(lines) if line.startswith("  File ")]
    return ["".join(f"{line}\n" for line in lines[at : at + 2]) for at in starts]


def test_a_prelude_that_lambda_does_not_take_is_an_ordinary_error(write_function: WriteFunction) -> None:
    source = """
    import caloric

    def handler(event, context):
        return caloric.HttpResponse(200, {"X-Big": "x" * 17000}, body=iter(["never"]))
    """
    with running("fast", write_function, source) as function:
        error = function.response()
    assert error.call == "error"
    assert error.json()["errorType"] == "ValueError"
    assert "where Lambda accepts 16384" in error.json()["errorMessage"]


PUSHING = """
import threading, caloric

def handler(event, context):
    stream = context.open_stream({arguments})
    {body}
"""


def pushing(body: str, arguments: str = "") -> str:
    return PUSHING.format(arguments=arguments, body=body.replace("\n", "\n    "))


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_is_written_to_and_ends_with_the_handler(way: str, write_function: WriteFunction) -> None:
    source = pushing(
        "stream.write('one')\n"
        "thread = threading.Thread(target=stream.write, args=({'two': 2},))\n"
        "thread.start(); thread.join()",
        "content_type='text/event-stream'",
    )
    with running(way, write_function, source) as function:
        response = function.response()
    assert response.chunks == [b"one", b'{"two":2}\n']
    assert response.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_with_a_status_has_a_prelude_even_if_nothing_is_written(
    way: str, write_function: WriteFunction
) -> None:
    with running(way, write_function, pushing("pass", "status=204")) as function:
        response = function.response()
    prelude, _, rest = response.body.partition(bytes(8))
    assert json.loads(prelude)["statusCode"] == 204
    assert rest == b""


@pytest.mark.parametrize("way", WAYS)
def test_what_a_handler_with_a_stream_returns_is_not_sent_and_that_is_told(
    way: str, write_function: WriteFunction
) -> None:
    with running(way, write_function, pushing("stream.write('one')\nreturn {'a': 1}")) as function:
        response = function.response()
        function.api.wait_for(3)
        _, err = function.output()
    assert response.body == b"one"
    assert "what its handler returned is not sent" in err


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("written", [True, False])
def test_an_exception_with_a_stream_is_its_error(
    way: str, written: bool, write_function: WriteFunction
) -> None:
    write = "stream.write('one')\n" if written else ""
    source = pushing(write + "with stream:\n    raise KeyError('x')")
    with running(way, write_function, source) as function:
        request = function.response()
    assert request.call == ("response" if written else "error")
    if written:
        assert request.trailers[ERROR_TYPE] == "KeyError"
    else:
        assert request.json()["errorType"] == "KeyError"


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_stream_has_ended_for_its_caller_while_the_handler_goes_on(
    way: str, write_function: WriteFunction
) -> None:
    body = """
stream.write('one')
stream.close()
stream.close()
print('closed', stream.closed)
try:
    stream.write('two')
except caloric.StreamClosedError as error:
    print(error)
raise ValueError('too late')
""".strip()
    with running(way, write_function, pushing(body)) as function:
        response = function.response()
        function.api.wait_for(3)
        out, _ = function.output()
    assert response.body == b"one"
    assert response.trailers == {}
    lines = out.splitlines()
    assert lines[:2] == ["closed True", "the response stream is closed"]
    assert lines[2].startswith("[ERROR] ValueError: too late")


def test_a_second_stream_is_refused(write_function: WriteFunction) -> None:
    with running("fast", write_function, pushing("context.open_stream()")) as function:
        error = function.response()
    assert error.json()["errorType"] == "RuntimeError"
    assert error.json()["errorMessage"] == "this invocation has a response stream already"


ENDLESS = """
import time

def handler(event, context):
    if event == 2:
        return "plain"
    return endless()

def endless():
    try:
        while True:
            yield b"x" * 1000
            time.sleep(0.001)
    finally:
        print("closed", flush=True)
"""
ASYNC_ENDLESS = """
import asyncio

async def handler(event, context):
    if event == 2:
        return "plain"
    return endless()

async def endless():
    try:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)
    finally:
        print("closed", flush=True)
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", [ENDLESS, ASYNC_ENDLESS], ids=["plain", "async"])
@pytest.mark.parametrize("end", [(EARLY, status(413, close=True)), (EARLY, CLOSE), (EARLY, RESET)], ids=str)
def test_a_platform_that_wants_no_more_ends_the_generator_and_the_next_invocation_is_served(
    way: str, source: str, end: Step, write_function: WriteFunction
) -> None:
    steps = [event(1, "a"), end, event(2, "b"), ACCEPTED, HANG]
    with running(way, write_function, source, *steps) as function:
        function.api.wait_for(5)
        out, err = function.output()
    assert function.api.calls() == ["next", "response", "next", "response", "next"]
    assert function.api.requests[3].json() == "plain"
    assert out == "closed\n"
    assert "caloric: the streamed answer was " in err


@pytest.mark.parametrize("source", [ENDLESS, ASYNC_ENDLESS], ids=["plain", "async"])
def test_a_slow_reader_slows_the_function_down(source: str, write_function: WriteFunction) -> None:
    source = (
        source.replace("yield", "count()\n            yield")
        .replace("time.sleep(0.001)", "pass")
        .replace("await asyncio.sleep(0.001)", "pass")
    )
    source += """
counted = 0

def count():
    global counted
    counted += 1
    if counted % 1000 == 0:
        print(counted, flush=True)
"""
    with running("fast", write_function, source.replace("* 1000", "* 10_000")) as function:
        function.api.let_read.clear()
        function.api.wait_for_chunks(1, 1)
        # It runs until the connection's buffers are full, a few megabytes, and then waits.
        before, now = "", cpu_times(function.process.pid)
        while now != before:
            time.sleep(0.5)
            before, now = now, cpu_times(function.process.pid)
        out, _ = function.output()
    assert len(out.splitlines()) < 10


def cpu_times(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return " ".join(stat.read().rpartition(")")[2].split()[11:13])


@pytest.mark.parametrize("define", ["def", "async def"])
def test_a_stream_of_any_length_needs_no_more_memory(define: str, write_function: WriteFunction) -> None:
    source = f"""
    {define} handler(event, context):
        piece = b"x" * 100_000
        for _ in range(2000):
            yield piece
        with open("/proc/self/status") as status:
            print([line.split()[1] for line in status if line.startswith("VmHWM")][0], flush=True)
    """
    with running("fast", write_function, source, keep_chunks=False) as function:
        function.api.wait_for(3, timeout=60)
        out, _ = function.output()
    assert int(out) < 60_000


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_was_closed_while_the_handler_ran_is_replaced(
    way: str, write_function: WriteFunction
) -> None:
    source = """
    import time

    def handler(event, context):
        time.sleep(0.3)
        yield "late"
    """
    steps: list[Step] = [(event(1, "a"), CLOSE), ACCEPTED, HANG]
    with running(way, write_function, source, *steps) as function:
        response = function.response()
    assert response.body == b"late"
    assert response.connection == 1


def test_exit_in_the_middle_breaks_the_stream_off(write_function: WriteFunction) -> None:
    source = """
    def handler(event, context):
        yield "half"
        raise SystemExit(7)
    """
    with running("fast", write_function, source) as function:
        assert function.process.wait(20) == 7
        assert function.api.wait_for_chunks(1, 1) == [b"half"]
        assert not function.api.requests[1].complete
