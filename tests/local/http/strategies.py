"""Members that are valid by the API model."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from caloric.local.http import limits, patterns

if TYPE_CHECKING:
    from caloric.local.http.model import Shape

_LONGEST = 12
_MOST = 2

# Headers have no leading and trailing spaces and no control characters; names in paths no dots alone, which clients
# take for the folder itself or the one above.
_PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=_LONGEST)


def members_of(shape: Shape | None) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for all members that a request or an answer of this shape may have."""
    return st.just({}) if shape is None else _structure(shape, (), top=True)


def _structure(
    shape: Shape, above: tuple[str, ...], *, top: bool = False
) -> st.SearchStrategy[dict[str, Any]]:
    below = (*above, shape.name)
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, member in shape.members.items():
        if member.shape.name in below or member.location == "statusCode" or member.shape.event_stream:
            continue
        strategy = _located(member.shape, member.location, below)
        # One rule of AWS that the model has not.
        if top and name == "Layers" and member.shape.type == "list":
            strategy = strategy.filter(lambda layers: len(layers) <= 5)
        (required if name in shape.required else optional)[name] = strategy
    return st.fixed_dictionaries(required, optional=optional)


def _located(shape: Shape, location: str, above: tuple[str, ...]) -> st.SearchStrategy[Any]:
    if location == "querystring" and shape.type == "list":
        # An empty list is not in the query at all.
        return st.lists(_scalar(shape.element), min_size=1, max_size=_MOST)
    strategy = _value(shape, above)
    if shape.type == "string" and location == "header":
        return strategy.filter(_is_header) if shape.pattern or shape.enum else _PRINTABLE
    if location == "uri":
        return strategy.filter(lambda value: str(value).strip(".") != "")
    if location == "payload" and shape.type == "blob":
        return st.binary(min_size=1, max_size=50)
    return strategy


def _is_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and value.strip() == value != ""


def _value(shape: Shape, above: tuple[str, ...]) -> st.SearchStrategy[Any]:
    if shape.type == "structure":
        return _structure(shape, above)
    if shape.type in ("list", "map"):
        least = int(shape.minimum or 0)
        most = max(least, min(_MOST, int(shape.maximum if shape.maximum is not None else _MOST)))
        if shape.type == "list":
            return st.lists(_value(shape.element, above), min_size=least, max_size=most)
        return st.dictionaries(_scalar(shape.key), _value(shape.value, above), min_size=least, max_size=most)
    return _scalar(shape)


@cache
def _scalar(shape: Shape) -> st.SearchStrategy[Any]:
    maximum = limits.maximum(shape)
    if shape.type == "string":
        return _string(shape, maximum)
    if shape.type in ("integer", "long"):
        bound = 2**31 if shape.type == "integer" else 2**63
        return st.integers(
            min_value=int(-bound if shape.minimum is None else shape.minimum),
            max_value=int(bound - 1 if maximum is None else maximum),
        )
    if shape.type in ("double", "float"):
        return st.floats(min_value=shape.minimum, max_value=maximum, allow_nan=False, allow_infinity=False)
    if shape.type == "boolean":
        return st.booleans()
    if shape.type == "blob":
        return st.binary(max_size=50)
    assert shape.type == "timestamp", shape.type
    return st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, timezone.utc))


def _string(shape: Shape, maximum: float | None) -> st.SearchStrategy[str]:
    least = int(shape.minimum or 0)
    if shape.enum:
        offered = [value for value in shape.enum if shape.name != "Runtime" or value == "python3.12"]
        return st.sampled_from(offered)
    if shape.pattern is None:
        most = max(least, int(min(_LONGEST, maximum if maximum is not None else _LONGEST)))
        return st.text(st.characters(codec="utf-8"), min_size=least, max_size=most)
    expression = patterns.compiled(shape.pattern)
    assert expression is not None
    most = int(maximum if maximum is not None else 10_000)

    def valid(value: str) -> bool:
        return least <= len(value) <= most and expression.fullmatch(value) is not None

    def long_enough(value: str) -> str:
        missing = "x" * (least - len(value))
        return next(filter(valid, (value, value + missing, missing + value)), value)

    return (
        st.from_regex(expression, fullmatch=True).map(lambda value: long_enough(value[:most])).filter(valid)
    )
