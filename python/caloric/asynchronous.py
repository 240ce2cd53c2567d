"""Handlers, and what else belongs to one invocation, that are `async` (design section 4).

Imported when there is such code; asyncio takes several times as long to import as everything else at a start.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import TYPE_CHECKING, Any

from caloric.event_loop import the_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["fresh_context", "on_loop", "run"]

# What user code set while it was imported; each invocation begins with that and leaves nothing to the next.
_variables = contextvars.copy_context()


class CancelledError(Exception):
    """The handler's task was cancelled, by the handler itself: an error of the invocation, and not the end of the
    process that `asyncio.CancelledError` would be.
    """


def run(awaitable: Awaitable[Any]) -> Any:
    """Run `awaitable` to its end, in a task with context variables of its own, and return its result.

    The loop stands still afterwards: other tasks go on where they were when it runs again. Raises what the awaitable
    raises, without the event loop's frames in the traceback; `RuntimeError` if the loop was stopped under it.
    """
    loop = the_loop()
    task = fresh_context().run(loop.create_task, _coroutine(awaitable))
    task.add_done_callback(_stop)
    try:
        loop.run_forever()
    finally:
        task.remove_done_callback(_stop)
    if not task.done():
        task.cancel()
        raise RuntimeError("the event loop was stopped before the handler was done")
    if task.cancelled():
        raise CancelledError("the handler was cancelled")
    return task.result()


def fresh_context() -> contextvars.Context:
    """Return the context that an invocation begins with."""
    context = _variables.copy()
    concurrency = sys.modules.get("caloric.concurrency")
    if concurrency is not None:
        concurrency.carry_over(context)
    return context


def _coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    if asyncio.iscoroutine(awaitable):
        return awaitable
    return _await(awaitable)


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _stop(task: asyncio.Task[Any]) -> None:
    task.get_loop().stop()


def on_loop(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a plain function that calls `handler` and waits for what it returns."""
    the_loop()

    def call(event: Any, context: Any) -> Any:
        result = handler(event, context)
        return run(result) if hasattr(type(result), "__await__") else result

    return call
