"""What the JSON codec in Rust leaves to Python. Imported when it meets what it cannot handle, not before.

Decoding falls back to the standard library's `json` under the peer's rules, encoding to `orjson` where it is
installed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType


def encode_other(value: Any) -> tuple[bytes | None, Any]:
    """Return what stands for `value` in JSON, as `(json, None)` or `(None, replacement)`.

    The first is a finished piece of JSON, the second another value for the encoder, so that its rules
    (`Decimal`, big integers, NaN, lone surrogates) also hold inside it. The peer refuses all these types but
    simplejson's `RawJSON`; taking what `orjson` takes is an addition.

    Raises `TypeError`, in the peer's words, for a type that has no form in JSON.
    """
    raw_json = sys.modules.get("simplejson.raw_json")
    if raw_json is not None and isinstance(value, raw_json.RawJSON):
        return value.encoded_json.encode(), None
    try:
        import orjson
    except ImportError:
        raise not_serializable(value) from None
    if hasattr(type(value), "__dataclass_fields__"):
        return None, dataclass_fields(value)
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(value, enum.Enum):
        return None, value.value
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return numpy_value(value, numpy, orjson)
    try:
        return orjson.dumps(value), None
    except orjson.JSONEncodeError as error:
        raise not_serializable(value) from error


def dataclass_fields(value: Any) -> dict[str, Any]:
    """Return a dataclass instance's fields in their order, leaving out, as orjson does, names with a leading
    underscore and fields that were never set.
    """
    import dataclasses

    names = (field.name for field in dataclasses.fields(value) if not field.name.startswith("_"))
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def numpy_value(value: Any, numpy: ModuleType, orjson: ModuleType) -> tuple[bytes | None, Any]:
    """Return a numpy array or scalar as `encode_other` does: through orjson's fast path where it means the
    same, as Python lists and numbers where there are NaNs (orjson writes null) or a layout that orjson does
    not read.

    Raises `TypeError`, in the peer's words, for arrays of a type that neither way can write.
    """
    if value.dtype.kind != "f" or numpy.isfinite(value).all():
        try:
            return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), None
        except orjson.JSONEncodeError:
            pass
    plain = value.tolist()
    if plain is value or isinstance(plain, type(value)):
        raise not_serializable(value)
    return None, plain


def not_serializable(value: Any) -> TypeError:
    """Return the peer's error for a value that JSON has no form for."""
    return TypeError(f"Object of type {value.__class__.__name__} is not JSON serializable")


def decode(body: bytes) -> Any:
    """Return the object that a JSON document describes, by the peer's rules: UTF-8 with or without a byte
    order mark, no `NaN` and no `Infinity`; half surrogate pairs as they are, and nesting as deep as Python's
    recursion limit lets.

    Raises `json.JSONDecodeError` (with line and column), `UnicodeDecodeError`, `ValueError` for an integer
    beyond `sys.get_int_max_str_digits()`, `RecursionError`.
    """
    import json

    def refuse(constant: str) -> Any:
        raise json.JSONDecodeError("Expecting value", text, constant_position(text))

    text = body.decode()
    decoder = json.JSONDecoder(parse_constant=refuse)
    # simplejson also skips a mark that was encoded twice.
    start = next((len(mark) for mark in ("\ufeff", "\xef\xbb\xbf") if text.startswith(mark)), 0)
    value, end = decoder.raw_decode(text, skip_whitespace(text, start))
    end = skip_whitespace(text, end)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def skip_whitespace(text: str, start: int) -> int:
    """Return where JSON's whitespace ends that begins at `start`."""
    return len(text) - len(text[start:].lstrip(" \t\n\r"))


def constant_position(text: str) -> int:
    """Return where the first `NaN`, `Infinity` or `-Infinity` outside strings is. What stands before it is
    JSON.
    """
    import re

    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)', text, re.DOTALL):
        if match.group(1):
            return match.start()
    return 0
