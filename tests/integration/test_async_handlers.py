"""Handlers that are awaited: one event loop for the life of the environment (design section 4)."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.test_streaming import WAYS, running
from tests.scripted_api import ACCEPTED, HANG, event

if TYPE_CHECKING:
    from tests.conftest import WriteFunction
    from tests.scripted_api import Request, Step


def answers(
    way: str, write_function: WriteFunction, source: str, count: int = 1, **variables: Any
) -> tuple[list[Request], str, str]:
    """Serve `count` invocations, whose events are 1, 2 and so on; return what was posted, stdout and stderr."""
    steps: list[Step] = [
        step for number in range(1, count + 1) for step in (event(number, f"id-{number}"), ACCEPTED)
    ]
    with running(way, write_function, source, *steps, HANG, **variables) as function:
        function.api.wait_for(2 * count + 1)
        posted = [request for request in function.api.requests if request.call != "next"]
        return posted, *function.output()


def results(way: str, write_function: WriteFunction, source: str, count: int = 1) -> list[Any]:
    posted, _, _ = answers(way, write_function, source, count)
    assert {request.call for request in posted} == {"response"}, [request.body for request in posted]
    return [request.json() for request in posted]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "handler",
    [
        "async def handler(event, context):\n    await asyncio.sleep(0.001)\n    return {'event': event}",
        "def handler(event, context):\n    return work(event)",
        "class Callable:\n    async def __call__(self, event, context):\n        return await work(event)\n"
        "handler = Callable()",
        "import functools\nasync def with_more(more, event, context):\n    return await work(event)\n"
        "handler = functools.partial(with_more, 1)",
        "class Awaitable:\n    def __await__(self):\n        return work(1).__await__()\n"
        "def handler(event, context):\n    return Awaitable()",
    ],
    ids=["async def", "returns a coroutine", "object", "partial", "awaitable"],
)
def test_what_is_awaited_is_the_result(way: str, handler: str, write_function: WriteFunction) -> None:
    source = (
        "import asyncio\nasync def work(event):\n    await asyncio.sleep(0)\n    return {'event': event}\n"
    )
    assert results(way, write_function, source + handler) == [{"event": 1}]


@pytest.mark.parametrize("way", WAYS)
def test_there_is_one_loop_and_the_next_invocation_leaves_with_the_answer(
    way: str, write_function: WriteFunction
) -> None:
    source = """
    import asyncio
    loops = []

    async def handler(event, context):
        loops.append(asyncio.get_running_loop())
        return len(set(map(id, loops)))
    """
    assert results(way, write_function, source, 3) == [1, 1, 1]


@pytest.mark.parametrize("way", WAYS)
def test_a_task_that_is_left_goes_on_with_the_next_invocation(
    way: str, write_function: WriteFunction
) -> None:
    source = """
    import asyncio
    log = []

    async def background():
        for number in range(1000):
            log.append(number)
            await asyncio.sleep(0)
        log.append("done")

    task = None

    async def handler(event, context):
        global task
        if task is None:
            task = asyncio.create_task(background())
            await asyncio.sleep(0)
            return log[-1]
        if event == 2:
            return [log[-1] == "done", task.cancelled()]
        await task
        return log[-1]
    """
    first, second, third = results(way, write_function, source, 3)
    assert isinstance(first, int)
    assert second == [False, False]
    assert third == "done"


@pytest.mark.parametrize("way", WAYS)
def test_context_variables_are_those_of_the_import_in_each_invocation(
    way: str, write_function: WriteFunction
) -> None:
    source = """
    import contextvars
    variable = contextvars.ContextVar("variable", default="nothing")
    variable.set("import")

    async def handler(event, context):
        seen = variable.get()
        variable.set(event)
        return seen
    """
    assert results(way, write_function, source, 3) == ["import"] * 3


@pytest.mark.parametrize("way", WAYS)
def test_an_items_context_variables_are_the_invocations(way: str, write_function: WriteFunction) -> None:
    source = """
    import contextvars
    variable = contextvars.ContextVar("variable", default="nothing")

    async def handler(event, context):
        yield variable.get()
        variable.set("set")
        yield variable.get()
    """
    with running(way, write_function, source, event(1), ACCEPTED, event(2), ACCEPTED, HANG) as function:
        function.api.wait_for(5)
        assert [function.api.requests[index].chunks for index in (1, 3)] == [[b"nothing", b"set"]] * 2


@pytest.mark.parametrize("way", WAYS)
def test_an_exception_has_the_frames_of_the_function_and_no_others(
    way: str, write_function: WriteFunction
) -> None:
    source = """
    import asyncio

    async def fail():
        await asyncio.sleep(0)
        raise ValueError("boom")

    async def handler(event, context):
        await fail()
    """
    posted, out, _ = answers(way, write_function, source)
    document = posted[0].json()
    assert posted[0].call == "error"
    assert [entry.split(", in ")[1].split("\n")[0] for entry in document["stackTrace"]] == ["handler", "fail"]
    assert out.startswith("[ERROR] ValueError: boom\r")


@pytest.mark.parametrize("way", WAYS)
def test_a_handler_that_is_cancelled_has_failed_and_the_next_invocation_is_served(
    way: str, write_function: WriteFunction
) -> None:
    source = """
    import asyncio

    async def handler(event, context):
        if event == 1:
            asyncio.current_task().cancel()
            await asyncio.sleep(60)
        return event
    """
    posted, _, _ = answers(way, write_function, source, 2)
    assert [request.call for request in posted] == ["error", "response"]
    assert posted[0].json()["errorType"] == "CancelledError"
    assert posted[1].json() == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_handler_that_stops_the_loop_has_failed_and_the_next_invocation_is_served(
    way: str, write_function: WriteFunction
) -> None:
    source = """
    import asyncio

    async def handler(event, context):
        if event == 1:
            asyncio.get_running_loop().stop()
            await asyncio.sleep(60)
        return event
    """
    posted, _, _ = answers(way, write_function, source, 2)
    assert [request.call for request in posted] == ["error", "response"]
    assert posted[0].json()["errorMessage"] == "the event loop was stopped before the handler was done"


@pytest.mark.parametrize("way", WAYS)
def test_a_loop_that_was_made_at_import_is_the_one(way: str, write_function: WriteFunction) -> None:
    source = """
    import asyncio
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    connection = loop.create_future()
    loop.call_soon(connection.set_result, "connected")

    async def handler(event, context):
        return [asyncio.get_running_loop() is loop, await connection]
    """
    assert results(way, write_function, source) == [[True, "connected"]]


@pytest.mark.parametrize("way", WAYS)
def test_a_plain_handler_may_run_loops_of_its_own(way: str, write_function: WriteFunction) -> None:
    source = """
    import asyncio

    async def work():
        return 42

    def handler(event, context):
        return asyncio.run(work())
    """
    assert results(way, write_function, source, 2) == [42, 42]


def test_asyncio_is_imported_for_async_handlers_only_and_then_during_init(
    write_function: WriteFunction,
) -> None:
    source = """
    import sys

    {} handler(event, context):
        return [name for name in sys.modules if name == "asyncio" or name.startswith("caloric.")]
    """
    plain, asynchronous = (
        results("fast", write_function, source.format(kind))[0] for kind in ("def", "async def")
    )
    assert "asyncio" not in plain
    assert "caloric.asynchronous" not in plain
    assert "asyncio" in asynchronous
    # An answer that is data goes the usual way.
    assert "caloric.answers" not in asynchronous


def test_uvloop_is_used_where_it_is_installed(write_function: WriteFunction) -> None:
    # Not the real one, which would be a dependency of the tests on every Python: a module that makes a marked loop.
    uvloop = """
    import asyncio

    class Loop(asyncio.SelectorEventLoop):
        pass

    new_event_loop = Loop
    """
    source = """
    import asyncio

    async def handler(event, context):
        return type(asyncio.get_running_loop()).__module__
    """
    write_function(uvloop, "uvloop.py")
    assert results("fast", write_function, source) == ["uvloop"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("raises", ["SystemExit(3)", "KeyboardInterrupt"])
def test_what_is_no_exception_ends_the_process(way: str, raises: str, write_function: WriteFunction) -> None:
    source = f"""
    async def handler(event, context):
        raise {raises}
    """
    with running(way, write_function, source, event(1), HANG) as function:
        status = function.process.wait(20)
    assert status == (3 if raises == "SystemExit(3)" else -2)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups came with 3.11")
def test_a_group_of_exceptions_is_reported_with_its_members(write_function: WriteFunction) -> None:
    source = """
    import asyncio

    async def fail():
        raise ValueError("member")

    async def handler(event, context):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
    """
    posted, out, _ = answers("fast", write_function, source)
    assert posted[0].json()["errorType"] == "ExceptionGroup"
    assert "ValueError: member" in out


def test_signal_handlers_of_the_loop_run_while_the_function_waits(write_function: WriteFunction) -> None:
    source = """
    import asyncio, os, signal

    async def handler(event, context):
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: print("signal", flush=True))
        return os.getpid()
    """
    with running("fast", write_function, source, event(1), ACCEPTED, HANG) as function:
        function.api.wait_for(3)
        function.process.send_signal(10)
        assert function.process.stdout.readline() == b"signal\n"
        assert json.loads(function.api.requests[1].body) == function.process.pid
