"""What a handler returns reaches the caller (spec runtime-api 4.6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.pairs.differences import assert_function_error, assert_result, facts, unmarshal_message

if TYPE_CHECKING:
    from tests.pairs.function import Function, Pair

JSON_VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -7,
    "integer beyond 64 bits": 2**64 + 1,
    "integer of 300 digits": 10**300 + 7,
    "float": 0.1,
    "float with exponent": 1.5e-300,
    "whole float": 2.0,
    "empty string": "",
    "string": "plain",
    "escapes": 'quote " backslash \\ slash / newline \n tab \t nul \x00 escape \x1b del \x7f',
    "line separators": "\u2028\u2029",
    "unicode": "grüße, 日本, עברית, e\u0301",
    "outside the BMP": "😀𝒞",
    "unicode key": {"schlüssel 🔑": "wert 💎", "": "empty"},
    "empty list": [],
    "empty object": {},
    "nested": {"a": [1, {"b": [None, True, {"c": {}}]}], "d": {"e": {"f": [[[]]]}}},
    "many keys in their order": {str(n): n for n in range(100, 0, -1)},
    "deep": eval("[" * 200 + "]" * 200),
}


def exactly(value: object) -> str:
    """JSON text that tells 1 from 1.0 and True, and keeps the order of keys."""
    return json.dumps(value)


@pytest.mark.parametrize("value", JSON_VALUES.values(), ids=JSON_VALUES)
def test_every_json_type_comes_back_as_it_went_in(pair: Pair, function: Function, value: object) -> None:
    answer = function.invoke(value)
    assert exactly(json.loads(assert_result(pair, answer))) == exactly(value)


def test_an_event_in_raw_utf8_means_the_same_as_one_in_escapes(pair: Pair, function: Function) -> None:
    text = JSON_VALUES["unicode"] + JSON_VALUES["outside the BMP"]
    for ensure_ascii in (True, False):
        event = json.dumps(text, ensure_ascii=ensure_ascii).encode()
        assert json.loads(assert_result(pair, function.invoke_bytes(event))) == text


@pytest.mark.parametrize(
    ("event", "result"),
    [
        (b"\xef\xbb\xbf[1]", b"[1]"),
        (b' \r\n\t{"a" : 1}\n', b'{"a":1}'),
        (b'{"a":1,"a":2}', b'{"a":2}'),
        (b'"\\ud800"', b'"\\ud800"'),
        (b"-0", b"0"),
        (b"-0.0", b"-0.0"),
        (b"1E400", b"Infinity"),
    ],
    ids=["byte order mark", "white space", "duplicate keys", "lone surrogate", "-0", "-0.0", "overflow"],
)
def test_unusual_events(pair: Pair, function: Function, event: bytes, result: bytes) -> None:
    payload = assert_result(pair, function.invoke_bytes(event))
    assert exactly(json.loads(payload)) == exactly(json.loads(result))


@pytest.mark.parametrize(
    ("value", "payload"),
    [
        ("bytes", b"\x00\xff not JSON"),
        ("empty bytes", b""),
    ],
)
def test_bytes_are_the_answer_as_they_are(pair: Pair, function: Function, value: str, payload: bytes) -> None:
    answer = function.invoke({"case": "python_value", "value": value})
    assert assert_result(pair, answer) == payload


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("tuple", b"[1, [2, 3]]"),
        ("namedtuple", b'{"x": 1, "y": 2}'),
        ("_asdict", b'{"as": "dict"}'),
        ("keys", b'{"1": "bool", "2.5": "float", "null": "None"}'),
        ("subclasses", b'[7, "seven"]'),
        ("decimal", b"[1.10, 1E+2, 1000000000000000000000000000000]"),
        ("not a number", b"[NaN, Infinity, -Infinity]"),
        ("lone surrogate", b'"\\ud800"'),
    ],
)
def test_python_values_are_written_as_the_peer_writes_them(
    pair: Pair, function: Function, value: str, text: bytes
) -> None:
    answer = function.invoke({"case": "python_value", "value": value})
    # Only the peer puts blanks behind separators; numbers are compared to the letter, for 1.10 is not 1.1.
    assert assert_result(pair, answer).replace(b" ", b"") == text.replace(b" ", b"")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("set", "Object of type set is not JSON serializable"),
        ("object", "Object of type TeapotError is not JSON serializable"),
        ("complex", "Object of type complex is not JSON serializable"),
        ("tuple key", "keys must be str, int, float, bool or None, not tuple"),
        ("loop", "Circular reference detected"),
    ],
)
def test_what_is_no_json_is_a_marshal_error(pair: Pair, function: Function, value: str, why: str) -> None:
    document = assert_function_error(pair, function.invoke({"case": "python_value", "value": value}))
    assert document["errorType"] == "Runtime.MarshalError"
    assert document["errorMessage"] == f"Unable to marshal response: {why}"
    assert document["stackTrace"] == []
    assert list(document) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert function.invoke("still there").json() == "still there"


@pytest.mark.parametrize(
    ("event", "wording", "peers_wording"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)", "Expecting value: line 1 column 1 (char 0)"),
        (
            b"{",
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            "Expecting property name enclosed in double quotes or '}': line 1 column 2 (char 1)",
        ),
        (
            b"1 2",
            "Extra data: line 1 column 3 (char 2)",
            "Extra data: line 1 column 3 - line 1 column 4 (char 2 - 3)",
        ),
        (
            b"undefined",
            "Expecting value: line 1 column 1 (char 0)",
            "Expecting value: line 1 column 1 (char 0)",
        ),
        (b"NaN", "Expecting value: line 1 column 1 (char 0)", "Expecting value: line 1 column 1 (char 0)"),
        (b"-Infinity", None, None),
        (b"[Infinity]", None, None),
        (b"\xff\xfe1\x00", None, None),
        (b'"\xff"', None, None),
        (b'"a\nb"', None, None),
        (b"[1,]", None, None),
    ],
    ids=repr,
)
def test_an_event_that_is_no_json_is_an_unmarshal_error(
    pair: Pair, function: Function, event: bytes, wording: str | None, peers_wording: str | None
) -> None:
    document = assert_function_error(pair, function.invoke_bytes(event))
    assert document["errorType"] == "Runtime.UnmarshalError"
    assert document["errorMessage"].startswith("Unable to unmarshal input: ")
    if wording is not None and peers_wording is not None:
        expected = unmarshal_message(pair, wording, peers_wording)
        assert document["errorMessage"] == f"Unable to unmarshal input: {expected}"
    assert document["stackTrace"] == []
    assert function.invoke("still there").json() == "still there"


def test_a_six_megabyte_event_arrives_whole(pair: Pair, function: Function) -> None:
    text = "0123456789" * 628_000
    answer = function.invoke({"case": "length", "text": text})
    assert json.loads(assert_result(pair, answer)) == len(text)


def test_a_five_megabyte_response_arrives_whole(pair: Pair, function: Function) -> None:
    answer = function.invoke({"case": "text", "length": 5_000_000})
    assert assert_result(pair, answer) == b'"' + b"x" * 5_000_000 + b'"'


def test_the_largest_response_arrives(pair: Pair, function: Function) -> None:
    answer = function.invoke({"case": "text", "length": 6_291_556 - 2})
    assert len(assert_result(pair, answer)) == 6_291_556


def test_facts_are_about_this_endpoint(pair: Pair, function: Function) -> None:
    # The marks are what most assertions above rest on.
    failed = function.invoke({"case": "raising", "message": ""})
    assert failed.marked_as_error is (True if facts(pair).marks_function_errors else None)
