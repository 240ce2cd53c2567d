"""Test a Lambda function against the real protocol: with pytest, which finds the fixtures by itself, or without.

Nothing is imported before it is asked for: pytest loads this package in every run of every project it is installed for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from caloric._rust import VirtualClock
    from caloric.testing.function import Invocation, LambdaFunction, LambdaFunctionError
    from caloric.testing.processes import ProcessInfo
    from caloric.testing.result import FunctionError, FunctionFailedError, InvocationResult, Report
    from caloric.testing.stream import InvocationStream
    from caloric.testing.telemetry import ExtensionEvent, TelemetryEvent

__all__ = [
    "ExtensionEvent",
    "FunctionError",
    "FunctionFailedError",
    "Invocation",
    "InvocationResult",
    "InvocationStream",
    "LambdaFunction",
    "LambdaFunctionError",
    "ProcessInfo",
    "Report",
    "TelemetryEvent",
    "VirtualClock",
]

_HOME = {
    "ExtensionEvent": "caloric.testing.telemetry",
    "FunctionError": "caloric.testing.result",
    "FunctionFailedError": "caloric.testing.result",
    "Invocation": "caloric.testing.function",
    "InvocationResult": "caloric.testing.result",
    "InvocationStream": "caloric.testing.stream",
    "LambdaFunction": "caloric.testing.function",
    "LambdaFunctionError": "caloric.testing.function",
    "ProcessInfo": "caloric.testing.processes",
    "Report": "caloric.testing.result",
    "TelemetryEvent": "caloric.testing.telemetry",
    "VirtualClock": "caloric._rust",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
