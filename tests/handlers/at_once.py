"""Handlers that serve several invocations at once in one process: tasks, and what runs in threads."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import caloric

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

FOLDER = Path(os.environ.get("TEST_FOLDER", "/nonexistent"))


def who(context: Any) -> dict[str, Any]:
    """Say where this runs, and what is known of the invocation."""
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "thread": threading.get_ident(),
        "id": context.aws_request_id,
        "tenant": context.tenant_id,
        "trace": caloric.trace_id(),
        "environment": os.environ.get("_X_AMZN_TRACE_ID"),
    }


async def come(name: str) -> None:
    """Wait for a file."""
    while not (FOLDER / name).exists():
        await asyncio.sleep(0.002)


def all_are_there(event: dict[str, Any]) -> bool:
    return len(list(FOLDER.glob(f"{event['round']}-*"))) >= event["count"]


async def together(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Wait until as many invocations run as the event says, log from a task and from a thread, and answer."""
    (FOLDER / f"{event['round']}-{context.aws_request_id}").touch()
    while not all_are_there(event):
        await asyncio.sleep(0.002)
    logging.getLogger().warning("task of %s", context.aws_request_id)
    await asyncio.to_thread(logging.getLogger().warning, "thread of %s", context.aws_request_id)
    return who(context)


def together_in_threads(event: dict[str, Any], context: Any) -> Any:
    """The same, of a plain handler; with "await" what it returns is to be awaited."""
    (FOLDER / f"{event['round']}-{context.aws_request_id}").touch()
    while not all_are_there(event):
        time.sleep(0.002)
    logging.getLogger().warning("thread of %s", context.aws_request_id)
    return _awaited(context) if event.get("await") else who(context)


async def _awaited(context: Any) -> dict[str, Any]:
    await asyncio.sleep(0)
    logging.getLogger().warning("task of %s", context.aws_request_id)
    return who(context)


async def behave(event: dict[str, Any], context: Any) -> Any:
    """Do what the event says."""
    return await BEHAVIOURS[event.get("do", "who")](event, context)


async def _who(event: dict[str, Any], context: Any) -> Any:
    return who(context)


async def _wait(event: dict[str, Any], context: Any) -> Any:
    (FOLDER / f"{context.aws_request_id}.begun").touch()
    await come(f"{context.aws_request_id}.go")
    return who(context)


async def _fail(event: dict[str, Any], context: Any) -> Any:
    await asyncio.sleep(0)
    raise ValueError("on purpose")


async def _cancel(event: dict[str, Any], context: Any) -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


async def _unmarshallable(event: dict[str, Any], context: Any) -> Any:
    return object()


async def _exit(event: dict[str, Any], context: Any) -> Any:
    await asyncio.sleep(0)
    sys.exit(3)


async def _exit_after(event: dict[str, Any], context: Any) -> Any:
    context.after_response(sys.exit, 5)
    return "answered"


async def _cancel_all(event: dict[str, Any], context: Any) -> Any:
    # The next one has come and has not begun while the loop stands still.
    (FOLDER / "blocking").touch()
    while not (FOLDER / "unblock").exists():
        time.sleep(0.002)

    def cancel() -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    for turns in range(3):
        asyncio.get_running_loop().call_soon(_after_turns, turns, cancel)
    await asyncio.sleep(10)


def _after_turns(turns: int, function: Any) -> None:
    if turns:
        asyncio.get_running_loop().call_soon(_after_turns, turns - 1, function)
    else:
        function()


async def _crash(event: dict[str, Any], context: Any) -> Any:
    os._exit(4)


async def _stop_the_loop(event: dict[str, Any], context: Any) -> Any:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return "went on"


async def _http(event: dict[str, Any], context: Any) -> Any:
    return caloric.HttpResponse(201, body="made")


async def _stream(event: dict[str, Any], context: Any) -> Any:
    return _pieces(event)


async def _plain_stream(event: dict[str, Any], context: Any) -> Any:
    return iter(_plain_pieces(event))


async def _opened(event: dict[str, Any], context: Any) -> Any:
    with context.open_stream(content_type="text/plain") as stream:
        stream.write("from the task, ")
        await asyncio.to_thread(stream.write, "from a thread")


async def _opened_in_thread(event: dict[str, Any], context: Any) -> Any:
    stream = context.open_stream(content_type="text/plain")

    def write() -> None:
        for number, piece in enumerate(_plain_pieces(event), 1):
            stream.write(piece)
            (FOLDER / "written").write_text(str(number))

    await asyncio.to_thread(write)


async def _after(event: dict[str, Any], context: Any) -> Any:
    async def work() -> None:
        (FOLDER / "work.begun").touch()
        await come("work.go")
        print("worked for", caloric.trace_id(), flush=True)

    context.after_response(work)
    context.after_response((1).__truediv__, 0)
    context.after_response((FOLDER / "work.done").touch)
    return who(context)


async def _pieces(event: dict[str, Any]) -> AsyncIterator[bytes]:
    for number, piece in enumerate(_plain_pieces(event), 1):
        yield piece
        (FOLDER / "written").write_text(str(number))
    if event.get("fails"):
        raise ValueError("midway")


def _plain_pieces(event: dict[str, Any]) -> Iterator[bytes]:
    for number in range(event["pieces"]):
        yield bytes([number % 256]) * event["size"]


BEHAVIOURS: dict[str, Any] = {
    "who": _who,
    "wait": _wait,
    "fail": _fail,
    "cancel": _cancel,
    "unmarshallable": _unmarshallable,
    "exit": _exit,
    "exit after": _exit_after,
    "cancel all": _cancel_all,
    "crash": _crash,
    "stop the loop": _stop_the_loop,
    "http": _http,
    "stream": _stream,
    "plain stream": _plain_stream,
    "opened": _opened,
    "opened in thread": _opened_in_thread,
    "after": _after,
}


def behave_in_threads(event: dict[str, Any], context: Any) -> Any:
    """Do what the event says, in a plain handler."""
    what = event.get("do", "who")
    if what == "wait":
        (FOLDER / f"{context.aws_request_id}.begun").touch()
        while not (FOLDER / f"{context.aws_request_id}.go").exists():
            time.sleep(0.002)
    elif what == "fail":
        raise ValueError("on purpose")
    elif what == "exit":
        sys.exit(3)
    elif what == "stream":
        return iter(_plain_pieces(event))
    elif what == "opened":
        with context.open_stream(content_type="text/plain") as stream:
            stream.write("from a thread")
        return None
    elif what == "after":
        context.after_response((FOLDER / "work.done").touch)
    return who(context)
