"""Results to JSON. The reference is simplejson in the configuration that awslambdaric gives it: what it
writes we write (without the spaces after separators), what it refuses we refuse in the same words. What goes
beyond it has tests of its own further down, and what orjson helps with in test_json_fallback.py.
"""

from __future__ import annotations

import collections
import decimal
import enum
import fractions
import gc
import json
import math
import random
import struct
import subprocess
import sys
import threading
import types
from typing import Any, NamedTuple

import pytest
import simplejson
from hypothesis import given
from hypothesis import strategies as st
from simplejson.raw_json import RawJSON

from caloric._rust import encode_json


class Peer(simplejson.JSONEncoder):  # type: ignore[misc]  # simplejson has no types
    """simplejson as awslambdaric 4.2.2 sets it up on Python 3.12 and later, but for the spaces."""

    def __init__(self) -> None:
        super().__init__(use_decimal=False, ensure_ascii=False, allow_nan=True, separators=(",", ":"))

    def default(self, value: Any) -> Any:
        if isinstance(value, decimal.Decimal):
            return math.nan if value.is_nan() else RawJSON(str(value))
        return super().default(value)


def peer_json(value: Any) -> bytes:
    # The peer dies of a lone surrogate; the escape is what it writes before Python 3.12.
    text: str = Peer().encode(value)
    return text.encode("utf-8", "backslashreplace")


def outcome(encode: Any, value: Any) -> Any:
    """Return the JSON, or the type and text of the exception."""
    try:
        return encode(value)
    except Exception as error:
        return type(error), str(error)


def assert_like_peer(value: Any) -> None:
    assert outcome(encode_json, value) == outcome(peer_json, value)


class Point(NamedTuple):
    x: Any
    y: Any


class Text(str):
    def __str__(self) -> str:
        return "not this"

    __repr__ = __str__


class Number(int):
    def __repr__(self) -> str:
        return "not this"

    __str__ = __repr__


class IntWithOwnInt(int):
    def __int__(self) -> int:
        return 5


class Measure(float):
    def __repr__(self) -> str:
        return "not this"

    __str__ = __repr__


class FloatWithOwnFloat(float):
    def __float__(self) -> float:
        return 2.5


class Color(enum.IntEnum):
    RED = 1


class Size(str, enum.Enum):
    SMALL = "S"


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Backwards(list[Any]):
    def __iter__(self) -> Any:
        return reversed(list(super().__iter__()))


class BackwardsTuple(tuple[Any, ...]):
    def __iter__(self) -> Any:
        return iter(self[::-1])


class OwnItems(dict[Any, Any]):
    def items(self) -> Any:
        return [("from", "items"), (1, [2])]


class BadItems(dict[Any, Any]):
    def items(self) -> Any:
        return [("a", 1, 2)]


class ItemsNoIterable(dict[Any, Any]):
    def items(self) -> Any:
        return 5


class ItemsRaise(dict[Any, Any]):
    def items(self) -> Any:
        raise KeyError("items")


class AsDict:
    def __init__(self, fields: Any) -> None:
        self.fields = fields

    def _asdict(self) -> Any:
        return self.fields


class AsDictRaises:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def _asdict(self) -> Any:
        raise self.error


class Endless:
    def _asdict(self) -> Any:
        return {"next": Endless()}


class AsDictProperty:
    @property
    def _asdict(self) -> Any:
        raise LookupError("no property today")


