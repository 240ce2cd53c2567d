"""The answers that `RuntimeClient.run` leaves to Python: what is awaited or streamed, an `HttpResponse`, and whatever
has work to be done after it.

Imported at the first one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from caloric.error_report import report_exception, report_fault
from caloric.errors import MarshalError
from caloric.responses import HttpResponse, encode_result

if TYPE_CHECKING:
    from collections.abc import Callable

    from caloric._rust import RuntimeClient
    from caloric.context import LambdaContext
    from caloric.error_report import ErrorReport
    from caloric.streaming import ResponseStream

__all__ = ["answer"]


def answer(
    client: RuntimeClient,
    request_id: str,
    invocation_id: str | None,
    result: Any,
    error: Exception | None,
    called_with: tuple[Any, LambdaContext] | None,
    *,
    hooks: bool = True,
    raised: Callable[[Exception], object] | None = None,
) -> None:
    """Answer the invocation that `client.run` has left, and do what the handler wants to be done after that.

    For tests: without `hooks` those of `caloric.lifecycle` do not run, and `raised` is told of an error. Raises
    `RuntimeApiError` when the Runtime API is gone or failed, and what is no `Exception` from user code.
    """
    context = None if called_with is None else called_with[1]
    stream: ResponseStream | None = getattr(context, "_stream", None)
    report: ErrorReport | None = None
    body, content_type = b"", "application/json"
    try:
        if error is not None:
            raise error
        result = awaited(result)
        if stream is not None:
            if result is not None:
                warn_of_result(request_id)
        elif streams(result):
            from caloric.streaming import ResponseStream

            response = result if isinstance(result, HttpResponse) else None
            stream = ResponseStream(client, request_id, invocation_id, response=response)
            _send(stream, result if response is None else response.body)
        elif isinstance(result, bytes):
            body, content_type = result, "application/unknown"
        else:
            body = encode_result(result.payload() if isinstance(result, HttpResponse) else result)
    except MarshalError as fault:
        error, report = fault, report_fault("Runtime.MarshalError", str(fault), request_id)
    except Exception as failure:
        error, report = failure, report_exception(failure, request_id)
    except BaseException:
        if stream is not None:
            stream.abandon()
        raise
    if raised is not None and error is not None:
        raised(error)
    ending = None
    if hooks:
        ending = _after_invoke(called_with, None if error is not None else result, error, request_id)
    # A large result must not stay in memory while the environment idles.
    del result, error, called_with
    if stream is not None and (report is None or stream.begun):
        stream.end(report)
    elif report is not None:
        client.post_invocation_error(
            request_id, report.body, report.error_type, report.xray_cause, invocation_id
        )
    else:
        client.post_invocation_response(request_id, body, content_type, invocation_id)
    if ending is not None:
        raise ending
    work_after(context)
    shutdown = sys.modules.get("caloric.shutdown")
    if shutdown is not None:
        # User code may have set another handler for SIGTERM.
        shutdown.watch_again()


def _after_invoke(
    called_with: tuple[Any, LambdaContext] | None, result: Any, error: Exception | None, request_id: str
) -> BaseException | None:
    """Run the `after_invoke` hooks. Returns what is to be raised when the answer has been sent, if anything."""
    lifecycle = sys.modules.get("caloric.lifecycle")
    if lifecycle is None or called_with is None:
        return None
    ending: BaseException | None = lifecycle.run_after_invoke(*called_with, result, error, request_id)
    return ending


def work_after(context: LambdaContext | None) -> None:
    """Do what the handler wants to be done after its response."""
    if getattr(context, "_after_response", None):
        from caloric.after_response import run_all

        run_all(context)


def awaited(result: Any) -> Any:
    """Return what there is when `result` has been waited for, where it is something to await."""
    if not hasattr(type(result), "__await__"):
        return result
    from caloric.asynchronous import run

    return run(result)


def is_for_python(result: Any, context: LambdaContext | None) -> bool:
    """Whether `answer` has more to do with a result than to encode it."""
    return hasattr(context, "_stream") or isinstance(result, HttpResponse) or streams(result)


def has_begun(context: LambdaContext | None) -> bool:
    """Whether something of the response has been sent, so that an error can only follow it."""
    return getattr(getattr(context, "_stream", None), "begun", False)


def streams(result: Any) -> bool:
    """Whether a result is sent piece by piece: an iterator, plain or asynchronous, or a response around one."""
    if isinstance(result, HttpResponse):
        return result.streams
    kind = type(result)
    return hasattr(kind, "__next__") or hasattr(kind, "__aiter__")


def _send(stream: ResponseStream, items: Any) -> None:
    """Send what `items` yields. Raises what it raises, and `caloric.MarshalError`."""
    if hasattr(type(items), "__aiter__"):
        from caloric.asynchronous import run
        from caloric.streaming import send_async_items

        run(send_async_items(stream, items))
    else:
        from caloric.streaming import send_items

        send_items(stream, items)


def warn_of_result(request_id: str) -> None:
    """Say that a result is not sent, because the invocation has a stream."""
    sys.stderr.write(
        f"caloric: {request_id} has a response stream, so that what its handler returned is not sent\n"
    )
