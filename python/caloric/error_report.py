"""What is said about an error: the document that is posted, X-Ray's cause, and the lines in the log.

Imported at the first error. Shapes: spec runtime-api 1.5, 1.6, 4.3, 4.7, 4.8.
"""

from __future__ import annotations

import os
import time
import traceback
from binascii import b2a_base64
from typing import TYPE_CHECKING, Any, NamedTuple

from caloric._rust import decode_json, encode_json
from caloric.errors import InitializationError
from caloric.log_sink import in_json, log_sink

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ErrorReport", "report_exception", "report_fault", "report_initialization_error"]

# Above this the classic Runtime API may drop the connection without an answer; our choice (spec 1.5).
MAX_DOCUMENT = 256 * 1024
# The platform's own limit for X-Ray's cause, after which it crops.
MAX_XRAY_CAUSE = 64 * 1024
# What the values of both trailers may take; with their names it is below 3.5 kB.
MAX_TRAILERS = 3400
_OWN_FOLDER = os.path.join(os.path.dirname(__file__), "")

Frame = tuple[str, int, str, str | None]


class ErrorReport(NamedTuple):
    """What is posted: the document's bytes, `Category.Reason` or the class name, X-Ray's cause as ASCII JSON."""

    body: bytes
    error_type: str
    xray_cause: str


def report_exception(error: BaseException, request_id: str) -> ErrorReport:
    """Log what a handler raised and return what is to be posted."""
    frames = handler_frames(error.__traceback__)
    error_type = type(error).__name__
    document = _document(message_of(error), error_type, request_id, traceback.format_list(frames))
    _log(document, details_of(error))
    return _report(document, error_type, frames)


def log_aside(error: BaseException, request_id: str) -> None:
    """Log what was raised beside an invocation's answer, which is what it is: in text with the request id, in JSON that
    is there anyway.
    """
    trace = traceback.format_list(handler_frames(error.__traceback__))
    document = _document(message_of(error), type(error).__name__, request_id, trace)
    _log(document, details_of(error), aside=True)


def report_fault(error_type: str, message: str, request_id: str) -> ErrorReport:
    """Log a `Runtime.*` fault of an invocation and return what is to be posted. It has no stack trace."""
    document = _document(message, error_type, request_id, [])
    _log(document, {})
    return _report(document, "LambdaValidationError", [])


def report_initialization_error(error: BaseException) -> ErrorReport:
    """Log why the handler could not be loaded and return what is to be posted. Its request id is empty."""
    import logging

    logging.warning(
        "LAMBDA_WARNING: Unhandled exception. The handler could not be loaded, so Lambda is told that "
        "initialization failed and this process ends. Where Lambda tries again within the invocation that waits, "
        "and that fails too, the error is its answer. What changes between runtime versions is listed at "
        "https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html\r"
    )
    if isinstance(error, InitializationError):
        document = _document(str(error), error.error_type, "", error.stack_trace)
        cause = error.__cause__
        _log(document, {} if cause is None else details_of(cause, with_itself=True))
        return _report(document, error.error_type, [])
    frames = handler_frames(error.__traceback__)
    error_type = type(error).__name__
    document = _document(message_of(error), error_type, "", traceback.format_list(frames))
    _log(document, details_of(error))
    return _report(document, error_type, frames)


def _document(message: str, error_type: str, request_id: str, stack_trace: list[str]) -> dict[str, Any]:
    return {
        "errorMessage": message,
        "errorType": error_type,
        "requestId": request_id,
        "stackTrace": stack_trace,
    }


def _report(document: dict[str, Any], xray_type: str, frames: list[Frame]) -> ErrorReport:
    cause = xray_cause(xray_type, document["errorMessage"], _working_directory(), frames)
    return ErrorReport(fit_document(document), document["errorType"], fit_xray_cause(cause))


def details_of(error: BaseException, *, with_itself: bool = False) -> dict[str, Any]:
    """Return what is logged about the error and not posted (see `caloric.error_details.details`).

    Whatever goes wrong in looking for it, the error itself is to be reported.
    """
    if not (
        with_itself
        or error.__cause__ is not None
        or (error.__context__ is not None and not error.__suppress_context__)
        or hasattr(error, "__notes__")
        or hasattr(error, "exceptions")
        or isinstance(error, ImportError)
    ):
        return {}
    try:
        from caloric.error_details import details

        return details(error, with_itself=with_itself)
    except Exception:
        return {}


def message_of(error: BaseException) -> str:
    """Return the exception's text, or what went wrong in making it."""
    try:
        return str(error)
    except Exception as failure:
        return f"<exception str() failed: {type(failure).__name__}>"


def handler_frames(trace: TracebackType | None) -> list[Frame]:
    """Return the traceback without the runtime's own frames at its beginning."""
    frames: list[Frame] = []
    for frame in traceback.extract_tb(trace):
        if frames or not frame.filename.startswith(_OWN_FOLDER):
            frames.append((frame.filename, frame.lineno or 0, frame.name, frame.line))
    return frames