class AttributesOnDemand(dict[str, Any]):
    """What attribute-style dicts do: any attribute is a key."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


class ListWithAsDict(list[Any]):
    def _asdict(self) -> Any:
        return {"as": "dict"}


class StrWithAsDict(str):
    def _asdict(self) -> Any:
        return {"as": "dict"}


class DecimalWithOwnStr(decimal.Decimal):
    def __str__(self) -> str:
        return "1.0000"


class IterationRaises(list[Any]):
    def __iter__(self) -> Any:
        yield 1
        raise OverflowError("enough")


def moved_to_end() -> Any:
    value = collections.OrderedDict(a=1, b=2)
    value.move_to_end("a")
    return value


DECIMALS = (
    "0 -0 1.10 1E+2 1e400 -1.5E-7 123456789012345678901234567890.5 NaN -NaN sNaN -sNaN123 Infinity -Infinity"
)

CASES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "empty containers": [{}, [], (), "", [[]], {"": {}}, OwnItems(), Backwards(), BackwardsTuple()],
    "nested containers": {"a": [1, (2, {"b": [None, {"c": []}]}, 3)], "d": {"e": {"f": "g"}, "h": ()}},
    "integers at the edges of machine words": [
        sign * 2**bits + off
        for bits in (0, 7, 8, 15, 29, 30, 31, 32, 53, 59, 60, 62, 63, 64, 65, 200)
        for sign in (1, -1)
        for off in (-1, 0, 1)
    ],
    "integers around powers of ten": [
        sign * 10**k + off for k in range(25) for sign in (1, -1) for off in (-1, 0, 1)
    ],
    "an integer with as many digits as str() gives": 10**4299,
    "an integer with more digits than str() gives": 10**4300,
    "a long integer inside": {"n": [10**5000]},
    "a long integer of a subclass": Number(10**5000),
    "floats": [
        0.0,
        -0.0,
        1.0,
        0.1,
        1e15,
        1e16,
        9999999999999998.0,
        1e22,
        1e-4,
        1e-5,
        9.999e-5,
        1.5e-7,
        5e-324,
        1.8e308,
    ],
    "floats that are no numbers": [
        math.nan,
        math.inf,
        -math.inf,
        Measure("nan"),
        Measure("inf"),
        Measure("-inf"),
    ],
    "text": [
        "",
        "plain",
        'a"b\\c',
        "\b\f\n\r\t\x00\x1f\x7f",
        "é\x80ÿ",
        "漢字\u2028\u2029\uffff",
        "🚚\U0010ffff",
    ],
    "text of every width at every length": [
        c * n + d for c in "aé漢🚚" for d in 'aé漢🚚"\n' for n in range(40)
    ],
    "lone surrogates": ["\ud800", "a\udfffb", "\ud83d\ude9a", "🚚\udc00", {"\udbff": 1}],
    "a long text": 'plain, "quoted" and é 漢 🚚\n' * 3000,
    "str subclasses": [Text("this"), Text("è"), Size.SMALL, {Text("key"): 1, Size.SMALL: 2}],
    "int subclasses": [
        Number(7),
        Number(2**70),
        Color.RED,
        Flags.A | Flags.B,
        IntWithOwnInt(1),
        {Number(7): 1, Color.RED: 2},
    ],
    "float subclasses": [Measure(1.5), Measure(1e16), FloatWithOwnFloat(1.5), {Measure(1.5): 1}],
    "list and tuple subclasses go through their iterator": [
        Backwards([1, [2], 3]),
        BackwardsTuple(("a", "b")),
    ],
    "an iterator that raises": [IterationRaises([1])],
    "namedtuples are objects": [Point(1, Point("two", None)), {"p": Point([], {})}],
    "a namedtuple class": Point,
    "dict subclasses": [
        collections.OrderedDict(b=1, a=2),
        collections.defaultdict(list, a=[1]),
        collections.Counter("aab"),
        OwnItems(a=1),
        AttributesOnDemand(a=1),
    ],
    "a dict subclass whose size is 0 is empty whatever its items say": OwnItems(),
    "items that are no pairs": BadItems(a=1),
    "items that are not iterable": ItemsNoIterable(a=1),
    "items that raise": {"x": ItemsRaise(a=1)},
    "an order changed by move_to_end": moved_to_end(),
    "_asdict": [AsDict({"a": AsDict({"b": (1,)})}), AsDict({}), AsDict(collections.OrderedDict(z=1, y=2))],
    "_asdict before list, after str": [ListWithAsDict([1]), StrWithAsDict("text")],
    "_asdict that gives no dict": AsDict([1]),
    "_asdict that gives None": {"a": AsDict(None)},
    "_asdict that raises TypeError is not there": AsDictRaises(TypeError("no")),
    "_asdict that raises AttributeError": AsDictRaises(AttributeError("no")),
    "_asdict that raises": [AsDictRaises(ZeroDivisionError("no"))],
    "_asdict that is no method": [types.SimpleNamespace(_asdict=1)],
    "decimals": [decimal.Decimal(text) for text in DECIMALS.split()],
    "a decimal alone": decimal.Decimal("1.10"),
    "a decimal with a str of its own": [
        DecimalWithOwnStr("1"),
        DecimalWithOwnStr("NaN"),
        DecimalWithOwnStr("-Infinity"),
    ],
    "keys that are no text": {
        1: 1,
        -(2**70): 2,
        1.5: 3,
        1e16: 4,
        None: 5,
        math.nan: 6,
        math.inf: 7,
        -math.inf: 8,
    },
    "true as a key": {True: 1, False: 2},
    "two keys that become one": {1: "a", "1": "b", None: "c", "null": "d"},
    "a tuple key": {(1, 2): 3},
    "a tuple key inside": [{"a": {"b": {(): 1}}}],
    "a key of a class of our own": {Color: 1},
    "a frozenset key": {frozenset(): 1},
    "bytes inside are text": [b"abc", "grüße".encode(), b'"\n', {b"key": b"value"}],
    "bytes that are no text": [b"\xff"],
    "bytes that are no text as a key": {b"\xc3": 1},
    "raw JSON of simplejson": [RawJSON('{"a":   1}')],
    "a set": {1, 2},
    "a set inside": {"a": [1, {2}]},
    "a frozenset": [frozenset()],
    "a bytearray": bytearray(b"abc"),
    "a memoryview": [memoryview(b"abc")],
    "an object": object(),
    "a class": [int],
    "a function": len,
    "a module": [json],
    "a generator": (i for i in range(3)),
    "a range": range(3),
    "a complex": 1j,
    "a fraction": fractions.Fraction(1, 3),
    "an exception": ValueError("x"),
    "dict views": {}.keys(),
    "a mapping that is no dict": [types.MappingProxyType({"a": 1}), collections.ChainMap({})],
    "an ellipsis": [...],
}


@pytest.mark.parametrize("name", CASES)
def test_written_or_refused_as_by_the_peer(name: str) -> None:
    assert_like_peer(CASES[name])


def test_an_error_while_asdict_is_looked_up_is_the_reason() -> None:
    """As with simplejson 4; before, it counted as not being there."""
    assert outcome(encode_json, [AsDictProperty()]) == (LookupError, "no property today")


def test_a_refused_key_is_named_without_its_module() -> None:
    """As with simplejson 4; before, it had the module of some types."""
    message = "keys must be str, int, float, bool or None, not Decimal"
    assert outcome(encode_json, {decimal.Decimal(1): 1}) == (TypeError, message)


def test_every_case_is_what_its_name_says() -> None:
    """The peer does refuse what looks refused above: an all-accepting comparison would prove little."""
    refused = {name for name in CASES if isinstance(outcome(peer_json, CASES[name]), tuple)}
    assert len(refused) > 30
    assert "decimals" not in refused


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text()
    | st.text(st.characters(codec=None, exclude_categories=()))
    | st.text(st.sampled_from('a"\\\n\x01é漢🚚\ud800'))
    | st.binary(max_size=4)
    | st.decimals()
    | st.builds(Text, st.text())
    | st.builds(Number, st.integers())
    | st.builds(Measure, st.floats())
    | st.sampled_from([Color.RED, Size.SMALL, Flags.B])
)
KEYS = (
    st.text()
    | st.integers()
    | st.floats()
    | st.none()
    | st.booleans()
    | st.builds(Text, st.text())
    | st.binary(max_size=3)
)
ODD = st.builds(object) | st.builds(set) | st.builds(complex) | st.builds(range, st.just(3))


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(Backwards)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(KEYS, inner)
        | st.dictionaries(KEYS | st.tuples(), inner, max_size=3)
        | st.dictionaries(KEYS, inner).map(collections.OrderedDict)
        | st.dictionaries(KEYS, inner).map(AsDict)
        | st.builds(Point, inner, inner)
    )


@given(st.recursive(SCALARS, containers, max_leaves=30))
def test_any_result_is_written_as_by_the_peer(value: Any) -> None:
    assert_like_peer(value)


@given(st.recursive(SCALARS | ODD, containers, max_leaves=10))
def test_any_result_with_something_odd_inside_gets_the_peers_verdict(value: Any) -> None:
    assert_like_peer(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_as_repr_does(value: float) -> None:
    assert encode_json(value).decode() == repr(value)


def test_floats_of_random_bits_are_written_as_repr_does() -> None:
    random_ = random.Random(3)
    values = [struct.unpack("<d", random_.randbytes(8))[0] for _ in range(50_000)]
    finite = [value for value in values if math.isfinite(value)]
    assert encode_json(finite).decode() == "[" + ",".join(map(repr, finite)) + "]"


def test_every_character_alone_and_in_company() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    assert_like_peer(characters)
    assert_like_peer("".join(characters))


def test_the_output_is_compact_utf_8() -> None:
    assert (
        encode_json({"grüße": [1, 2.5, None], "b": {"c": "漢"}})
        == '{"grüße":[1,2.5,null],"b":{"c":"漢"}}'.encode()
    )


# Containers that contain themselves, depth, and changes while writing.


def circular_list() -> Any:
    value: list[Any] = [1]
    value.append(value)
    return value


def circular_dict() -> Any:
    value: dict[str, Any] = {"big": list(range(10))}
    value["self"] = [[{"again": value}]]
    return value


def circular_dict_subclass() -> Any:
    value: Any = collections.OrderedDict()
    value["self"] = value
    return value


def circular_iterator() -> Any:
    value = Backwards()
    value.append([value])
    return value


def circular_asdict() -> Any:
    value = AsDict({})
    value.fields["self"] = value
    return value


def circular_through_asdict() -> Any:
    value: dict[str, Any] = {}
    value["a"] = AsDict(value)
    return value


def circular_tuple() -> Any:
    inside: list[Any] = []
    value = (inside,)
    inside.append(value)
    return value


@pytest.mark.parametrize(
    "make",
    [
        circular_list,
        circular_dict,
        circular_dict_subclass,
        circular_iterator,
        circular_asdict,
        circular_through_asdict,
        circular_tuple,
    ],
)
def test_a_container_that_contains_itself_is_refused(make: Any) -> None:
    assert outcome(encode_json, make()) == (ValueError, "Circular reference detected")
    assert_like_peer(make())


def test_the_same_container_may_be_there_many_times() -> None:
    shared: Any = [{"a": [1]}]
    assert_like_peer([shared, shared, {"x": shared, "y": (shared, shared)}, AsDict({"z": shared})])


def nested(depth: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS: dict[str, Any] = {"list": lambda v: [v], "tuple": lambda v: (v,), "dict": lambda v: {"a": v}}


@pytest.mark.parametrize("kind", WRAPS)
def test_nesting_is_accepted_as_deep_as_the_peer_accepts_it_on_any_python(kind: str) -> None:
    value = nested(10_000, WRAPS[kind])
    json_text = encode_json(value)
    assert json_text.count(b"1") == 1
    assert len(json_text) >= 20_001


def test_nesting_beyond_the_limit_is_refused_with_the_limit_in_the_message() -> None:
    message = "maximum nesting depth of 10000 exceeded while encoding a JSON object"
    assert outcome(encode_json, nested(10_002, WRAPS["list"])) == (RecursionError, message)
    assert outcome(encode_json, Endless()) == (RecursionError, message)


def test_deep_nesting_needs_no_deep_native_stack() -> None:
    script = """
