"""Where AWS is stricter than its API model, and how large its requests may be.

One entry each, with its source: sections of the specification of the service (spec lambda-service) or an AWS page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from caloric.local.http.model import Shape

__all__ = [
    "EVENT_BYTES",
    "MAXIMA",
    "REQUEST_BYTES",
    "REQUEST_BYTES_OTHERWISE",
    "RULES",
    "STATUSES",
    "Rule",
    "maximum",
]

MAXIMA = {
    # 0.6: the model allows more for Managed Instances, which are not offered.
    "MemorySize": 10_240,
    "Timeout": 900,
    "EphemeralStorageSize": 10_240,
}
"""The highest value, by the name of the shape."""

REQUEST_BYTES = {
    # 0.6 and 2.2: those that bring code.
    "CreateFunction": 70_167_211,
    "UpdateFunctionCode": 70_167_211,
    "PublishLayerVersion": 70_167_211,
    # AWS's guide, "Troubleshoot configuration issues in Lambda", of environment variables.
    "UpdateFunctionConfiguration": 5_120,
}
"""So many bytes may the body of a request of this operation have."""

REQUEST_BYTES_OTHERWISE = 6_291_456
"""So many may that of any other: known of Invoke (1.5), taken for the rest."""

EVENT_BYTES = 1_048_576
"""So many may the event of an asynchronous invocation have (1.5)."""

STATUSES = {
    # 0.5: the wire says 204, the model 200.
    "DeleteFunction": 204,
}
"""The status of an operation's answer where it is another than the model's."""

_MAX_LAYERS = 5

# 2.1: these are still in the model, and functions are no longer made with them.
_ENDED_RUNTIMES = frozenset(
    """
    nodejs nodejs4.3 nodejs4.3-edge nodejs6.10 nodejs8.10 nodejs10.x nodejs12.x nodejs14.x nodejs16.x
    python2.7 python3.6 python3.7 java8 dotnetcore1.0 dotnetcore2.0 dotnetcore2.1 dotnetcore3.1
    ruby2.5 ruby2.7 go1.x provided
    """.split()
)


class Rule(NamedTuple):
    """A check of one member that the model cannot express; what it refuses is an `InvalidParameterValueException`."""

    operations: tuple[str, ...]
    member: str
    complaint: Callable[[Shape, Sequence[str]], str | None]
    """From the member's shape and value to what is wrong with the value."""


def _runtime(shape: Shape, runtime: Sequence[str]) -> str | None:
    offered = [name for name in shape.enum if name not in _ENDED_RUNTIMES]
    if runtime in offered:
        return None
    return (
        f"Value {runtime} at 'runtime' failed to satisfy constraint: "
        f"Member must satisfy enum value set: [{', '.join(offered)}] or be a valid ARN"
    )


def _layers(_shape: Shape, layers: Sequence[str]) -> str | None:
    return f"Cannot reference more than {_MAX_LAYERS} layers." if len(layers) > _MAX_LAYERS else None


RULES = (
    # 2.1. Checked in place of the model's enum.
    Rule(("CreateFunction", "UpdateFunctionConfiguration"), "Runtime", _runtime),
    # 0.6 and 2.1.
    Rule(("CreateFunction", "UpdateFunctionConfiguration"), "Layers", _layers),
)


def maximum(shape: Shape) -> float | None:
    """Return the highest value, or the greatest length, that `shape` may have: the model's or AWS's."""
    stricter = MAXIMA.get(shape.name)
    if stricter is None or shape.maximum is None:
        return shape.maximum if stricter is None else stricter
    return min(shape.maximum, stricter)
