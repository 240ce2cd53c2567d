"""What is said about an error: the document that is posted, X-Ray's cause, and the lines in the log.

Imported at the first error. Shapes: spec runtime-api 1.5, 1.6, 4.3, 4.7, 4.8.
"""

from __future__ import annotations

import os
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from caloric import log_sink
from caloric._rust import encode_json
from caloric.errors import InitializationError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ErrorReport", "report_exception", "report_fault", "report_initialization_error"]

# Above this the classic Runtime API may drop the connection without an answer; our choice (spec 1.5).
_MAX_DOCUMENT = 256 * 1024
# The platform's own limit for X-Ray's cause, after which it crops.
_MAX_XRAY_CAUSE = 64 * 1024
_OWN_FOLDER = os.path.dirname(__file__)

Frame = tuple[str, int, str, str | None]


class ErrorReport(NamedTuple):
    """What is posted: the document's bytes, `Category.Reason` or the class name, X-Ray's cause as ASCII JSON."""

    body: bytes
    error_type: str
    xray_cause: str


def report_exception(error: BaseException, request_id: str) -> ErrorReport:
    """Log what a handler raised and return what is to be posted."""
    frames = _frames(error.__traceback__)
    error_type = type(error).__name__
    message = _message(error)
    return _report(message, error_type, request_id, traceback.format_list(frames), error_type, frames)


def report_fault(error_type: str, message: str, request_id: str) -> ErrorReport:
    """Log a `Runtime.*` fault of an invocation and return what is to be posted. It has no stack trace."""
    return _report(message, error_type, request_id, [], "LambdaValidationError", [])


def report_initialization_error(error: BaseException) -> ErrorReport:
    """Log why the handler could not be loaded and return what is to be posted. Its request id is empty."""
    import logging

    logging.warning(
        "LAMBDA_WARNING: Unhandled exception. The handler could not be loaded, so Lambda is told that "
        "initialization failed and this process ends; the same error is the answer to the invocation that "
        "waits. What changes between runtime versions is listed at "
        "https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html\r"
    )
    if isinstance(error, InitializationError):
        return _report(str(error), error.error_type, "", error.stack_trace, error.error_type, [])
    frames = _frames(error.__traceback__)
    error_type = type(error).__name__
    return _report(_message(error), error_type, "", traceback.format_list(frames), error_type, frames)


def _report(
    message: str,
    error_type: str,
    request_id: str,
    stack_trace: list[str],
    xray_type: str,
    frames: list[Frame],
) -> ErrorReport:
    document = {
        "errorMessage": message,
        "errorType": error_type,
        "requestId": request_id,
        "stackTrace": stack_trace,
    }
    try:
        _log(document)
    except (OSError, ValueError):
        # A closed stream, say: the error is reported all the same.
        pass
    return ErrorReport(_encode_document(document), error_type, _xray_cause(xray_type, message, frames))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"<exception str() failed: {type(failure).__name__}>"


def _frames(trace: TracebackType | None) -> list[Frame]:
    """The traceback without the runtime's own frames at its beginning."""
    frames: list[Frame] = []
    for frame in traceback.extract_tb(trace):
        if frames or os.path.dirname(frame.filename) != _OWN_FOLDER:
            frames.append((frame.filename, frame.lineno or 0, frame.name, frame.line))
    return frames


def _encode_document(document: dict[str, Any]) -> bytes:
    body = encode_json(document)
    if len(body) > _MAX_DOCUMENT:
        # Deep recursion or a message that quotes its input: the ends tell the most.
        stack_trace = document["stackTrace"]
        if len(stack_trace) > 40:
            cut = f"  [{len(stack_trace) - 40} more frames]\n"
            stack_trace = [*stack_trace[:20], cut, *stack_trace[-20:]]
        document = {
            **document,
            "errorMessage": _crop(document["errorMessage"], _MAX_DOCUMENT // 16),
            "stackTrace": [_crop(entry, _MAX_DOCUMENT // 1024) for entry in stack_trace],
        }
        body = encode_json(document)
    return body


def _crop(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... [{len(text) - limit} more characters]"


def _xray_cause(error_type: str, message: str, frames: list[Frame]) -> str:
    try:
        folder = os.getcwd()
    except OSError:
        folder = ""
    paths = list(dict.fromkeys(filename for filename, *_ in frames))
    stack = [{"label": name, "path": filename, "line": line} for filename, line, name, _ in frames]
    for kept in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0):
        # The outermost and the innermost frames tell the most.
        count = int(len(stack) * kept)
        half = count // 2
        cause = {
            "working_directory": _crop(folder, 4096),
            "exceptions": [
                {
                    "message": message if kept == 1.0 else _crop(message, 2048),
                    "type": error_type,
                    "stack": stack if kept == 1.0 else stack[: count - half] + stack[len(stack) - half :],
                }
            ],
            "paths": paths if kept else [],
        }
        text = _ascii(encode_json(cause).decode())
        if len(text) <= _MAX_XRAY_CAUSE:
            return text
    return ""


def _ascii(text: str) -> str:
    """JSON text whose every character is legal in a header: escaped where it is not ASCII, or DEL."""
    if text.isascii() and "\x7f" not in text:
        return text
    units = text.encode("utf-16-be", "surrogatepass")
    codes = (units[i] << 8 | units[i + 1] for i in range(0, len(units), 2))
    return "".join(chr(code) if code < 0x7F else f"\\u{code:04x}" for code in codes)


def _log(document: dict[str, Any]) -> None:
    sink = log_sink.log_sink
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON":
        timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = encode_json({"timestamp": timestamp, "level": "ERROR", **document}).decode()
        sink.log(line if sink.framed else line + "\n", "ERROR", json=True)
        return
    head = ": ".join(part for part in (document["errorType"], document["errorMessage"]) if part)
    lines = [f"[ERROR] {head}", "Traceback (most recent call last):"]
    for entry in document["stackTrace"]:
        lines += [_unbreakable(line) for line in entry.splitlines()] or [""]
    # A carriage return keeps the lines one record in CloudWatch; a frame needs no such trick.
    sink.log("\n".join(lines) if sink.framed else "\r".join(lines) + "\n", "ERROR")


def _unbreakable(line: str) -> str:
    """Leading blanks as no-break spaces, which CloudWatch does not trim."""
    text = line.lstrip(" ")
    return "\u00a0" * (len(line) - len(text)) + text
