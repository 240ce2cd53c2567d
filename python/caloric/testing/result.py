"""What comes of an invocation: payload or error, logs, report, timings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caloric._rust import decode_json

if TYPE_CHECKING:
    from caloric._rust import InvokeResult

__all__ = ["FunctionError", "FunctionFailedError", "InvocationResult", "Report"]

_MISSING = object()


class FunctionFailedError(Exception):
    """A function failed where a test wanted its result.

    The text has the error with its stack trace, and the function's log. `result` is the whole result.
    """

    def __init__(self, message: str, result: InvocationResult) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class FunctionError:
    """The error document of a failed invocation (spec runtime-api 1.5)."""

    type: str
    """`errorType`: the exception's class name, or one of the platform's, as `Sandbox.Timedout`."""
    message: str
    """`errorMessage`."""
    stack_trace: list[str]
    """`stackTrace`, one entry per frame, the handler's first; empty for the platform's errors."""
    document: dict[str, Any]
    """The whole document, which other runtimes may fill as they like."""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.type else self.message


@dataclass(frozen=True)
class Report:
    """The figures of the REPORT line. Durations are in milliseconds, memory is in MB."""

    duration_ms: float
    billed_duration_ms: int
    memory_size_mb: int
    max_memory_used_mb: int
    init_duration_ms: float | None
    """Of the first invocation after an init."""
    restore_duration_ms: float | None
    """Of the first invocation after a restore (SnapStart)."""
    line: str
    """The line itself, or "" where the platform wrote none."""


class InvocationResult:
    """A finished invocation. One that failed is a result, too: see `error` and `raise_for_error`."""

    def __init__(
        self,
        finished: InvokeResult,
        *,
        function: str,
        memory_size_mb: int,
        hint: str = "",
        exception: BaseException | None = None,
        streamed: bool = False,
    ) -> None:
        self._finished = finished
        self._streamed = streamed
        self._function = function
        self._hint = hint
        self._payload: object = _MISSING
        self.request_id: str = finished.request_id
        """The invocation's id."""
        self.status: str = finished.status
        """`"success"`, `"error"` or `"timeout"`, as the platform sees it.

        A runtime that dies or takes too long after a good answer has a payload and another status than success.
        """
        self.error: FunctionError | None = None if finished.function_error is None else _error_of(finished)
        """What went wrong, or None."""
        self.exception: BaseException | None = exception
        """What the handler raised, itself: with `in_process` only."""
        self.raw_payload: bytes = finished.payload
        """What the caller got, byte for byte: the function's result, or the error document.

        Without what `LambdaFunction.stream` has streamed.
        """
        self.content_type: str = finished.content_type
        """What the runtime said that the payload is."""
        self.executed_version: str = finished.executed_version
        """The version that ran: `$LATEST`, or `1` with SnapStart."""
        self.timings: dict[str, float] = dict(finished.phases)
        """Milliseconds of each part that took place (see `caloric._rust.InvokeResult.phases`)."""
        self.cold_start: bool = (
            finished.init_duration_ms is not None
            or "process_start_ms" in self.timings
            or finished.restore_duration_ms is not None
        )
        """Whether this was the first invocation of a process."""
        self.log: str = finished.log.decode(errors="replace")
        """The whole log as CloudWatch would have it: the function's lines and those of the platform.

        On a cold start that of init comes first.
        """
        function_lines, platform_lines = _split(self.log, finished.request_id)
        self.logs: str = "".join(function_lines)
        """What the function wrote to stdout and stderr, init included on a cold start."""
        self.platform_logs: str = "".join(platform_lines)
        """The lines of the platform: START, END, REPORT and the like."""
        self.extension_logs: str = finished.extension_log.decode(errors="replace")
        """What external extensions printed meanwhile, `[name]` before each line."""
        lines = [line.rstrip("\n") for line in platform_lines if line.startswith("REPORT ")]
        self.report = Report(
            duration_ms=finished.duration_ms,
            billed_duration_ms=finished.billed_duration_ms,
            memory_size_mb=memory_size_mb,
            max_memory_used_mb=finished.max_memory_used_mb,
            init_duration_ms=finished.init_duration_ms,
            restore_duration_ms=finished.restore_duration_ms,
            line=lines[-1] if lines else "",
        )
        """The figures of the REPORT line."""

    @property
    def log_lines(self) -> list[str]:
        """The lines of `logs`, without their ends."""
        return self.logs.splitlines()

    @property
    def payload(self) -> Any:
        """What the function returned, decoded from JSON.

        Raises `FunctionFailedError` if the function failed, since there is none then (`error` has what went wrong, and
        `raw_payload` what the caller got), and `ValueError` if the payload is no JSON, or was streamed.
        """
        __tracebackhide__ = True
        self.raise_for_error()
        if self._streamed:
            raise ValueError(f"{self._function} streamed its response: the stream's pieces have it")
        if self._payload is _MISSING:
            try:
                self._payload = decode_json(self.raw_payload)
            except ValueError as error:
                raise ValueError(
                    f"{self._function} returned {len(self.raw_payload)} bytes ({self.content_type}) that are no JSON: "
                    f"{error}; raw_payload has them"
                ) from None
        return self._payload

    def raise_for_error(self) -> InvocationResult:
        """Return the result itself, or raise `FunctionFailedError` if the function failed."""
        __tracebackhide__ = True
        if self.error is not None:
            raise FunctionFailedError(self._failure(self.error), self) from self.exception
        return self

    def _failure(self, error: FunctionError) -> str:
        parts = [f"{self._function} failed: {error}"]
        if error.stack_trace:
            parts.append(
                "".join(entry if entry.endswith("\n") else f"{entry}\n" for entry in error.stack_trace)
            )
        if self._hint:
            parts.append(self._hint)
        if self.logs:
            parts.append("The function's log:\n" + "".join(f"  {line}\n" for line in self.log_lines))
        return "\n".join(part.rstrip("\n") for part in parts)

    def __repr__(self) -> str:
        temperature = "cold" if self.cold_start else "warm"
        outcome = f"{self.error}" if self.error is not None else _shortened(self.raw_payload)
        status = "" if self.status == ("success" if self.error is None else "error") else f" {self.status}"
        how = f"{status}, {temperature}, {self.report.duration_ms:.1f} ms"
        return f"<InvocationResult of {self._function}{how}: {outcome}>"


