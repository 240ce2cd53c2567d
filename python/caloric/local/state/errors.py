"""What goes wrong with a data directory."""

from __future__ import annotations

__all__ = ["StateError"]


class StateError(Exception):
    """The data directory cannot be used, or not any longer; the message says why, and what to do."""