import os, threading
from caloric._rust import encode_json
value = 1
for kind in range(9_999):
    value = [value] if kind % 3 else {"a": value} if kind % 2 else (value,)
def run():
    size = len(encode_json(value))
    # Without the end of the interpreter: CPython needs more stack to free the value than we to write it.
    os.write(1, str(size).encode())
    os._exit(0)
threading.stack_size(64 * 1024)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    expected = 1 + 9_999 * 2 + len('"a":') * len([kind for kind in range(0, 9_999, 3) if kind % 2])
    assert (done.returncode, done.stdout) == (0, str(expected)), done.stderr


def test_a_dict_that_grows_while_it_is_written_is_an_error() -> None:
    result: dict[str, Any] = {}

    class Grow:
        def _asdict(self) -> Any:
            for number in range(1000):
                result[f"new {number}"] = number
            return {}

    result.update({"a": 1, "grow": Grow(), "b": 2})
    expected = (RuntimeError, "dictionary changed size during iteration")
    assert outcome(encode_json, result) == expected


def test_a_dict_whose_keys_are_exchanged_while_it_is_written_is_an_error() -> None:
    result: dict[str, Any] = {}

    class Exchange:
        def _asdict(self) -> Any:
            del result["a"]
            result["c"] = 3
            return {}

    result.update({"a": 1, "exchange": Exchange(), "b": 2})
    assert outcome(encode_json, result) == (RuntimeError, "dictionary keys changed during iteration")


