"""`caloric.HttpResponse`: the answer of a function behind a function URL (spec lambda-service 4.4, 4.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caloric._rust import encode_json
from caloric.errors import MarshalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Mapping

    Body = (
        bytes
        | bytearray
        | memoryview
        | str
        | dict[str, Any]
        | list[Any]
        | Iterable[Any]
        | AsyncIterable[Any]
        | None
    )

__all__ = ["TEXT", "HttpResponse", "content_type_of", "encode_item", "encode_result"]

TEXT = "text/plain; charset=utf-8"

# Where the prelude's end must be (spec lambda-service 4.7).
MAX_PRELUDE = 16 * 1024
_PRELUDE_END = bytes(8)

_WHOLE = (bytes, bytearray, memoryview, str, dict, list, tuple, int, float, bool, type(None))


class HttpResponse:
    """An HTTP response, returned by a handler.

    `body` is bytes, a str (sent as UTF-8) or what has a form in JSON; or something to iterate over, plainly or
    asynchronously, which is streamed, piece by piece as it comes. A content type that `headers` do not name is
    `application/octet-stream` for bytes, `text/plain; charset=utf-8` for a str, `application/json` for JSON; for a
    stream its first piece decides, and pieces of JSON, which are a line each, are `application/x-ndjson`.

    `headers` is a mapping or a list of pairs; of a name that comes twice the values are joined with commas, but for
    Set-Cookie, which goes to `cookies`. Each of `cookies` is the value of one Set-Cookie header.

    Raises `ValueError` for a status that is none of 100 to 599, for a header or a cookie that HTTP cannot carry, and
    where all that is more than 16 kB for a stream; `TypeError` where it is not what is described above.
    """

    # What the runtime looks for on a result's type.
    _caloric_answer = True

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, object] | Iterable[tuple[str, object]] | None = None,
        cookies: Iterable[str] = (),
        body: Body = None,
    ) -> None:
        if isinstance(status, bool) or not isinstance(status, int):
            raise TypeError(f"an HTTP status is an int, such as 200, not {status!r}")
        if not 100 <= status <= 599:
            raise ValueError(f"an HTTP status is 100 to 599, not {status}")
        if isinstance(cookies, str):
            raise TypeError(
                "cookies is a list of str, each the value of a Set-Cookie header; this is a single str"
            )
        self.status = int(status)
        self.headers: dict[str, str] = {}
        self.cookies = [_field_value("Set-Cookie", cookie) for cookie in cookies]
        self.body = body
        pairs = () if headers is None else headers.items() if hasattr(headers, "items") else headers
        names: dict[str, str] = {}
        for name, value in pairs:
            text = _field_value(name, value)
            folded = name.lower()
            if folded == "set-cookie":
                self.cookies.append(text)
            elif folded in names:
                self.headers[names[folded]] += f", {text}"
            else:
                names[folded] = name
                self.headers[name] = text

    @property
    def streams(self) -> bool:
        """Whether the body is sent piece by piece."""
        return not isinstance(self.body, _WHOLE) and (
            hasattr(self.body, "__aiter__") or hasattr(self.body, "__iter__")
        )

    def payload(self) -> dict[str, Any]:
        """Return the response as a function's result, in payload format 2.0 (spec lambda-service 4.4)."""
        body = self.body
        if isinstance(body, bytearray | memoryview):
            body = bytes(body)
        encoded = isinstance(body, bytes)
        if isinstance(body, bytes):
            from binascii import b2a_base64

            text = b2a_base64(body, newline=False).decode()
        elif body is None:
            text = ""
        else:
            text = body if isinstance(body, str) else encode_json(body).decode()
        headers = dict(self.headers)
        if body is not None and not self._has_content_type():
            json = not isinstance(body, bytes | str)
            headers["content-type"] = "application/json" if json else content_type_of(body)
        payload: dict[str, Any] = {"statusCode": self.status, "headers": headers, "body": text}
        if self.cookies:
            payload["cookies"] = self.cookies
        payload["isBase64Encoded"] = encoded
        return payload

    def prelude(self, content_type: str) -> bytes:
        """Return what a streamed response begins with: status, headers and cookies as JSON, and eight zero bytes.

        `content_type` is that of the pieces. Raises `ValueError` where it is too long.
        """
        headers = dict(self.headers)
        if not self._has_content_type():
            headers["content-type"] = content_type
        fields: dict[str, Any] = {"statusCode": self.status, "headers": headers}
        if self.cookies:
            fields["cookies"] = self.cookies
        prelude = encode_json(fields) + _PRELUDE_END
        if len(prelude) > MAX_PRELUDE:
            raise ValueError(
                f"status, headers and cookies of a streamed response take {len(prelude)} bytes, where Lambda accepts "
                f"{MAX_PRELUDE}"
            )
        return prelude

    def _has_content_type(self) -> bool:
        return any(name.lower() == "content-type" for name in self.headers)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(status={self.status!r}, headers={self.headers!r}, cookies={self.cookies!r}, "
            f"body={self.body!r})"
        )


def _field_value(name: object, value: object) -> str:
    if (
        not isinstance(name, str)
        or not name
        or not name.isascii()
        or any(byte in name for byte in "\r\n\0 :")
    ):
        raise ValueError(f"{name!r} is not the name of an HTTP header")
    text = value if isinstance(value, str) else str(value)
    if any(character in text for character in "\r\n\0"):
        raise ValueError(f"the value of the header {name} has a line end or a zero byte in it: {text!r}")
    return text


def encode_item(item: object) -> bytes:
    """Return a piece of a stream as it is sent: bytes as they are, a str as UTF-8, anything else as a line of JSON.

    Raises `caloric.errors.MarshalError` for what has no form in JSON.
    """
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode(errors="replace")
    if isinstance(item, bytearray | memoryview):
        return bytes(item)
    return encode_result(item) + b"\n"


def encode_result(result: object) -> bytes:
    """Return `result` as JSON. Raises `caloric.errors.MarshalError` where it has no form in it."""
    try:
        return encode_json(result)
    except Exception as error:
        message = f"Unable to marshal response: {error}"
    raise MarshalError(message)


def content_type_of(item: object) -> str:
    """Return the content type of a stream that begins with `item`; none is longer than that of a str."""
    if isinstance(item, str):
        return TEXT
    if isinstance(item, bytes | bytearray | memoryview):
        return "application/octet-stream"
    return "application/x-ndjson"
