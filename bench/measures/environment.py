"""What an environment costs between invocations: freezing its processes and letting them go on, by each means.

Invocations come back to back, where nothing is frozen and freezing must cost nothing, and 20 ms apart, where each finds
the environment frozen. The runtime is alone, or has seven children that wait.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from bench import goals
from bench.contest import Contestant, WrongAnswerError
from bench.placement import RUNTIME_CPU, endpoint_on
from bench.runtimes import Session, fast
from caloric._rust import ExecutionEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.layout import Layout
    from bench.runtimes import Runtime

GAP_S = 0.02
CHILDREN = {"": 0, "_8": 7}
"""By the suffix of the metrics: with them there are eight processes."""


class Freezing(Contestant):
    """Invocations of one process, and of one with seven children, with one means of freezing or none."""

    def __init__(self, name: str, runtime: Runtime, count: int) -> None:
        super().__init__(name)
        self._runtime = runtime
        self._count = count
        self._sessions: dict[str, Session] = {}

    def check(self) -> None:
        frozen = self.name != goals.NOT_FROZEN
        settings = {"freezer": self.name} if frozen else {"freeze": False}
        for suffix, children in CHILDREN.items():
            session = self._sessions[suffix] = Session(self._runtime, "family.handler", **settings)
            self._invoke(suffix)
            session.pin()
            for _ in range(3):
                time.sleep(GAP_S)
                self._invoke(suffix)
            time.sleep(10 * GAP_S)
            expected = children + 1 if frozen else 0
            if (found := session.frozen()) != expected:
                raise WrongAnswerError(f"{found} processes are frozen after an invocation, not {expected}")

    def sample(self) -> Mapping[str, Sequence[float]]:
        samples: dict[str, Sequence[float]] = {}
        # On one CPU: on two, how deep the other one sleeps after a gap is most of the time.
        with endpoint_on(RUNTIME_CPU):
            for suffix in CHILDREN:
                self._invoke(suffix)
                if not suffix:
                    samples["freeze_back_to_back"] = [
                        self._invoke(suffix) / 1e3 for _ in range(20 * self._count)
                    ]
                times = []
                cpu_before = time.process_time_ns()
                for _ in range(self._count):
                    time.sleep(GAP_S)
                    times.append(self._invoke(suffix) / 1e3)
                cpu = (time.process_time_ns() - cpu_before) / 1e3 / self._count
                samples[f"freeze_gap{suffix}"] = times
                samples[f"freeze_cpu{suffix}"] = [cpu]
        return samples

    def _invoke(self, suffix: str) -> int:
        """Return how long the caller waits, in ns."""
        children = CHILDREN[suffix]
        event = json.dumps({"children": children}).encode()
        start = time.perf_counter_ns()
        self._sessions[suffix].expect(event, children)
        return time.perf_counter_ns() - start

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()


def freezing(layout: Layout, count: int) -> list[Contestant]:
    """All means that this process may use; the others have no line in the tables."""
    return [
        Freezing(name, fast(layout), count) for name in (goals.NOT_FROZEN, *filter(_usable, goals.FREEZERS))
    ]


def _usable(freezer: str) -> bool:
    try:
        ExecutionEnvironment(freezer=freezer).close()
    except ValueError:
        return False
    return True
