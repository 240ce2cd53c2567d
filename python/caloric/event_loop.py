"""The environment's event loop: `async` handlers and lifecycle hooks run on it, and so do the handlers that user code
registered with `loop.add_signal_handler`, also between invocations. Imported only where there is one of those.
"""

from __future__ import annotations

import asyncio
import contextvars
import select
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

__all__ = ["run", "run_signal_handlers", "the_loop"]


class _Own(threading.local):
    """The loop that was made here, where user code had none: of each thread that serves invocations."""

    loop: asyncio.AbstractEventLoop | None = None


_own = _Own()


def the_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop on which user code that is `async` runs. It lives as long as the process.

    It is the thread's current one (as a rule the main thread's) where user code has made that, otherwise uvloop's where
    that is installed.
    """
    loop = _idle_loop()
    if loop is None:
        if _own.loop is None or _own.loop.is_closed():
            _own.loop = _new_loop()
        loop = _own.loop
        # asyncio.run() in a handler leaves the thread without one.
        asyncio.set_event_loop(loop)
    return loop


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def run(awaitable: Awaitable[object]) -> None:
    """Wait for what a hook is, on the environment's event loop. Raises what it raises.

    A loop that is running cannot be entered again: a signal handler that has interrupted it gets a new loop, in a
    thread of its own.
    """
    try:
        if asyncio._get_running_loop() is not None:
            _run_beside(awaitable)
            return
        the_loop().run_until_complete(_wait_for(awaitable))
    except BaseException as error:
        raise error.with_traceback(_own_frames(error.__traceback__, awaitable)) from error.__cause__


def _run_beside(awaitable: Awaitable[object]) -> None:
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            asyncio.run(_wait_for(awaitable))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(wait,), daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


async def _wait_for(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _own_frames(trace: TracebackType | None, awaitable: Any) -> TracebackType | None:
    """The frames from the coroutine's own on: those of asyncio say nothing about an error in it."""
    code = getattr(awaitable, "cr_code", None)
    own = trace
    while own is not None and own.tb_frame.f_code is not code:
        own = own.tb_next
    return trace if own is None else own


def run_signal_handlers(interrupted: bool) -> None:
    """Let the main thread's event loop, if there is an idle one, run what a signal queued in it.

    `interrupted` says that a signal has just come. Otherwise the loop is left alone unless one waits in it, taken by
    another thread perhaps: what else it has to do is for the next invocation.
    """
    loop = _idle_loop()
    if loop is None or not (interrupted or _signal_waits(loop)):
        return
    # The first turn reads which signals came and queues their handlers; the second one runs them, and stops.
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()


def _signal_waits(loop: asyncio.AbstractEventLoop) -> bool:
    # asyncio's own loops are told of signals through a socket pair; another loop's way is not known.
    socket = getattr(loop, "_ssock", None)
    return socket is not None and bool(select.select([socket], [], [], 0)[0])


def _idle_loop() -> asyncio.AbstractEventLoop | None:
    # Asked of the policy's own memory: get_event_loop() would make a loop, or warn, where there is none.
    if sys.version_info >= (3, 14):
        policy = asyncio.events._get_event_loop_policy()
    else:
        policy = asyncio.get_event_loop_policy()
    loop = getattr(getattr(policy, "_local", None), "_loop", None)
    if loop is None or loop.is_closed() or loop.is_running():
        return None
    return loop  # type: ignore[no-any-return]
