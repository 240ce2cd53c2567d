"""Log records as JSON: what the standard library makes of them with `default=str`."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloric._rust import encode_log_record


def reference(fields: dict[str, Any]) -> Any:
    return json.loads(json.dumps(fields, ensure_ascii=False, default=str), parse_float=str, parse_int=str)


def check(fields: dict[str, Any]) -> None:
    line = encode_log_record(fields)
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    assert json.loads(line, parse_float=str, parse_int=str) == reference(fields)
    assert list(json.loads(line)) == list(reference(fields))


class Level(enum.IntEnum):
    HIGH = 3


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    def __str__(self) -> str:
        return "something else"

    __slots__ = ()


class Number(int):
    def __int__(self) -> int:
        return 99

    def __repr__(self) -> str:
        return "something else"


class Real(float):
    def __float__(self) -> float:
        return 99.0

    def __repr__(self) -> str:
        return "something else"


class Items(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(["other"])


class WithFields:
    def _asdict(self) -> dict[str, int]:
        return {"a": 1}

    def __str__(self) -> str:
        return "fields"


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        None,
        decimal.Decimal("1.10"),
        datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
        uuid.UUID(int=7),
        {1, 2},
        b"bytes",
        bytearray(b"x"),
        Point(1, 2),
        WithFields(),
        Level.HIGH,
        Colour.RED,
        Text("text"),
        Number(5),
        Number(-(10**30)),
        Real(1.5),
        Items([1, 2]),
        collections.OrderedDict(b=1, a=2),
        ValueError("an error"),
        object,
        [{"nested": decimal.Decimal(1)}, (1, [b"x"])],
        {1: "int", 1.5: "float", None: "none", False: "false", Level.HIGH: "enum", Real(2.5): "real"},
        float("nan"),
        float("-inf"),
        10**40,
        1e22,
        'é\u2028\x00\x7f"\\😀',
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_what_the_standard_library_makes_of_it(value: object) -> None:
    check({"first": 1, "value": value, "last": "x"})


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False)
            | st.text()
            | st.decimals(allow_nan=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
            max_leaves=8,
        ),
    )
)
def test_any_record(fields: dict[str, Any]) -> None:
    check(fields)


@pytest.mark.parametrize("key", [b"k", (1,), decimal.Decimal(1), Colour.RED], ids=repr)
def test_a_key_that_json_has_no_form_for_is_refused_in_the_same_words(key: object) -> None:
    words = []
    for encode in (encode_log_record, lambda fields: json.dumps(fields, default=str)):
        with pytest.raises(TypeError, match="keys must be str, int, float, bool or None, not ") as caught:
            encode({"value": {key: 1}})
        words.append(str(caught.value))
    assert words[0] == words[1]


def test_a_container_in_itself_is_refused() -> None:
    inner: list[Any] = []
    inner.append({"again": inner})
    with pytest.raises(ValueError, match="Circular reference detected"):
        encode_log_record({"value": inner})


def test_what_str_raises_is_raised() -> None:
    class Odd:
        def __str__(self) -> str:
            raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        encode_log_record({"value": Odd()})


def test_half_surrogate_pairs_are_escaped() -> None:
    assert encode_log_record({"a": "\ud800"}) == '{"a":"\\ud800"}\n'
    assert encode_log_record(fields={}) == "{}\n"
