"""A handler that writes one record with `logging` in each invocation, in both formats: its start and its cycle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench.measures.cycle import SMALL_EVENT, Running
from bench.measures.start import Start
from bench.placement import ENDPOINT_CPU, RUNTIME_CPU, endpoint_on
from bench.runtimes import ours, peers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.contest import Contestant
    from bench.layout import Layout
    from bench.runtimes import Runtime

HANDLER = "logs.handler"
ANSWER = "logged"
FORMATS = ("text", "json")


class Records(Running):
    """Cycles with the 54-byte event and a record in each."""

    def __init__(self, log_format: str, runtime: Runtime, count: int) -> None:
        super().__init__(runtime, HANDLER)
        self._metric = f"log_{log_format}"
        self._count = count

    def check(self) -> None:
        self.session.expect(SMALL_EVENT, ANSWER, logs="event with 3 keys")
        self.session.pin()
        self.session.cycles(SMALL_EVENT, self._count)

    def sample(self) -> Mapping[str, Sequence[float]]:
        return {
            self._metric: self._cycles(ENDPOINT_CPU),
            f"{self._metric}_one_cpu": self._cycles(RUNTIME_CPU),
        }

    def _cycles(self, cpu: int) -> list[float]:
        with endpoint_on(cpu):
            self.session.cycles(SMALL_EVENT, self._count)
            return [nanoseconds / 1e3 for nanoseconds in self.session.cycles(SMALL_EVENT, self._count)]


def _in_format(log_format: str, runtimes: list[Runtime]) -> list[Runtime]:
    variables = {"AWS_LAMBDA_LOG_FORMAT": log_format.upper(), "AWS_LAMBDA_LOG_LEVEL": "INFO"}
    return [replace(runtime, variables={**runtime.variables, **variables}) for runtime in runtimes]


def starts(log_format: str, layout: Layout) -> list[Contestant]:
    """The start of the function."""
    runtimes = _in_format(log_format, [*peers(layout), *ours(layout)])
    return [Start(f"start_log_{log_format}", runtime, HANDLER, ANSWER) for runtime in runtimes]


def records(log_format: str, layout: Layout, count: int) -> list[Contestant]:
    """Its cycle."""
    return [
        Records(log_format, runtime, count)
        for runtime in _in_format(log_format, [*peers(layout), *ours(layout)])
    ]
