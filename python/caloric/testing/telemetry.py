"""What happened in a function's environments: telemetry, what extensions were told, shutdowns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ExtensionEvent", "Recording", "TelemetryEvent"]

_EXTENSION_EVENT = "caloric.extensionEvent"
_SHUTDOWN = "caloric.shutdown"


@dataclass(frozen=True)
class TelemetryEvent:
    """An event of the Telemetry API, schema 2025-01-29, as a subscriber to all streams would have got it."""

    time: str
    """ISO 8601, UTC."""
    type: str
    """For example `platform.report`, or `function` for a line of the function's log."""
    record: Any
    """A dict for platform events, mostly a str for log lines (spec extensions-telemetry 2.5)."""


@dataclass(frozen=True)
class ExtensionEvent:
    """An event that an extension fetched."""

    extension: str
    """The extension's name."""
    type: str
    """`INVOKE` or `SHUTDOWN`."""
    event: dict[str, Any]
    """The whole event: `deadlineMs`, and `requestId` or `shutdownReason` among others."""


class Recording:
    """What a function's environments have told so far, in order."""

    def __init__(self) -> None:
        self.events: list[TelemetryEvent] = []
        self.extension_events: list[ExtensionEvent] = []
        self.shutdown_reasons: list[str] = []

    def add(self, documents: Iterable[str]) -> None:
        """Take in what `ExecutionEnvironment.take_telemetry` returned."""
        for document in documents:
            entry = json.loads(document)
            record = entry["record"]
            if entry["type"] == _EXTENSION_EVENT:
                event = record["event"]
                self.extension_events.append(ExtensionEvent(record["name"], event["eventType"], event))
            elif entry["type"] == _SHUTDOWN:
                self.shutdown_reasons.append(record["reason"])
            else:
                self.events.append(TelemetryEvent(entry["time"], entry["type"], record))
