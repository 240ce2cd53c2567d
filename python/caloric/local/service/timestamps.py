"""Points in time as the API writes them (spec lambda-service 0.3)."""

from __future__ import annotations

import time

__all__ = ["timestamp"]


def timestamp(seconds: float | None = None, *, milliseconds: bool = True) -> str:
    """Return a point in time, now by default, as members of the shape `Timestamp` have it, in UTC.

    `2026-09-15T11:53:23.648+0000`, and without `milliseconds` `2026-09-15T11:53:23+0000`.
    """
    at = round((time.time() if seconds is None else seconds) * 1000)
    fraction = f".{at % 1000:03}" if milliseconds else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000)) + f"{fraction}+0000"
