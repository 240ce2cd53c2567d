"""Requests of the API model to members, and members to its answers (AWS's REST-JSON protocol)."""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from caloric.local.http import event_stream, limits, timestamps
from caloric.local.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caloric.local.http.model import Member, ModelOperation, Shape
    from caloric.local.http.routes import Query
    from caloric.local.service.operations import Members

__all__ = ["Answer", "parse", "write"]

JSON = "application/json"

# int() alone takes "1_000" and " 1", too. More digits than this fit nothing.
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_INTEGERS = {"integer": 2**31, "long": 2**63}
_NAMES = {
    "integer": "an Integer",
    "long": "a Long",
    "double": "a Double",
    "float": "a Float",
    "boolean": "a Boolean",
}


class Answer(NamedTuple):
    """An answer on its way to HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes


def parse(
    operation: ModelOperation,
    path_members: Mapping[str, str],
    query: Query,
    headers: Mapping[str, str],
    body: bytes,
) -> dict[str, Any]:
    """Return the members of a request of `operation`; what the model does not know is left out.

    `headers` are by lower-case names. Raises `ServiceError` (`SerializationException`) for what is not of its type.
    """
    shape = operation.input
    if shape is None:
        return {}
    members: dict[str, Any] = {}
    document: dict[str, Any] | None = None
    for name, member in shape.members.items():
        value: Any = None
        if member.location == "uri":
            value = _from_text(member, path_members.get(member.wire_name))
        elif member.location == "querystring":
            value = _from_query(member, query)
        elif member.location == "header":
            value = _from_text(member, headers.get(member.wire_name.lower()))
        elif member.location == "payload":
            value = _from_payload(member, body, required=name in shape.required)
        elif member.location == "body":
            if document is None:
                document = _from_json(shape, body)
            value = document.get(name)
        if value is not None:
            members[name] = value
    return members


def write(operation: ModelOperation, members: Members) -> Answer:
    """Return the answer with which `operation` gives `members`."""
    status = limits.STATUSES.get(operation.name, operation.status)
    headers: dict[str, str] = {}
    document: dict[str, Any] = {}
    body: bytes | None = None
    shape = operation.output
    for name, member in shape.members.items() if shape is not None else ():
        value = members.get(name)
        if value is None:
            continue
        if member.location == "statusCode":
            status = int(value)
        elif member.location == "header":
            headers[member.wire_name] = _to_text(member, value)
        elif member.location == "payload":
            body = _to_payload(member.shape, value, headers)
        else:
            document[member.wire_name] = _to_json(member.shape, value)
    if body is None:
        # An operation without output has an empty body; one whose body may be anything has none unless given one.
        json_body = shape is not None and shape.payload is None
        body = orjson.dumps(document) if json_body else b""
    if status == 204:
        body = b""
    headers.setdefault("Content-Type", JSON)
    return Answer(status, headers, body)


# From the wire.


def _from_text(member: Member, text: str | None) -> Any:
    """Return a value from a path, a query or a header."""
    if text is None:
        return None
    shape = member.shape
    if shape.type == "string":
        return text
    try:
        if shape.type == "timestamp":
            return timestamps.parse(text, timestamps.format_of(member.location, shape.timestamp_format))
        if shape.type == "boolean":
            return {"true": True, "false": False}[text.lower()]
        if shape.type in _INTEGERS:
            if not _INTEGER.fullmatch(text):
                raise ValueError(text)
            return _integer(shape, int(text))
        return float(text)
    except (ValueError, KeyError):
        raise _cannot_convert("STRING_VALUE", shape) from None


def _from_query(member: Member, query: Query) -> Any:
    values = [value for name, value in query if name == member.wire_name]
    if not values:
        return None
    if member.shape.type != "list":
        return _from_text(member, values[0])
    element = member._replace(shape=member.shape.element)
    return [_from_text(element, value) for value in values]


def _from_payload(member: Member, body: bytes, *, required: bool) -> Any:
    if not body and not (required and member.shape.type == "blob"):
        return None
    if member.shape.type == "structure":
        return _from_json(member.shape, body)
    return body if member.shape.type == "blob" else body.decode(errors="replace")


def _from_json(shape: Shape, body: bytes) -> dict[str, Any]:
    """Return the members of `shape` that are in the JSON object `body`."""
    if not body:
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ServiceError(
            "SerializationException", f"The request body is not valid JSON: {error}."
        ) from None
    members = _from_json_value(shape, document)
    return {} if members is None else members


def _from_json_value(shape: Shape, value: Any) -> Any:
    """Return a value of a JSON document as the type that `shape` says; `null` is no value."""
    if value is None:
        return None
    if shape.type == "structure":
        return _from_json_object(shape, value)
    if shape.type == "list":
        if not isinstance(value, list):
            raise _unexpected(value, "Expected list or null")
        return [_from_json_value(shape.element, item) for item in value]
    if shape.type == "map":
        if not isinstance(value, dict):
            raise _unexpected(value, "Expected map or null")
        return {key: _from_json_value(shape.value, item) for key, item in value.items()}
    return _from_json_scalar(shape, value)


def _from_json_object(shape: Shape, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unexpected(value, "Expected null")
    members = {}
    for member in shape.members.values():
        if member.location in ("body", "payload"):
            found = _from_json_value(member.shape, value.get(member.wire_name))
            if found is not None:
                members[member.name] = found
    return members


def _from_json_scalar(shape: Shape, value: Any) -> Any:
    kind = shape.type
    if isinstance(value, (list, dict)):
        raise _unexpected(value, "")
    if isinstance(value, bool):
        if kind == "boolean":
            return value
        raise _cannot_convert("TRUE_VALUE" if value else "FALSE_VALUE", shape)
    if isinstance(value, str):
        return _from_json_string(shape, value)
    if kind == "timestamp":
        try:
            return timestamps.parse(value, "unixTimestamp")
        except ValueError:
            raise _cannot_convert("NUMBER_VALUE", shape) from None
    if kind in ("double", "float"):
        return float(value)
    if kind in _INTEGERS and float(value).is_integer():
        return _integer(shape, int(value))
    raise _cannot_convert("NUMBER_VALUE", shape)


def _from_json_string(shape: Shape, value: str) -> Any:
    try:
        if shape.type == "string":
            return value
        if shape.type == "blob":
            return base64.b64decode(value, validate=True)
        if shape.type == "timestamp":
            return timestamps.parse(value, shape.timestamp_format or "iso8601")
    except (ValueError, binascii.Error):
        pass
    raise _cannot_convert("STRING_VALUE", shape)


def _integer(shape: Shape, value: int) -> int:
    bound = _INTEGERS[shape.type]
    if not -bound <= value < bound:
        raise _cannot_convert("NUMBER_VALUE", shape)
    return value


def _cannot_convert(token: str, shape: Shape) -> ServiceError:
    target = _NAMES.get(shape.type, f"a {shape.type.capitalize()}")
    return ServiceError("SerializationException", f"{token} can not be converted to {target}")


def _unexpected(value: Any, otherwise: str) -> ServiceError:
    if isinstance(value, dict):
        return ServiceError("SerializationException", "Start of structure or map found where not expected.")
    if isinstance(value, list):
        return ServiceError("SerializationException", "Start of list found where not expected")
    return ServiceError("SerializationException", otherwise)


# To the wire.


def _to_text(member: Member, value: Any) -> str:
    if member.shape.type == "timestamp":
        return str(
            timestamps.written(value, timestamps.format_of(member.location, member.shape.timestamp_format))
        )
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _to_payload(shape: Shape, value: Any, headers: dict[str, str]) -> bytes:
    if shape.event_stream:
        headers["Content-Type"] = event_stream.CONTENT_TYPE
        return b"".join(event_stream.message(shape, event) for event in value)
    if shape.type == "blob":
        return bytes(value)
    return orjson.dumps(_to_json(shape, value)) if shape.type == "structure" else str(value).encode()


def _to_json(shape: Shape, value: Any) -> Any:
    """Return `value` as orjson writes it."""
    if value is None:
        return None
    if shape.type == "structure":
        members = ((member, value.get(member.name)) for member in shape.members.values())
        return {
            member.wire_name: _to_json(member.shape, item) for member, item in members if item is not None
        }
    if shape.type == "list":
        return [_to_json(shape.element, item) for item in value]
    if shape.type == "map":
        return {key: _to_json(shape.value, item) for key, item in value.items()}
    if shape.type == "blob":
        return base64.b64encode(value).decode("ascii")
    if shape.type == "timestamp":
        return timestamps.written(value, timestamps.format_of("body", shape.timestamp_format))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{shape.name} is {value}, which JSON cannot express")
    return value
