"""Which operations there are: the functions that carry `@operation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from caloric.local.service.service import LambdaService

__all__ = ["OPERATIONS", "Members", "Operation", "operation"]

Members: TypeAlias = Mapping[str, Any]
"""Members of a shape of the API model by name: blobs are `bytes`, maps and structures `dict`, lists `list`."""

Operation: TypeAlias = "Callable[[LambdaService, Members], Members]"

OPERATIONS: dict[str, Operation] = {}
"""By the operation's name in the API model. Filled when the modules of `caloric.local.service` are imported."""


def operation(function: Operation) -> Operation:
    """Offer `function`, say `create_function`, as the operation that the API model calls `CreateFunction`.

    It may run on any thread, several at a time.
    """
    name = "".join(word.capitalize() for word in function.__name__.split("_"))
    assert name not in OPERATIONS, f"{name} is offered twice"
    OPERATIONS[name] = function
    return function
