"""What a handler wants to be done when the caller has its answer: `context.after_response`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caloric.error_report import log_aside

if TYPE_CHECKING:
    from collections.abc import Callable

    from caloric.context import LambdaContext

__all__ = ["run_all", "schedule"]


def schedule(
    context: LambdaContext, function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Have `function(*args, **kwargs)` called after the response. Raises `TypeError` if it cannot be called."""
    if not callable(function):
        raise TypeError(
            f"context.after_response takes a function and its arguments, not {type(function).__name__}: "
            "write after_response(f, x), not after_response(f(x))"
        )
    context.__dict__.setdefault("_after_response", []).append((function, args, kwargs))
    if context._client is not None:
        context._client.hand_over()


def run_all(context: Any) -> None:
    """Do all of it, in order, and what is added meanwhile.

    What one raises is logged with the request id; the others are done all the same. What is no `Exception` is raised.
    """
    work = context.__dict__["_after_response"]
    while work:
        function, args, kwargs = work.pop(0)
        try:
            result = function(*args, **kwargs)
            if hasattr(type(result), "__await__"):
                from caloric.asynchronous import run

                run(result)
        except Exception as error:
            log_aside(error, context.aws_request_id)