def fit_document(document: dict[str, Any]) -> bytes:
    """Return an error document as JSON, its message and stack trace cropped where it would be too large to post."""
    body = encode_json(document)
    if len(body) > MAX_DOCUMENT:
        # Deep recursion or a message that quotes its input: the ends tell the most.
        stack_trace = document["stackTrace"]
        if len(stack_trace) > 40:
            cut = f"  [{len(stack_trace) - 40} more frames]\n"
            stack_trace = [*stack_trace[:20], cut, *stack_trace[-20:]]
        document = {
            **document,
            "errorMessage": _crop(document["errorMessage"], MAX_DOCUMENT // 16),
            "stackTrace": [_crop(entry, MAX_DOCUMENT // 1024) for entry in stack_trace],
        }
        body = encode_json(document)
    return body


def fit_trailers(report: ErrorReport) -> tuple[str, str]:
    """Return the trailers of a streamed response that ended with an error: its type, and the document in base64.

    AWS's Go code refuses trailers above 4 kB and then loses the environment: the stack trace is cut first, then the
    message (spec runtime-api 2.2).
    """
    error_type = _crop(report.error_type, 256)
    document = {**decode_json(report.body), "errorType": error_type}
    message, stack_trace = document["errorMessage"], document["stackTrace"]
    encoded = _base64(document)
    for frames, characters in ((8, None), (4, None), (2, None), (0, None), (0, 1024), (0, 256), (0, 64)):
        if len(encoded) + len(error_type.encode()) <= MAX_TRAILERS:
            break
        if len(stack_trace) > frames:
            cut = f"  [{len(stack_trace) - frames} more frames]\n"
            outer = frames // 2
            inner = stack_trace[len(stack_trace) - (frames - outer) :]
            document["stackTrace"] = [*stack_trace[:outer], cut, *inner]
        if characters is not None:
            document["errorMessage"] = _crop(message, characters)
        encoded = _base64(document)
    return error_type, encoded


def _base64(document: dict[str, Any]) -> str:
    return b2a_base64(encode_json(document), newline=False).decode()


def _crop(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... [{len(text) - limit} more characters]"


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def xray_cause(error_type: str, message: str, folder: str, frames: list[Frame]) -> dict[str, Any]:
    """Return X-Ray's cause (spec runtime-api 1.6)."""
    stack = [{"label": name, "path": filename, "line": line} for filename, line, name, _ in frames]
    return {
        "working_directory": folder,
        "exceptions": [{"message": message, "type": error_type, "stack": stack}],
        "paths": list(dict.fromkeys(filename for filename, *_ in frames)),
    }


def fit_xray_cause(cause: dict[str, Any]) -> str:
    """Return X-Ray's cause as it goes into a header: ASCII JSON, cropped where it would be too large. Empty where even
    that does not help.
    """
    (exception,) = cause["exceptions"]
    message, stack = exception["message"], exception["stack"]
    for limit, kept in ((None, 1.0), *((2048, share) for share in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0))):
        # The outermost and the innermost frames tell the most.
        count = int(len(stack) * kept)
        half = count // 2
        cropped = {
            "working_directory": _crop(cause["working_directory"], 4096),
            "exceptions": [
                {
                    "message": message if limit is None else _crop(message, limit),
                    "type": exception["type"],
                    "stack": stack if kept == 1.0 else stack[: count - half] + stack[len(stack) - half :],
                }
            ],
            "paths": cause["paths"] if kept else [],
        }
        text = ascii_json(encode_json(cropped).decode())
        if len(text) <= MAX_XRAY_CAUSE:
            return text
    return ""


def ascii_json(text: str) -> str:
    """Return JSON text whose every character is legal in a header: escaped where it is not ASCII, or DEL."""
    if text.isascii() and "\x7f" not in text:
        return text
    units = text.encode("utf-16-be", "surrogatepass")
    codes = (units[i] << 8 | units[i + 1] for i in range(0, len(units), 2))
    return "".join(chr(code) if code < 0x7F else f"\\u{code:04x}" for code in codes)


def _log(document: dict[str, Any], details: dict[str, Any], *, aside: bool = False) -> None:
    try:
        log_sink.log_error(log_lines(document, details, aside=aside))
    except (OSError, ValueError):
        # A closed stream, say: the error is reported all the same.
        pass


def log_lines(document: dict[str, Any], details: dict[str, Any], *, aside: bool = False) -> list[str]:
    """Return the lines of an error's log record, without their ends: what is posted, and behind it what is not.

    What is `aside` is no invocation's answer, and names the invocation.
    """
    if in_json():
        timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return [encode_json({"timestamp": timestamp, "level": "ERROR", **document, **details}).decode()]
    head = ": ".join(part for part in (document["errorType"], document["errorMessage"]) if part)
    if aside and document["requestId"]:
        head = f"{document['requestId']} {head}"
    lines = [f"[ERROR] {head}", "Traceback (most recent call last):"]
    for entry in document["stackTrace"]:
        lines += [_unbreakable(line) for line in entry.splitlines()] or [""]
    if details:
        from caloric.error_details import as_lines

        lines += map(_unbreakable, as_lines(details))
    return lines


def _unbreakable(line: str) -> str:
    """Leading blanks as no-break spaces, which CloudWatch does not trim."""
    text = line.lstrip(" ")
    return "\u00a0" * (len(line) - len(text)) + text
