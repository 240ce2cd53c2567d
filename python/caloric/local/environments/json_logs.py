"""What a function with the JSON log format has in its log stream (spec lambda-service 2.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["stream_text"]

_LEVELS = ("DEBUG", "INFO", "WARN")

_INFO = frozenset(
    (
        "platform.start",
        "platform.report",
        "platform.extension",
        "platform.logsSubscription",
        "platform.logSubscription",
        "platform.telemetrySubscription",
        "platform.restoreReport",
    )
)
_INFO_WITH_VERSION = frozenset(("platform.initStart", "platform.restoreStart"))


def stream_text(events: Iterable[str], system_log_level: str | None) -> bytes:
    """Return what of the environment's telemetry is written to its stream.

    `events` are those of `ExecutionEnvironment.take_telemetry`, of an environment with `json_logs`. Lines of the
    function and of extensions are written as they came; the runtime has filtered the function's own by level. The
    platform's are written as JSON, from `system_log_level` on (`DEBUG`, `INFO` or `WARN`; by default `INFO`).
    """
    least = _LEVELS.index(system_log_level or "INFO")
    written = bytearray()
    for event in events:
        document = orjson.loads(event)
        kind, record = document["type"], document["record"]
        if kind in ("function", "extension"):
            line = record.encode() if isinstance(record, str) else orjson.dumps(record)
            written += line if line.endswith(b"\n") else line + b"\n"
        elif kind.startswith("platform.") and _LEVELS.index(_level(kind, record)) >= least:
            written += event.encode() + b"\n"
    return bytes(written)


def _level(kind: str, record: dict[str, Any]) -> str:
    if kind == "platform.logsDropped" or record.get("status", "success") != "success":
        return "WARN"
    if kind == "platform.initReport":
        return "DEBUG" if record.get("initializationType") == "on-demand" else "INFO"
    if kind in _INFO_WITH_VERSION:
        return "INFO" if record.get("runtimeVersion") else "DEBUG"
    if kind == "platform.extension" and record.get("errorType"):
        return "WARN"
    return "INFO" if kind in _INFO else "DEBUG"
