"""Decoding and encoding against orjson, json and simplejson, on events and on one document per kind of value.

    pytest bench/codec --benchmark-enable --benchmark-columns=min,median

Each contestant gets what it gets in a Lambda function: bytes to read, a result to turn into UTF-8. The answer
is checked before it is timed. Collection is on, as it is while a handler runs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import simplejson

from bench.codec.payloads import NAMES, body, document
from caloric._rust import decode_json, encode_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

DECODERS: dict[str, Callable[[bytes], Any]] = {
    "caloric": decode_json,
    "orjson": orjson.loads,
    "json": json.loads,
    "simplejson": simplejson.loads,
}


def json_encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def simplejson_encode(value: Any) -> bytes:
    return simplejson.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()  # type: ignore[no-any-return]


ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "caloric": encode_json,
    "orjson": orjson.dumps,
    "json": json_encode,
    "simplejson": simplejson_encode,
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", NAMES)
def test_decode(benchmark: BenchmarkFixture, name: str, decoder: str) -> None:
    data, decode = body(name), DECODERS[decoder]
    assert decode(data) == document(name)
    benchmark.group = f"decode {name}, {len(data)} bytes"
    benchmark(decode, data)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", NAMES)
def test_encode(benchmark: BenchmarkFixture, name: str, encoder: str) -> None:
    value, data, encode = document(name), body(name), ENCODERS[encoder]
    assert json.loads(encode(value)) == value
    benchmark.group = f"encode {name}, {len(data)} bytes"
    if len(data) < 50_000:
        benchmark(encode, value)
    else:
        # A result is new every time. CPython keeps the UTF-8 form of a string that was asked for it once, so
        # the same document again would flatter who asks.
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            encode, setup=lambda: ((json.loads(data),), {}), rounds=50
        )
