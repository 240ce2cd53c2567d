"""Logging as Lambda sets it up: one handler on the root logger (spec runtime-api 4.8 to 4.10).

Imported when user code imports `logging`, never before: at a cold start that would double the time. It imports nothing
that `logging` has not loaded already.
"""

import logging
import time

from caloric import runtime
from caloric._rust import encode_log_record
from caloric.log_sink import FramedTelemetryLogSink, StandardLogSink, frame_type, in_json, log_sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from caloric._rust import RuntimeClient

__all__ = [
    "JsonFormatter",
    "LambdaLoggerFilter",
    "LambdaLoggerHandler",
    "LambdaLoggerHandlerWithFrameType",
    "configure",
]

_TEXT_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
_TEXT_TIME = "%Y-%m-%dT%H:%M:%S"
_JSON_TIME = "%Y-%m-%dT%H:%M:%SZ"
# By level, rounded down to one that `logging` itself defines.
_LEVELS = ("", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_TEXT_FRAMES = tuple(frame_type(level) for level in _LEVELS)
_JSON_FRAMES = tuple(frame_type(level, json=True) for level in _LEVELS)
# What every record has; the rest came with `extra` and belongs into a JSON line. (taskName, new in CPython 3.12, is an
# extra to the peer.) In the last line are fields that an extra never replaces, not even where they have no value.
_NO_EXTRA = frozenset(
    "_frame_type args aws_request_id created exc_info exc_text filename funcName levelname levelno lineno module msecs "
    "msg name pathname process processName relativeCreated stack_info tenant_id thread threadName "
    "stackTrace errorType errorMessage requestId location".split()
)


def configure(client: "RuntimeClient") -> None:
    """Install the root handler; its records carry the ids of `client`'s invocation."""
    # Times are UTC for the whole process, also in formatters that user code makes.
    logging.Formatter.converter = time.gmtime
    root = logging.getLogger()
    set_level(root)
    root.addHandler(root_handler(client))


def root_handler(client: "RuntimeClient") -> logging.Handler:
    """Return Lambda's handler; its records carry the ids of `client`'s invocation."""
    kind = LambdaLoggerHandlerWithFrameType if in_json() or _level_of_environment() else LambdaLoggerHandler
    handler = kind(log_sink)
    handler.setFormatter(JsonFormatter() if in_json() else logging.Formatter(_TEXT_FORMAT, _TEXT_TIME))
    handler.addFilter(LambdaLoggerFilter(client))
    return handler


def set_level(root: logging.Logger) -> None:
    """Set the level that `AWS_LAMBDA_LOG_LEVEL` asks for, where it names one."""
    level = _level_of_environment()
    # A name's number, or a text that says there is no such level.
    if isinstance(logging.getLevelName(level), int):
        root.setLevel(level)


def log_once(message: object, descriptor: int | None) -> None:
    """Log `message` at level DEBUG as a handler of `configure` would, to that log descriptor, or to standard output."""
    handler = LambdaLoggerHandlerWithFrameType(
        StandardLogSink() if descriptor is None else FramedTelemetryLogSink(descriptor)
    )
    handler.setFormatter(JsonFormatter() if in_json() else logging.Formatter(_TEXT_FORMAT, _TEXT_TIME))
    logging.Formatter.converter = time.gmtime
    record = logging.LogRecord("root", logging.DEBUG, __file__, 0, message, None, None)
    record.aws_request_id = ""
    handler.handle(record)


def _level_of_environment() -> str:
    level = runtime.log_level.decode(errors="surrogateescape")
    # TRACE only when written so: AWS's own list of names is in capitals.
    return "DEBUG" if level == "TRACE" else level.upper()


def _level_index(record: logging.LogRecord) -> int:
    return min(50, max(0, record.levelno)) // 10


class LambdaLoggerFilter(logging.Filter):
    """Adds the ids of the invocation at hand to a record, and lets all of them through."""

    def __init__(self, client: "RuntimeClient") -> None:
        super().__init__()
        self._client = client

    def filter(self, record: logging.LogRecord) -> bool:
        """Set `record.aws_request_id` ("" before the first invocation) and `record.tenant_id`."""
        record.aws_request_id = self._client.aws_request_id or ""
        record.tenant_id = self._client.tenant_id
        return True


class LambdaLoggerHandler(logging.Handler):
    """Writes records to the log sink, as plain text."""

    def __init__(self, log_sink: StandardLogSink | FramedTelemetryLogSink) -> None:
        super().__init__()
        self.log_sink = log_sink

    def emit(self, record: logging.LogRecord) -> None:
        """Format and write `record`."""
        self.log_sink.log(self.format(record))


class LambdaLoggerHandlerWithFrameType(LambdaLoggerHandler):
    """Writes records to the log sink with their level, and as JSON where the formatter made JSON of them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Format and write `record`."""
        line = self.format(record)
        frame = getattr(record, "_frame_type", None) or _TEXT_FRAMES[_level_index(record)]
        self.log_sink.log(line, frame)


class JsonFormatter(logging.Formatter):
    """One JSON object per record, with the fields of spec runtime-api 4.10, in that order."""

    def __init__(self) -> None:
        super().__init__(datefmt=_JSON_TIME)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`, its line end included."""
        # Later handlers see the rounded level too, as with the peer.
        level = _level_index(record)
        record.levelno = level * 10
        record.levelname = logging.getLevelName(level * 10)
        record._frame_type = _JSON_FRAMES[level]
        attributes = record.__dict__
        line: dict[str, Any] = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "message": record.msg
            if isinstance(record.msg, dict) and not record.args
            else record.getMessage(),
        }
        if record.name is not None:
            line["logger"] = record.name
        if record.exc_info:
            _add_exception(line, record.exc_info)
        request_id = attributes.get("aws_request_id")
        if request_id is not None:
            line["requestId"] = request_id
        if record.exc_info:
            line["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
        tenant_id = attributes.get("tenant_id")
        if tenant_id is not None:
            line["tenantId"] = tenant_id
        for name, value in attributes.items():
            if name not in _NO_EXTRA and value is not None:
                line.setdefault(name, value)
        return encode_log_record(line)


def _add_exception(line: "dict[str, Any]", exc_info: "tuple[Any, Any, Any]") -> None:
    import traceback

    kind, value, trace = exc_info
    line["stackTrace"] = traceback.format_tb(trace)
    # None is what exc_info=True finds outside of an except block. The peer then fails in the caller's face.
    if kind is not None:
        line["errorType"] = kind.__name__
        line["errorMessage"] = str(value)
