"""Work after the response: `context.after_response`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.test_streaming import WAYS, running
from tests.scripted_api import ACCEPTED, HANG, event

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

KINDS = {
    "plain": "def handler(event, context):\n    context.after_response(work, 'a', b=1)\n    return 'answer'",
    "bytes": "def handler(event, context):\n    context.after_response(work, 'a', b=1)\n    return b'answer'",
    "async": "async def handler(event, context):\n    context.after_response(work, 'a', b=1)\n    return 'answer'",
    "generator": "def handler(event, context):\n    context.after_response(work, 'a', b=1)\n    yield 'answer'",
    "stream": "def handler(event, context):\n    context.after_response(work, 'a', b=1)\n"
    "    context.open_stream().write('answer')",
    "error": "def handler(event, context):\n    context.after_response(work, 'a', b=1)\n    raise ValueError",
}
WORKS = {
    "plain": "def work(a, b):\n    print('work', a, b, flush=True)\n",
    "async": "import asyncio\nasync def work(a, b):\n    await asyncio.sleep(0)\n    print('work', a, b, flush=True)\n",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_done_when_the_answer_was_accepted_and_before_the_next_invocation_is_asked_for(
    way: str, work: str, kind: str, write_function: WriteFunction
) -> None:
    accept = threading.Event()
    source = WORKS[work] + KINDS[kind]
    with running(way, write_function, source, event(1), (accept, ACCEPTED), HANG) as function:
        answer = function.response()
        assert answer.call == ("error" if kind == "error" else "response")
        # The answer is here and has not been accepted: nothing else has happened.
        with pytest.raises(AssertionError, match="2 of 3 requests came"):
            function.api.wait_for(3, timeout=0.3)
        accept.set()
        function.api.wait_for(3)
        out, _ = function.output()
    assert function.api.calls() == ["next", answer.call, "next"]
    assert [line for line in out.splitlines() if line.startswith("work")] == ["work a 1"]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_done_in_order_with_what_it_adds_and_an_exception_is_only_logged(
    way: str, write_function: WriteFunction
) -> None:
    source = """
    def work(name, context=None):
        print(name, flush=True)
        if context is not None:
            context.after_response(work, "added")
            print(context.get_remaining_time_in_millis() > 0, flush=True)
        if name == "second":
            raise ValueError("only logged")

    def handler(event, context):
        if event == 1:
            context.after_response(work, "first", context)
            context.after_response(work, "second")
            context.after_response(work, "third")
        return event
    """
    steps = [event(1, "a"), ACCEPTED, event(2, "b"), ACCEPTED, HANG]
    with running(way, write_function, source, *steps) as function:
        function.api.wait_for(5)
        out, _ = function.output()
        answers = [request.json() for request in function.api.requests if request.call == "response"]
    assert answers == [1, 2]
    lines = out.splitlines()
    assert lines[:3] == ["first", "True", "second"]
    assert lines[3].startswith("[ERROR] a ValueError: only logged")
    assert lines[-2:] == ["third", "added"]


def test_an_exception_is_logged_with_the_request_id(write_function: WriteFunction) -> None:
    source = """
    def handler(event, context):
        context.after_response(lambda: 1 / 0)
        return 1
    """
    variables: dict[str, Any] = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
    with running("fast", write_function, source, event(1, "id-1"), ACCEPTED, HANG, **variables) as function:
        function.api.wait_for(3)
        out, _ = function.output()
    assert '"requestId":"id-1"' in out
    with running("fast", write_function, source, event(1, "id-1"), ACCEPTED, HANG) as function:
        function.api.wait_for(3)
        out, _ = function.output()
    assert "id-1" in out


def test_what_is_no_function_is_refused_at_once(write_function: WriteFunction) -> None:
    source = """
    def handler(event, context):
        context.after_response(print("now"))
    """
    with running("fast", write_function, source) as function:
        error = function.response().json()
    assert error["errorType"] == "TypeError"
    assert "write after_response(f, x), not after_response(f(x))" in error["errorMessage"]


def test_an_invocation_without_such_work_has_its_answer_and_the_next_request_in_one_write_again(
    write_function: WriteFunction,
) -> None:
    source = """
    def handler(event, context):
        if event == 1:
            context.after_response(int)
        return event
    """
    # The answer to the second one is never accepted, and the next invocation asked for all the same.
    with running("fast", write_function, source, event(1, "a"), ACCEPTED, event(2, "b"), HANG) as function:
        function.api.wait_for(5)
        assert function.api.calls() == ["next", "response", "next", "response", "next"]


def test_exit_ends_the_process_after_the_answer(write_function: WriteFunction) -> None:
    source = """
    import sys

    def handler(event, context):
        context.after_response(sys.exit, 5)
        return 1
    """
    with running("fast", write_function, source, event(1), ACCEPTED, HANG) as function:
        assert function.process.wait(20) == 5
        assert function.api.calls() == ["next", "response"]
