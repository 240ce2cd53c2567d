"""A response that is read while the function makes it."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from caloric._rust import decode_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from caloric._rust import InvokeStream
    from caloric.testing.function import Invocation
    from caloric.testing.result import InvocationResult

__all__ = ["InvocationStream"]

# Spec lambda-service 4.7.
_HTTP_INTEGRATION = "application/vnd.awslambda.http-integration-response"
_PRELUDE_END = bytes(8)
_MAX_PRELUDE = 16 * 1024


class InvocationStream:
    """An invocation whose response is read piece by piece, as `LambdaFunction.stream` returns it: an iterator of bytes.

    A piece is given when it has arrived; pieces that follow each other closely may arrive as one. Who does not read
    holds the function up. The iteration ends with the response, whether that is complete or the function failed in the
    middle of it: `result` tells, and `read` raises. A function that does not stream gives one piece, its payload, and
    none if it failed.

    The attributes below wait for the beginning of the response. Of an HTTP response the prelude is read there, and is
    no piece; they raise `ValueError`, and so does the iteration, if what should be a prelude is none.
    """

    def __init__(self, invocation: Invocation, stream: InvokeStream) -> None:
        self._invocation = invocation
        self._stream = stream
        self._pieces: Iterator[bytes] = stream
        if invocation._runtime is not None:
            self._pieces = _of_handler_here(invocation, stream)
        # What of the body came with its beginning and was not read; None before that.
        self._first: list[bytes] | None = None
        self._streamed = False
        self._prelude: dict[str, Any] | None = None
        self._problem = ""

    @property
    def streamed(self) -> bool:
        """Whether the function streams, rather than answering at once or failing before the first piece."""
        self._begin()
        return self._streamed

    @property
    def content_type(self) -> str:
        """The type of the body: what the HTTP headers say, else what the runtime declared."""
        self._begin()
        declared = self._stream.content_type
        if declared is None:
            return self._invocation.result().content_type
        return self.headers.get("content-type", declared)

    @property
    def status(self) -> int | None:
        """The status of an HTTP response that is streamed (`caloric.HttpResponse`), else None."""
        self._begin()
        return None if self._prelude is None else int(self._prelude.get("statusCode", 200))

    @property
    def headers(self) -> dict[str, str]:
        """Its headers, names in lower case."""
        self._begin()
        headers = {} if self._prelude is None else self._prelude.get("headers", {})
        return {name.lower(): str(value) for name, value in headers.items()}

    @property
    def cookies(self) -> list[str]:
        """Its cookies, each as in a Set-Cookie header."""
        self._begin()
        return [] if self._prelude is None else [str(cookie) for cookie in self._prelude.get("cookies", ())]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """Wait for the next piece."""
        first = self._begin()
        return first.pop(0) if first else next(self._pieces)

    def read(self) -> bytes:
        """Wait for the end, and return what has not been read.

        Raises `FunctionFailedError` if the function failed, be it in the middle.
        """
        __tracebackhide__ = True
        rest = b"".join(self)
        self.result().raise_for_error()
        return rest

    def result(self, timeout: float | None = None) -> InvocationResult:
        """Skip what has not been read, and return what came of the invocation, once the runtime is done.

        Its `error` is what the function failed with, before the first piece or later. Of a response that was streamed
        it has no payload.

        Raises `TimeoutError` if it has not finished `timeout` seconds after the response has ended.
        """
        with suppress(ValueError):
            self._begin().clear()
        for _ in self._pieces:
            pass
        return self._invocation.result(timeout)

    def _begin(self) -> list[bytes]:
        """Wait for the beginning, and return what came with it and was not read."""
        if self._first is None:
            first = next(self._pieces, None)
            declared = self._stream.content_type
            self._streamed = declared is not None
            if declared == _HTTP_INTEGRATION:
                self._first = self._read_prelude(first or b"")
            elif first is None and not self._streamed:
                result = self._invocation.result()
                self._first = [result.raw_payload] if result.error is None and result.raw_payload else []
            else:
                self._first = [] if first is None else [first]
        if self._problem:
            raise ValueError(f"the prelude of the HTTP response {self._problem}")
        return self._first

    def _read_prelude(self, data: bytes) -> list[bytes]:
        while _PRELUDE_END not in data:
            piece = next(self._pieces, None) if len(data) <= _MAX_PRELUDE else None
            if piece is None:
                # A function that failed before it was complete has failed, and that is all.
                if len(data) > _MAX_PRELUDE or self._invocation.result().error is None:
                    self._problem = f"does not end within {_MAX_PRELUDE} bytes: it begins with {data[:100]!r}"
                return []
            data += piece
        prelude, _, body = data.partition(_PRELUDE_END)
        try:
            document = decode_json(prelude)
        except ValueError as error:
            self._problem = f"is no JSON: {error}"
            return []
        for name, value, kind in (
            ("it", document, dict),
            ("headers", document.get("headers", {}) if isinstance(document, dict) else {}, dict),
            ("cookies", document.get("cookies", []) if isinstance(document, dict) else [], list),
        ):
            if not isinstance(value, kind):
                self._problem = f"is not what HTTP takes: {name} should be a {kind.__name__}, not {value!r}"
                return []
        self._prelude = document
        return [body] if body else []

    def __repr__(self) -> str:
        state = "finished" if self._invocation.done else "not finished"
        return f"<InvocationStream of {self._invocation._function.handler}, {state}>"


def _of_handler_here(invocation: Invocation, stream: InvokeStream) -> Iterator[bytes]:
    """Take the pieces on a thread of its own from now on, and return what gives them.

    The handler runs in the thread that asks for the first of them, or for another invocation's result. It would wait
    for room if nobody took what it streams.
    """
    taken: list[bytes] = []
    thread = threading.Thread(target=lambda: taken.extend(stream), name="stream of the handler", daemon=True)
    thread.start()

    def give() -> Iterator[bytes]:
        invocation.result()
        thread.join()
        yield from taken

    return give()
