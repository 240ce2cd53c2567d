"""Exceptions that Caloric raises.

Error
├── RuntimeApiError    the Runtime API is gone, failed, or does not speak its protocol
└── InitializationError    the handler cannot be loaded; carries the `Runtime.*` type that is reported
"""

from __future__ import annotations

__all__ = ["Error", "InitializationError", "RuntimeApiError"]


class Error(Exception):
    """Any failure that Caloric itself raises."""


class RuntimeApiError(Error):
    """A call of the Runtime API failed; the message names the call and what came back.

    The process is to end: Lambda starts a new one (spec runtime-api 1.7).
    """


class InitializationError(Error):
    """The handler cannot be loaded.

    `error_type` is AWS's name for the failure, such as `Runtime.ImportModuleError`; `stack_trace` the lines that are
    reported with it (spec runtime-api 4.3).
    """

    def __init__(self, error_type: str, message: str, stack_trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.stack_trace = stack_trace or []
