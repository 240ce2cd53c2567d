"""Exceptions that Caloric raises.

Error
├── ExtensionError     an extension wants the environment to fail; carries the type that is reported
├── InitializationError    the handler cannot be loaded; carries the `Runtime.*` type that is reported
├── MarshalError       what is to be sent has no form in JSON
├── RuntimeApiError    the Runtime API is gone, failed, or does not speak its protocol
└── StreamClosedError    what is written to a response stream that is over
"""

from __future__ import annotations

__all__ = [
    "Error",
    "ExtensionError",
    "InitializationError",
    "MarshalError",
    "RuntimeApiError",
    "StreamClosedError",
]


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


class ExtensionError(Error):
    """Raised in a callback of an extension to end it: the environment fails with it (spec extensions-telemetry 1.4).

    `error_type` is `Extension.` and a reason in letters, such as `Extension.NoConfiguration`. Raises `ValueError` for
    another one, of which the platform would keep nothing.
    """

    def __init__(self, error_type: str, message: str = "") -> None:
        category, _, reason = error_type.partition(".")
        if category != "Extension" or not (reason.isascii() and reason.isalpha() and reason[0].isupper()):
            raise ValueError(
                f"{error_type!r} is no error type of an extension, such as Extension.NoConfiguration"
            )
        super().__init__(message or error_type)
        self.error_type = error_type


class MarshalError(Error):
    """A result, or a piece of a stream, has no form in JSON. Where nobody catches it the error is
    `Runtime.MarshalError`, with the same message.
    """


class StreamClosedError(Error):
    """A response stream takes no more: it was closed, or the platform has what it wants, or allows, of it."""
