"""Whether the members of a request are what the API model allows, in AWS's words (spec lambda-service 0.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caloric.local.http import limits, patterns
from caloric.local.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caloric.local.http.model import ModelOperation, Shape
    from caloric.local.service.operations import Members

__all__ = ["validate"]

_NOT_NULL = "Member must not be null"
_NUMBERS = frozenset(("integer", "long", "double", "float"))


def validate(operation: ModelOperation, members: Members) -> None:
    """Raise `ServiceError` unless `members` are a request of `operation`.

    All that is wrong by the model is told at once, in a `ValidationException`; what is wrong by `limits.RULES` comes
    after it.
    """
    shape = operation.input
    if shape is None:
        return
    rules = [rule for rule in limits.RULES if operation.name in rule.operations]
    failures = list(_structure(shape, members, "", unchecked={rule.member for rule in rules}))
    if failures:
        plural = "" if len(failures) == 1 else "s"
        raise ServiceError(
            "ValidationException", f"{len(failures)} validation error{plural} detected: {'; '.join(failures)}"
        )
    for rule in rules:
        value = members.get(rule.member)
        if value is not None:
            complaint = rule.complaint(shape.members[rule.member].shape, value)
            if complaint is not None:
                raise ServiceError("InvalidParameterValueException", complaint)


def _structure(
    shape: Shape, members: Members, path: str, *, unchecked: frozenset[str] | set[str] = frozenset()
) -> Iterator[str]:
    """Yield what is wrong with the members of a structure; the enum of those in `unchecked` is not looked at."""
    for name, member in shape.members.items():
        value = members.get(name)
        below = _join(path, name[0].lower() + name[1:])
        if value is not None:
            yield from _value(member.shape, value, below, enum=name not in unchecked)
        elif name in shape.required:
            yield f"Value null at '{below}' failed to satisfy constraint: {_NOT_NULL}"


def _value(shape: Shape, value: Any, path: str, *, enum: bool = True) -> Iterator[str]:
    for constraint in _violations(shape, value, enum=enum):
        yield _failure(shape, value, path, constraint)
    if shape.type == "structure":
        yield from _structure(shape, value, path)
    elif shape.type == "list":
        yield from _list(shape, value, path)
    elif shape.type == "map":
        yield from _map(shape, value, path)


def _list(shape: Shape, value: list[Any], path: str) -> Iterator[str]:
    element = shape.element
    if any(item is None or _simple(element, item) for item in value):
        yield _failure(shape, value, path, f"Member must satisfy constraint: {_all_constraints(element)}")
    for number, item in enumerate(value, 1):
        if item is not None and not _is_simple(element):
            yield from _value(element, item, f"{path}.{number}.member")


def _map(shape: Shape, value: dict[str, Any], path: str) -> Iterator[str]:
    if any(_simple(shape.key, key) for key in value):
        yield _failure(shape, value, path, f"Map keys must satisfy constraint: {_all_constraints(shape.key)}")
    if any(item is None or _simple(shape.value, item) for item in value.values()):
        yield _failure(
            shape, value, path, f"Map value must satisfy constraint: {_all_constraints(shape.value)}"
        )
    for key, item in value.items():
        if item is not None and not _is_simple(shape.value):
            yield from _value(shape.value, item, f"{path}.{key}.member")


def _is_simple(shape: Shape) -> bool:
    return shape.type not in ("structure", "list", "map")


def _simple(shape: Shape, value: Any) -> bool:
    """Return whether a value inside a list or map is wrong, which is told of the whole list or map."""
    return _is_simple(shape) and next(_violations(shape, value), None) is not None


def _violations(shape: Shape, value: Any, *, enum: bool = True) -> Iterator[str]:
    """Yield the constraints of `shape` itself that `value` does not satisfy, in the order in which AWS checks."""
    if shape.pattern is not None and not patterns.matches(shape.pattern, value):
        yield _pattern(shape.pattern)
    if shape.enum and enum and value not in shape.enum:
        yield _enum(shape)
    measure = value if shape.type in _NUMBERS else _length(shape, value)
    if measure is None:
        return
    maximum = limits.maximum(shape)
    if maximum is not None and measure > maximum:
        yield _bound(shape, "less", maximum)
    if shape.minimum is not None and measure < shape.minimum:
        yield _bound(shape, "greater", shape.minimum)


def _length(shape: Shape, value: Any) -> int | None:
    return None if shape.type in ("structure", "boolean", "timestamp") else len(value)


def _all_constraints(shape: Shape) -> str:
    """Return everything that AWS says of the values in a list or a map when one of them is wrong."""
    constraints = []
    if _is_simple(shape):
        maximum = limits.maximum(shape)
        if maximum is not None:
            constraints.append(_bound(shape, "less", maximum))
        if shape.minimum is not None:
            constraints.append(_bound(shape, "greater", shape.minimum))
        if shape.pattern is not None:
            constraints.append(_pattern(shape.pattern))
        if shape.enum:
            constraints.append(_enum(shape))
    return f"[{', '.join([*constraints, _NOT_NULL])}]"


def _bound(shape: Shape, relation: str, bound: float) -> str:
    if shape.type in _NUMBERS:
        # As Java writes a number of this type.
        written = str(float(bound)) if shape.type in ("double", "float") else str(int(bound))
        return f"Member must have value {relation} than or equal to {written}"
    return f"Member must have length {relation} than or equal to {bound}"


def _pattern(pattern: str) -> str:
    return f"Member must satisfy regular expression pattern: {pattern}"


def _enum(shape: Shape) -> str:
    return f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _failure(shape: Shape, value: Any, path: str, constraint: str) -> str:
    shown = "" if _is_sensitive(shape) else f" '{_written(value)}'"
    return f"Value{shown} at '{path}' failed to satisfy constraint: {constraint}"


def _is_sensitive(shape: Shape, above: frozenset[str] = frozenset()) -> bool:
    """Return whether something in a value of `shape` must not be shown."""
    if shape.sensitive or shape.type == "blob":
        return True
    if shape.name in above:
        return False
    parts: list[Shape] = []
    if shape.type == "list":
        parts = [shape.element]
    elif shape.type == "map":
        parts = [shape.key, shape.value]
    elif shape.type == "structure":
        parts = [member.shape for member in shape.members.values()]
    return any(_is_sensitive(part, above | {shape.name}) for part in parts)


def _written(value: Any) -> str:
    """Return `value` as AWS shows it: as Java writes lists and maps."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