def test_a_list_that_shrinks_while_it_is_written_ends_where_it_ends_then() -> None:
    result: list[Any] = []

    class Shrink:
        def _asdict(self) -> Any:
            result.clear()
            gc.collect()
            return {}

    result.extend([1, Shrink(), "lost" * 10, [1]])
    assert encode_json(result) == b"[1,{}]"


def test_containers_dropped_by_everybody_else_while_they_are_written_stay_alive() -> None:
    outer: list[Any] = []

    class Drop:
        def _asdict(self) -> Any:
            outer.clear()
            gc.collect()
            [object() for _ in range(1000)]
            return {"dropped": True}

    outer.append({"inner": [("a" * 5, Drop(), {"b": ["c" * 7]})], "after": "d" * 9})
    assert (
        encode_json(outer)
        == b'[{"inner":[["aaaaa",{"dropped":true},{"b":["ccccccc"]}]],"after":"ddddddddd"}]'
    )


def test_a_key_that_changes_the_dict_while_it_is_written() -> None:
    result: dict[Any, Any] = {}

    class Key(int):
        def __int__(self) -> int:
            result.clear()
            gc.collect()
            return 7

    result[Key(1)] = ["value" * 3]
    assert outcome(encode_json, result) == (RuntimeError, "dictionary changed size during iteration")


