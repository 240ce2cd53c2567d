"""Logging as Lambda sets it up: one handler on the root logger (spec runtime-api 4.8 to 4.10).

Imported when user code imports `logging`, never before: at a cold start that would double the time.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from caloric.log_sink import FramedLogSink, StandardLogSink, log_sink

if TYPE_CHECKING:
    from caloric._rust import RuntimeClient

__all__ = ["JsonFormatter", "LambdaLoggerHandler", "configure", "json_format"]

_TEXT_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
# What every record has; the rest came with `extra` and belongs into a JSON line.
_STANDARD_ATTRIBUTES = frozenset(
    "args aws_request_id created exc_info exc_text filename funcName levelname levelno lineno module msecs msg name "
    "pathname process processName relativeCreated stack_info tenant_id thread threadName".split()
)


def json_format() -> bool:
    """Whether `AWS_LAMBDA_LOG_FORMAT` asks for JSON."""
    return os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"


def _level() -> str:
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "")
    # TRACE only when written so: AWS's own list of names is in capitals.
    return "DEBUG" if level == "TRACE" else level.upper()


def configure(client: RuntimeClient) -> None:
    """Install the root handler; its records carry the ids of `client`'s invocation."""
    # Times are UTC for the whole process, also in formatters that user code makes.
    logging.Formatter.converter = time.gmtime
    level = _level()
    in_json = json_format()
    handler = LambdaLoggerHandler(log_sink, with_level=in_json or bool(level))
    handler.setFormatter(JsonFormatter() if in_json else logging.Formatter(_TEXT_FORMAT, "%Y-%m-%dT%H:%M:%S"))

    def add_ids(record: logging.LogRecord) -> bool:
        record.aws_request_id = client.aws_request_id or ""
        record.tenant_id = client.tenant_id
        return True

    handler.addFilter(add_ids)
    root = logging.getLogger()
    if isinstance(logging.getLevelName(level), int):
        root.setLevel(level)
    root.addHandler(handler)


def _level_name(record: logging.LogRecord) -> str:
    """The record's level, rounded down to one that `logging` itself defines."""
    return str(logging.getLevelName(min(50, max(0, record.levelno)) // 10 * 10))


class LambdaLoggerHandler(logging.Handler):
    """Writes records to the log sink."""

    def __init__(self, log_sink: StandardLogSink | FramedLogSink, *, with_level: bool) -> None:
        super().__init__()
        self.log_sink = log_sink
        self._with_level = with_level

    def emit(self, record: logging.LogRecord) -> None:
        """Format and write `record`."""
        in_json = isinstance(self.formatter, JsonFormatter)
        level = _level_name(record) if self._with_level else ""
        self.log_sink.log(self.format(record), level, json=in_json)


class JsonFormatter(logging.Formatter):
    """One JSON object per record, with the fields of spec runtime-api 4.10, in that order."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`, its line end included."""
        import json

        # Later handlers see the rounded level too, as with the peer.
        record.levelname = _level_name(record)
        record.levelno = min(50, max(0, record.levelno)) // 10 * 10
        as_object = isinstance(record.msg, dict) and not record.args
        line: dict[str, Any] = {
            "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname,
            "message": record.msg if as_object else record.getMessage(),
            "logger": record.name,
            **self._exception(record),
            "requestId": getattr(record, "aws_request_id", None),
            "location": f"{record.pathname}:{record.funcName}:{record.lineno}" if record.exc_info else None,
            "tenantId": getattr(record, "tenant_id", None),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD_ATTRIBUTES:
                line.setdefault(name, value)
        present = {name: value for name, value in line.items() if value is not None}
        return json.dumps(present, ensure_ascii=False, default=str) + "\n"

    @staticmethod
    def _exception(record: logging.LogRecord) -> dict[str, Any]:
        if not record.exc_info:
            return {}
        import traceback

        kind, value, trace = record.exc_info
        return {
            "stackTrace": traceback.format_tb(trace),
            "errorType": None if kind is None else kind.__name__,
            "errorMessage": None if value is None else str(value),
        }
