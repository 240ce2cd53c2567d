"""Events from JSON. The reference is simplejson, which awslambdaric decodes with: what it accepts we accept
with the same value, what it refuses we refuse. Most error texts are the same too; where the standard
library's differ, ours are the standard library's.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import simplejson
from hypothesis import given
from hypothesis import strategies as st

from caloric._rust import decode_json

FUZZ_SEEDS = Path(__file__).parents[2] / "rust" / "fuzz" / "seeds" / "decode"


def verdict(decode: Any, body: bytes) -> str:
    """Return the value in a form that tells 1 from 1.0 and True, and 0.0 from -0.0."""
    try:
        return repr(decode(body))
    except ValueError:
        return "refused"


def reason(decode: Any, body: bytes) -> str:
    """Return the text of the error that a body causes."""
    try:
        return f"accepted: {decode(body)}"
    except ValueError as error:
        return str(error)


def assert_like_peer(body: bytes) -> None:
    assert verdict(decode_json, body) == verdict(simplejson.loads, body), body


ACCEPTED: dict[str, bytes] = {
    "constants": b"[null, true, false]",
    "integers": b"[0, -0, 1, -1, 9223372036854775807, 9223372036854775808]",
    "negative integers": b"[-9223372036854775808, -9223372036854775809]",
    "integers of any size": b"[18446744073709551615, 18446744073709551616, "
    + b"9" * 300
    + b", -"
    + b"7" * 4300
    + b"]",
    "floats": b"[0.0, -0.0, 1.0, 0.1, 1e5, 1E5, 1e+5, 1e-5, 1.5E-7]",
    "floats at the limits": b"[5e-324, 2.2250738585072011e-308, 1.7976931348623157e308]",
    "a float halfway": b"9007199254740993.0",
    "floats nearly halfway below": b"[0.500000000000000166533453693773481063544750213623046875]",
    "a float nearly halfway": b"1.00000000000000011102230246251565404236316680908203124",
    "a large float nearly halfway": b"72057594037927933.0",
    "floats with more digits than any": b"[0."
    + b"1" * 5000
    + b", 1"
    + b"0" * 400
    + b".0e-400, "
    + b"3" * 5000
    + b".5]",
    "exponents out of range": b"[1e400, -1e400, 1e-400, 1e99999999999999999999, 0e99999]",
    "strings": rb'["", "a", "\"\\\/\b\f\n\r\t", "\u0041\u00e9\u6f22\ud83d\ude9a", "\u0000"]',
    "strings of every width": '["é", "漢字", "🚚", "\u2028", "\x7f"]'.encode(),
    "lone surrogates": rb'["\ud800", "\udfff", "\ud800\u0041", "\udc00\ud800", "\ud83dx", {"\ud800": 1}]',
    "whitespace": b" \t\n\r[ 1 \n,\t2 \r] \t\n\r",
    "empty containers": b"[{}, [], [[]], { }, [ ]]",
    "duplicate keys": b'{"a": 1, "b": 2, "a": 3}',
    "byte order mark": b"\xef\xbb\xbf[1]",
    "byte order mark and whitespace": b"\xef\xbb\xbf \n[1] ",
    "byte order mark encoded twice": b"\xc3\xaf\xc2\xbb\xc2\xbf[1]",
    "nesting beyond jiter's limit": b"[" * 500 + b"]" * 500,
    "objects nested beyond jiter's limit": b'{"a":' * 500 + b"1" + b"}" * 500,
    "scalars": b'"text"',
    "keys that repeat": b"["
    + b",".join(b'{"some key": %d, "other": "some value"}' % i for i in range(300))
    + b"]",
    "more keys than the cache has room for": b"{"
    + b",".join(b'"key %d": %d' % (i, i) for i in range(40_000))
    + b"}",
}

REFUSED: dict[str, bytes] = {
    "empty body": b"",
    "whitespace only": b" \n",
    "byte order mark only": b"\xef\xbb\xbf",
    "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf1",
    "NaN": b"NaN",
    "NaN inside": b'{"a": [1, NaN]}',
    "Infinity": b"Infinity",
    "-Infinity": b'{"x": -Infinity}',
    "-NaN": b"-NaN",
    "nan": b"nan",
    "NaN after lone surrogates": rb'["\ud800 NaN \" Infinity", NaN]',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16-LE without a mark": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32-BE": '{"a": 1}'.encode("utf-32-be"),
    "invalid UTF-8": b'["\xff"]',
    "UTF-8 cut short": '["é'.encode()[:-1],
    "UTF-8 of a surrogate": b'["\xed\xa0\x80"]',
    "UTF-8 longer than needed": b'["\xc0\x80"]',
    "trailing comma in an array": b"[1,]",
    "trailing comma in an object": b'{"a":1,}',
    "trailing data": b"[1] 2",
    "trailing NUL": b"[1]\x00",
    "two values": b'{"a":1}{"b":2}',
    "unclosed array": b"[1",
    "unclosed object": b'{"a":1',
    "unclosed string": b'"abc',
    "wrong bracket": b"[1}",
    "single quotes": b"{'a': 1}",
    "key without quotes": b"{a: 1}",
    "number as a key": b"{1: 1}",
    "no colon": b'{"a" 1}',
    "no comma": b"[1 2]",
    "only a comma": b"[,]",
    "control character": b'["\n"]',
    "NUL in a string": b'["\x00"]',
    "tab in a key": b'{"\t": 1}',
    "bad escape": rb'["\x41"]',
    "short unicode escape": rb'["\u12"]',
    "bad unicode escape": rb'["\u12g4"]',
    "sign in a unicode escape": rb'["\u+123"]',
    "lone backslash": b'["\\',
    "leading zero": b"01",
    "negative with leading zero": b"[-01]",
    "plus sign": b"+1",
    "no digits before the point": b".5",
    "no digits after the point": b"[1.]",
    "no digits in the exponent": b"1e",
    "no digits in a signed exponent": b"[1e+]",
    "minus alone": b"-",
    "hexadecimal": b"0x10",
    "underscore in a number": b"1_000",
    "other digits": "[१]".encode(),
    "other whitespace": "[1,\u00a02]".encode(),
    "form feed": b"[1,\x0c2]",
    "comment": b"[1 /* one */]",
    "misspelt constant": b"[nul]",
    "upper case": b"[True]",
    "an integer with more digits than int() takes": b"1" * 4301,
    "a negative integer with more digits than int() takes": b"[-" + b"1" * 4301 + b"]",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_with_the_peers_value(name: str) -> None:
    assert verdict(simplejson.loads, ACCEPTED[name]) != "refused"
    assert_like_peer(ACCEPTED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_as_by_the_peer(name: str) -> None:
    assert verdict(simplejson.loads, REFUSED[name]) == "refused"
    assert_like_peer(REFUSED[name])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[1,",
        b'{"a": tru}',
        b"NaN",
        b'{"a": [1, NaN]}',
        b'{\n "NaN": ["NaN \\" NaN", -Infinity]}',
        b'"abc',
        b'["\xff"]',
        b"\xef\xbb\xbf",
        b"1" * 4301,
    ],
)
def test_the_reason_is_given_in_the_peers_words(body: bytes) -> None:
    assert reason(decode_json, body) == reason(simplejson.loads, body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[1] 2", "Extra data: line 1 column 5 (char 4)"),
        (b"\xef\xbb\xbf[1]\n x", "Extra data: line 2 column 2 (char 6)"),
        (b"[1 2]", "Expecting ',' delimiter: line 1 column 4 (char 3)"),
        (rb'["\u12"]', "Invalid \\uXXXX escape: line 1 column 4 (char 3)"),
    ],
)
def test_other_reasons_are_given_in_the_standard_librarys_words(body: bytes, reason: str) -> None:
    with pytest.raises(json.JSONDecodeError) as raised:
        decode_json(body)
    assert str(raised.value) == reason


def test_an_empty_body_is_named_with_its_place() -> None:
    with pytest.raises(json.JSONDecodeError) as raised:
        decode_json(b"")
    assert str(raised.value) == "Expecting value: line 1 column 1 (char 0)"


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(RecursionError):
        decode_json(b"[" * 200_000)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_any_document_is_read_as_by_the_peer(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert_like_peer(text.encode("utf-8", "backslashreplace"))


@given(JSON_VALUES, st.data())
def test_any_damaged_document_gets_the_peers_verdict(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace"))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body)))
        piece = data.draw(
            st.sampled_from(
                [
                    b"",
                    b"\\",
                    b'"',
                    b",",
                    b"[",
                    b"]",
                    b"{",
                    b"}",
                    b":",
                    b"0",
                    b"-",
                    b".",
                    b"e",
                    b"\x00",
                    b"\xff",
                    b"\xed\xa0\x80",
                    b"NaN",
                    b"\\u",
                    b"\\ud800",
                    b" ",
                    b"\n",
                    b"\x0b",
                    b"1e999",
                ]
            )
        )
        body[place : place + data.draw(st.integers(0, 2))] = piece
    assert_like_peer(bytes(body))


NUMBER_PARTS = st.lists(
    st.sampled_from(["0", "1", "9", "00", "123456789", ".", "e", "E", "+", "-", "e-", "e+30", "0" * 20]),
    max_size=8,
)


@given(NUMBER_PARTS)
def test_anything_like_a_number_gets_the_peers_verdict(parts: list[str]) -> None:
    assert_like_peer("".join(parts).encode())


ESCAPES = st.lists(
    st.sampled_from(
        [
            "\\u",
            "\\ud83d",
            "\\ude00",
            "d800",
            "0041",
            "\\\\",
            '\\"',
            "\\",
            "x",
            "é",
            "🚚",
            "\\n",
            "\x1f",
            "\x7f",
        ]
    )
)


@given(ESCAPES)
def test_anything_like_a_string_gets_the_peers_verdict(parts: list[str]) -> None:
    assert_like_peer(('"' + "".join(parts) + '"').encode())


def test_what_the_fuzzer_kept_gets_the_peers_verdict() -> None:
    seeds = sorted(FUZZ_SEEDS.iterdir())
    assert len(seeds) > 100
    for seed in seeds:
        assert_like_peer(seed.read_bytes())


@given(st.binary(max_size=20))
def test_any_bytes_get_the_peers_verdict(body: bytes) -> None:
    assert_like_peer(body)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back_exactly(value: float) -> None:
    result = decode_json(repr(value).encode())
    assert repr(result) == repr(value)


def test_a_result_shares_nothing_with_the_body() -> None:
    body = bytearray(b'{"key": "value"}')
    result = decode_json(bytes(body))
    del body
    gc.collect()
    assert result == {"key": "value"}


@pytest.mark.parametrize("body", [b"[1]", b"[1", b"NaN", b"[" * 300 + b"]" * 300])
def test_garbage_collection_is_afterwards_as_it_was(body: bytes) -> None:
    assert gc.isenabled()
    verdict(decode_json, body)
    assert gc.isenabled()
    gc.disable()
    try:
        verdict(decode_json, body)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_no_collection_happens_while_a_large_body_is_read() -> None:
    body = b"[" + b",".join([b'{"a":[]}'] * 50_000) + b"]"
    collections: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        collections.append(sys.getrefcount(info))

    gc.callbacks.append(note)
    try:
        result = decode_json(body)
        during = len(collections)
    finally:
        gc.callbacks.remove(note)
    assert len(result) == 50_000
    # One collection (two calls) may follow at once, when it is allowed again.
    assert during <= 2


def test_threads_decode_at_the_same_time() -> None:
    body = json.dumps([{"key": i, "text": "é" * i} for i in range(200)]).encode()
    expected = simplejson.loads(body)
    results: list[bool] = []

    def run() -> None:
        results.extend(decode_json(body) == expected for _ in range(20))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 80


def test_what_jiter_reads_imports_nothing() -> None:
    script = """
import sys, caloric._rust
before = set(sys.modules)
caloric._rust.decode_json(b'{"a": [1, 2.5, null, "text", 123456789012345678901234567890]}')
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path = {sys.path!r}\n{script}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