def test_a_failure_leaves_nothing_behind_for_the_next_result() -> None:
    for _ in range(3):
        with pytest.raises(TypeError):
            encode_json(["x" * 10_000, object()])
        assert encode_json([1]) == b"[1]"


def test_threads_encode_at_the_same_time() -> None:
    value = {"a": [AsDict({"b": decimal.Decimal("1.10")})] * 200, "c": ["é" * 100] * 50}
    expected = encode_json(value)
    results: list[bool] = []

    def run() -> None:
        results.extend(encode_json(value) == expected for _ in range(50))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 200


def test_references_are_given_back() -> None:
    """Neither success nor failure at any place keeps or loses a reference."""
    leaves: list[Any] = ["text", 2**70, 1.5, decimal.Decimal("1.1"), Point(1, 2), Number(3), AsDict({"a": 1})]
    good: list[Any] = [
        leaves,
        tuple(leaves),
        dict(enumerate(leaves)),
        collections.OrderedDict(enumerate(leaves)),
    ]
    bad: list[Any] = [
        [good, object()],
        {"a": (good, object())},
        collections.OrderedDict(a=[good, 1j]),
        Backwards([{}, good]),
    ]

    def counts() -> list[int]:
        return [sys.getrefcount(item) for item in [*leaves, *good, *bad]]

    def run() -> None:
        encode_json(good)
        for value in bad[:3]:
            with pytest.raises(TypeError):
                encode_json(value)
        encode_json(bad[3])

    run()
    gc.collect()
    before = counts()
    for _ in range(10):
        run()
    gc.collect()
    assert counts() == before


def test_simple_results_import_nothing() -> None:
    script = """
import sys, caloric._rust
before = set(sys.modules)
caloric._rust.encode_json({"a": [1, 2.5, None, True, "text", 2**70, (1,)], 1: {2.5: {}}})
try:
    caloric._rust.encode_json({(): 1})
except TypeError:
    print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path = {sys.path!r}\n{script}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_default_is_asked_for_a_replacement_of_what_is_not_known() -> None:
    asked = []

    def default(value: Any) -> object:
        asked.append(value)
        return {"is": type(value).__name__, "value": [1.5, decimal.Decimal("1.10")]}

    value = [fractions.Fraction(1), {"known": None}]
    text = '[{"is":"Fraction","value":[1.5,1.10]},{"known":null}]'
    assert encode_json(value, default=default) == text.encode()
    assert asked == [value[0]]


def test_what_default_raises_is_raised() -> None:
    def default(value: Any) -> object:
        raise LookupError(value)

    with pytest.raises(LookupError):
        encode_json({"a": {1}}, default=default)


def test_a_default_that_returns_its_argument_is_a_circular_reference() -> None:
    with pytest.raises(ValueError, match="Circular reference detected"):
        encode_json({1}, default=lambda value: value)
