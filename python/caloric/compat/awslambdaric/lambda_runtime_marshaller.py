"""Events from JSON and results to JSON.

Every module through which a tool can change what the runtime does imports this one; that is what makes the runtime look
at them (`caloric.compat.hand_over`).
"""

from __future__ import annotations

from typing import Any

from caloric import compat
from caloric._json_fallback import not_serializable
from caloric._rust import decode_json, encode_json

from .lambda_runtime_exception import FaultException

__all__ = ["Encoder", "LambdaMarshaller", "to_json"]

compat.hand_over()


class Encoder:
    """Writes results by Caloric's rules. A `default` of a subclass's own, or one that was patched in, is asked for a
    replacement of every value whose type is not known.
    """

    def encode(self, o: object) -> str:
        """Return `o` as JSON."""
        default = self.default
        if getattr(default, "__func__", default) is _default:
            return encode_json(o).decode()
        return encode_json(o, default=default).decode()

    def default(self, o: object) -> object:
        """Return a replacement for `o`. Raises `TypeError`: this one knows none."""
        raise not_serializable(o)


_default = Encoder.default


def to_json(obj: object) -> str:
    """Return `obj` as JSON."""
    return Encoder().encode(obj)


class LambdaMarshaller:
    """The default of `BaseLambdaRuntimeClient.marshaller`, which functions may replace by one of their own."""

    def __init__(self) -> None:
        # The peer's name.
        self.jsonEncoder = Encoder()

    def unmarshal_request(self, request: bytes, content_type: str = "application/json") -> Any:
        """Return the event: `request` decoded if it is JSON, or else as it is. Raises `FaultException`."""
        if content_type != "application/json":
            return request
        try:
            return decode_json(request)
        except Exception as error:
            message = f"Unable to unmarshal input: {error}"
        raise FaultException(FaultException.UNMARSHAL_ERROR, message)

    def marshal_response(self, response: object) -> tuple[str | bytes, str]:
        """Return what is posted for a handler's result, and its Content-Type. Raises `FaultException`."""
        if isinstance(response, bytes):
            return response, "application/unknown"
        try:
            return self.jsonEncoder.encode(response), "application/json"
        except Exception as error:
            message = f"Unable to marshal response: {error}"
        raise FaultException(FaultException.MARSHAL_ERROR, message)
