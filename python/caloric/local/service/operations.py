"""Which operations there are: the functions that carry `@operation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService

__all__ = ["CALL", "OPERATIONS", "Call", "Members", "Operation", "operation"]

Members: TypeAlias = Mapping[str, Any]
"""Members of a shape of the API model by name: blobs are `bytes`, maps and structures `dict`, lists `list`.

A timestamp of a request is an aware `datetime`; one of an answer may also be a number, seconds since 1970. In an
answer, `None` is the same as leaving a member out, and members that the shape does not have are left out.
"""

Operation: TypeAlias = "Callable[[LambdaService, Members], Members]"

OPERATIONS: dict[str, Operation] = {}
"""By the operation's name in the API model. Filled when the modules of `caloric.local.service` are imported."""


@dataclass(frozen=True)
class Call:
    """What is known of the request that an operation answers besides its members."""

    request_id: str
    """The answer's `x-amzn-RequestId`, which for an invocation is also what the handler sees."""
    trace_id: str | None = None
    """The request's `X-Amzn-Trace-Id`."""
    access_key: str | None = None
    """The access key that the request was signed with; known only where signatures are verified."""
    answer_headers: dict[str, str] = field(default_factory=dict, compare=False)
    """Headers that the operation adds to its answer, besides those of its members."""


CALL: ContextVar[Call] = ContextVar("CALL")
"""The call that the running operation answers."""


def operation(function: Operation) -> Operation:
    """Offer `function`, say `create_function`, as the operation that the API model calls `CreateFunction`.

    It may run on any thread, several at a time.
    """
    name = "".join(word.capitalize() for word in function.__name__.split("_"))
    assert name not in OPERATIONS, f"{name} is offered twice"
    OPERATIONS[name] = function
    return function
