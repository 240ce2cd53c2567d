"""Responses that are sent while they are made (spec runtime-api 2): from what is iterated over, or written to.

Imported at the first one.
"""

from __future__ import annotations

from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

from caloric.error_report import fit_trailers
from caloric.errors import StreamClosedError
from caloric.responses import TEXT, HttpResponse, content_type_of, encode_item

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
    from types import TracebackType

    from caloric._rust import RuntimeClient, SlotInvocation
    from caloric.context import LambdaContext
    from caloric.error_report import ErrorReport

__all__ = ["ResponseStream", "open_stream", "send_async_items", "send_items"]

HTTP_INTEGRATION = "application/vnd.awslambda.http-integration-response"
_EMPTY_TYPE = "application/octet-stream"


class ResponseStream:
    """The response of an invocation, written piece by piece; made by `context.open_stream`.

    Nothing is sent before the first piece, so that an exception until then is an ordinary error. A write is on its way
    when it returns, and where the caller reads slowly it waits, up to the function's time limit; not on
    an event loop that serves several invocations at once, where nothing may wait. Several threads may write. As a
    context manager it is closed at the end, but for an exception, which becomes the stream's error.
    """

    def __init__(
        self,
        client: RuntimeClient | SlotInvocation,
        request_id: str,
        invocation_id: str | None,
        *,
        response: HttpResponse | None = None,
        content_type: str | None = None,
    ) -> None:
        if response is not None:
            # Now, where it can still be an ordinary error.
            response.prelude(content_type or TEXT)
        self._client = client
        self._request_id = request_id
        self._invocation_id = invocation_id
        self._response = response
        self._content_type = content_type
        self._lock = allocate_lock()
        self._begun = False
        self._closed = False
        self._ended = False

    @property
    def begun(self) -> bool:
        """Whether anything was sent, so that the caller has a status and a content type."""
        return self._begun

    @property
    def closed(self) -> bool:
        """Whether no more is sent: it was closed, or the platform wants no more of it."""
        return self._closed

    def write(self, item: object) -> None:
        """Send one piece: bytes as they are, a str as UTF-8, anything else as a line of JSON. Empty ones are not sent.

        Raises `caloric.StreamClosedError` where the stream is closed, by `close` or by the platform, and
        `caloric.MarshalError` for what has no form in JSON: the stream is then as it was.
        """
        self.send(encode_item(item), item)

    def send(self, piece: bytes, item: object) -> None:
        """Send `piece`, which was made of `item`."""
        with self._lock:
            if self._closed:
                raise StreamClosedError("the response stream is closed")
            if not self._begun:
                piece = self._begin(content_type_of(item)) + piece
            if piece:
                self._begun = True
                self._closed = not self._client.send_chunk(piece)
                if self._closed:
                    raise StreamClosedError("the platform wants no more of the response stream")

    def close(self) -> None:
        """End the response, which the caller then has whole; the handler may go on. Idempotent."""
        self.end(None)

    def end(self, report: ErrorReport | None) -> None:
        """End it, with an error if there is a `report`. What comes later than the end cannot be told any more."""
        with self._lock:
            if self._ended:
                return
            self._closed = self._ended = True
            if not self._begun:
                prelude = self._begin(_EMPTY_TYPE)
                self._begun = True
                if prelude:
                    self._client.send_chunk(prelude)
            if report is None:
                self._client.end_stream()
            else:
                self._client.end_stream(*fit_trailers(report))

    def abandon(self) -> None:
        """Break it off: the process is about to end."""
        self._closed = self._ended = True
        self._client.abandon_stream()

    def _begin(self, content_type: str) -> bytes:
        """Return what goes before the first piece."""
        content_type = self._content_type or content_type
        prelude = b""
        if self._response is not None:
            prelude = self._response.prelude(content_type)
            content_type = HTTP_INTEGRATION
        self._client.begin_stream(self._request_id, content_type, self._invocation_id)
        return prelude

    def __enter__(self) -> ResponseStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()


def open_stream(
    context: LambdaContext,
    status: int | None,
    headers: Mapping[str, str] | None,
    cookies: Iterable[str],
    content_type: str | None,
) -> ResponseStream:
    """What `context.open_stream` does."""
    client = context._client
    if client is None:
        raise RuntimeError("a response stream needs an invocation that Caloric serves")
    if "_stream" in context.__dict__:
        raise RuntimeError("this invocation has a response stream already")
    response = None
    if status is not None or headers or cookies:
        response = HttpResponse(200 if status is None else status, headers, cookies)
    stream = ResponseStream(
        client, context.aws_request_id, client.invocation_id, response=response, content_type=content_type
    )
    context.__dict__["_stream"] = stream
    client.hand_over()
    return stream


def send_items(stream: ResponseStream, items: Iterable[Any]) -> None:
    """Send what `items` yields until it, or the stream, is over; then close it, where it can be. Raises what it raises,
    and `caloric.MarshalError`.
    """
    iterator = iter(items)
    try:
        for item in iterator:
            stream.send(encode_item(item), item)
    except StreamClosedError:
        if not stream.closed:
            raise
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


async def send_async_items(
    stream: ResponseStream, items: AsyncIterable[Any], room: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Send what `items` yields, as `send_items` does, and wait for `room()` after each of them."""
    iterator = aiter(items)
    try:
        async for item in iterator:
            stream.send(encode_item(item), item)
            if room is not None:
                await room()
    except StreamClosedError:
        if not stream.closed:
            raise
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
