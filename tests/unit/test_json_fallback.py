"""Results that only Python modules have a form for: dataclasses, enums, dates, UUIDs and numpy's types, which
the peer refuses and we take where orjson is installed. What the fallback reads is in test_decode.py.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import sys
import uuid
from typing import Any

import orjson
import pytest

from caloric._rust import encode_json


def refusal(value: Any) -> str:
    """Return the text of the TypeError that a value causes."""
    with pytest.raises(TypeError) as raised:
        encode_json(value)
    return str(raised.value)


@dataclasses.dataclass
class Order:
    number: int
    price: decimal.Decimal
    lines: list[Any]
    _internal: int = 0
    kind: dataclasses.InitVar[str] = "kind"


@dataclasses.dataclass(frozen=True)
class Slotted:
    __slots__ = ("a", "b")
    a: Any
    b: Any


class Status(enum.Enum):
    OPEN = "open"
    TOTAL = decimal.Decimal("1.10")
    PAIR = (1, {"deep": math.nan})


class Switch(enum.Flag):
    ON = 1


MOMENT = datetime.datetime(2026, 8, 6, 23, 20, 1, 123000, tzinfo=datetime.timezone.utc)

WITH_ORJSON: dict[str, tuple[Any, str]] = {
    "datetime": (MOMENT, '"2026-08-06T23:20:01.123000+00:00"'),
    "date inside": ([datetime.date(2026, 8, 6)], '["2026-08-06"]'),
    "time": (datetime.time(12, 0), '"12:00:00"'),
    "uuid": ({"id": uuid.UUID(int=1)}, '{"id":"00000000-0000-0000-0000-000000000001"}'),
    "enum": ([Status.OPEN], '["open"]'),
    "enum of a decimal": (Status.TOTAL, "1.10"),
    "flag": (Switch.ON, "1"),
    "enum of a container": (Status.PAIR, '[1,{"deep":NaN}]'),
    "dataclass": (
        Order(1, decimal.Decimal("1.10"), [MOMENT.date(), 2**70, math.nan]),
        '{"number":1,"price":1.10,"lines":["2026-08-06",1180591620717411303424,NaN]}',
    ),
    "dataclass with slots": (
        Slotted({1: "int key"}, Slotted(None, "\ud800")),
        '{"a":{"1":"int key"},"b":{"a":null,"b":"\\ud800"}}',
    ),
}


@pytest.mark.parametrize("name", WITH_ORJSON)
def test_types_that_orjson_knows_are_written_by_our_rules(name: str) -> None:
    value, expected = WITH_ORJSON[name]
    assert encode_json(value).decode() == expected


def test_dataclass_fields_are_those_that_orjson_writes() -> None:
    for value in (Order(1, 2, []), Slotted(1, [2])):  # type: ignore[arg-type]
        assert encode_json(value) == orjson.dumps(value)


def test_a_dataclass_field_that_was_never_set_is_left_out() -> None:
    order = Order(1, decimal.Decimal(2), [])
    del order.price
    assert encode_json(order) == b'{"number":1,"lines":[]}'


def test_a_refusal_inside_a_dataclass_names_what_is_refused() -> None:
    assert refusal(Order(1, decimal.Decimal(2), [{1, 2}])) == "Object of type set is not JSON serializable"


def test_an_orjson_fragment_is_written_as_it_is() -> None:
    assert encode_json([orjson.Fragment(b'{"a":  1}')]) == b'[{"a":  1}]'


def test_a_dataclass_that_contains_itself_is_refused() -> None:
    order = Order(1, decimal.Decimal(2), [])
    order.lines.append({"again": order})
    with pytest.raises(ValueError, match="Circular reference detected"):
        encode_json(order)


def test_a_dataclass_class_is_no_dataclass() -> None:
    assert refusal([Order]) == "Object of type type is not JSON serializable"


def test_numpy_arrays_and_scalars() -> None:
    import numpy

    for value, expected in [
        (numpy.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
        (numpy.array([[1, 2], [3, 4]]).T, "[[1,3],[2,4]]"),
        (numpy.array([1.5, math.nan, math.inf]), "[1.5,NaN,Infinity]"),
        (numpy.float32(0.5), "0.5"),
        (numpy.float32("nan"), "NaN"),
        (numpy.float64("nan"), "NaN"),
        (numpy.int8(-3), "-3"),
        (numpy.bool_(True), "true"),
        ({"a": numpy.array([], dtype="float64")}, '{"a":[]}'),
        (numpy.array(["a", "é"]), '["a","é"]'),
        (numpy.array([decimal.Decimal("1.10")], dtype=object), "[1.10]"),
    ]:
        assert encode_json(value).decode() == expected


def test_numpy_types_that_have_no_form_in_json_are_refused() -> None:
    import numpy

    assert refusal(numpy.complex128(1j)) == "Object of type complex is not JSON serializable"
    assert refusal(numpy.array([object()])) == "Object of type object is not JSON serializable"
    assert refusal(numpy.timedelta64(1, "D")) == "Object of type timedelta is not JSON serializable"
    assert refusal(numpy.longdouble(1)) == "Object of type longdouble is not JSON serializable"


def test_what_orjson_refuses_is_refused_in_the_peers_words() -> None:
    odd_zone = datetime.timezone(datetime.timedelta(seconds=1))
    for value in (object(), datetime.timedelta(1), datetime.time(1, tzinfo=odd_zone)):
        assert refusal(value) == f"Object of type {type(value).__name__} is not JSON serializable"


def test_without_orjson_its_types_are_refused_as_by_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orjson", None)
    for value in (MOMENT, uuid.UUID(int=1), Status.OPEN, Order(1, decimal.Decimal(2), [])):
        assert refusal([value]) == f"Object of type {type(value).__name__} is not JSON serializable"