def _shortened(payload: bytes) -> str:
    text = payload.decode(errors="backslashreplace")
    return text if len(text) <= 200 else f"{text[:200]}… ({len(payload)} bytes)"


def _error_of(finished: InvokeResult) -> FunctionError:
    document: Any
    try:
        document = decode_json(finished.payload)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        # A foreign runtime may post anything.
        text = finished.payload.decode(errors="backslashreplace")
        document = {"errorType": finished.error_type or "", "errorMessage": text}
    trace = document.get("stackTrace")
    return FunctionError(
        type=str(document.get("errorType") or finished.error_type or ""),
        message=str(document.get("errorMessage") or ""),
        stack_trace=[str(entry) for entry in trace] if isinstance(trace, list) else [],
        document=document,
    )


# The lines of rust/endpoint/src/platform_log.rs. Some name their invocation.
_PLATFORM_LINE = re.compile(
    r"(?:(?:START|END|REPORT) RequestId: (?P<id>\S+)"
    r"|INIT_REPORT Init Duration: |RESTORE_START Runtime Version: |RESTORE_REPORT Restore Duration: "
    r"|(?:EXTENSION|TELEMETRY|LOGS)\tName: [^\t\n]*\tState: )"
)


def _split(log: str, request_id: str) -> tuple[list[str], list[str]]:
    """Return the lines of the function and those of the platform, with their ends."""
    function: list[str] = []
    platform: list[str] = []
    # Not splitlines(): an error's record is one line with carriage returns in it.
    for line in re.findall(r"[^\n]*\n|[^\n]+", log):
        match = _PLATFORM_LINE.match(line)
        ours = match is not None and match["id"] in (None, request_id)
        (platform if ours else function).append(line)
    return function, platform
