"""Warm invocations through our endpoint: cycle, latency and CPU time at 54 bytes, echoes of larger
documents, memory.

Every contestant's process stays up for the whole contest and waits in its `GET /next` while others have
their turn.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

from bench.codec.payloads import body
from bench.contest import Contestant, WrongAnswerError
from bench.layout import CACHE, FLOORS
from bench.placement import ENDPOINT_CPU, RUNTIME_CPU, endpoint_on, pin
from bench.runtimes import (
    Session,
    cpu_time_ns,
    ours,
    peers,
    production,
    python_floor,
    resident_memory_mb,
    rust_floor,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.layout import Layout
    from bench.runtimes import Runtime

# An event of 54 bytes, in the shape of the console's test event.
SMALL_EVENT = b'{"key1": "value1", "key2": "value2", "key3": "value3"}'
DOCUMENTS = {"echo_80_kb": "records_80_kb", "echo_4_9_mb": "records_4_9_mb"}


class Running(Contestant):
    """A contestant with one process for the whole contest."""

    def __init__(self, runtime: Runtime, handler: str) -> None:
        super().__init__(runtime.name)
        self._runtime = runtime
        self._handler = handler
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The running process; started when it is first asked for."""
        if self._session is None:
            self._session = Session(self._runtime, self._handler)
        return self._session

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


class SmallEvents(Running):
    """Cycles, then latencies, with the echo handler and the 54-byte event."""

    def __init__(self, runtime: Runtime, count: int) -> None:
        super().__init__(runtime, "echo.handler")
        self._count = count

    def check(self) -> None:
        self.session.expect(SMALL_EVENT, json.loads(SMALL_EVENT))
        self.session.pin()
        self.session.cycles(SMALL_EVENT, self._count)
        self.session.expect(SMALL_EVENT, json.loads(SMALL_EVENT))

    def sample(self) -> Mapping[str, Sequence[float]]:
        with endpoint_on(ENDPOINT_CPU):
            cycles, cpu = self._cycles()
            expected = json.loads(SMALL_EVENT)
            latencies = [self.session.expect(SMALL_EVENT, expected) * 1e3 for _ in range(self._count // 10)]
        with endpoint_on(RUNTIME_CPU):
            cycles_on_one, cpu_on_one = self._cycles()
        return {
            "cycle": cycles,
            "cycle_one_cpu": cycles_on_one,
            "latency": latencies,
            "cpu": [cpu],
            "cpu_one_cpu": [cpu_on_one],
        }

    def _cycles(self) -> tuple[list[float], float]:
        """Return the time of every cycle, and the CPU time of one, in µs."""
        # As many as are timed: the last one's turn can still be seen in the first hundred.
        self.session.cycles(SMALL_EVENT, self._count)
        cpu_before = cpu_time_ns(self.session.pid)
        cycles = self.session.cycles(SMALL_EVENT, self._count)
        cpu = cpu_time_ns(self.session.pid) - cpu_before
        return [nanoseconds / 1e3 for nanoseconds in cycles], cpu / 1e3 / (self._count + 1)


class Echo(Running):
    """Cycles with the echo handler and a large document."""

    def __init__(self, metric: str, runtime: Runtime, count: int) -> None:
        super().__init__(runtime, "echo.handler")
        self._metric = metric
        self._count = count
        self._event = body(DOCUMENTS[metric])

    def check(self) -> None:
        self.session.expect(self._event, json.loads(self._event))
        self.session.pin()
        self.session.cycles(self._event, 1)

    def sample(self) -> Mapping[str, Sequence[float]]:
        with endpoint_on(ENDPOINT_CPU):
            cycles = self.session.cycles(self._event, self._count)
        return {self._metric: [nanoseconds / 1e6 for nanoseconds in cycles]}


class EchoFloor(Echo):
    """`orjson.loads` and `orjson.dumps` in a process of their own, plus one bare cycle by the Rust client."""

    def __init__(self, metric: str, layout: Layout, count: int) -> None:
        super().__init__(metric, rust_floor(layout), count)
        CACHE.mkdir(parents=True, exist_ok=True)
        document = CACHE / f"{DOCUMENTS[metric]}.json"
        document.write_bytes(self._event)
        self._orjson = subprocess.Popen(
            [layout.default.python, "-I", str(FLOORS / "orjson_round_trip.py"), str(document)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def check(self) -> None:
        super().check()
        pin(self._orjson.pid, RUNTIME_CPU)
        self._round_trips(1)

    def sample(self) -> Mapping[str, Sequence[float]]:
        cycles = super().sample()[self._metric]
        return {
            self._metric: [sum(pair) for pair in zip(cycles, self._round_trips(self._count), strict=True)]
        }

    def _round_trips(self, count: int) -> list[float]:
        assert self._orjson.stdin is not None
        assert self._orjson.stdout is not None
        try:
            self._orjson.stdin.write(f"{count}\n")
            self._orjson.stdin.flush()
        except BrokenPipeError:
            raise WrongAnswerError("orjson_round_trip.py has ended; its message is above") from None
        times = [int(word) / 1e6 for word in self._orjson.stdout.readline().split()]
        if len(times) != count:
            raise WrongAnswerError("orjson_round_trip.py has ended; its message is above")
        return times

    def close(self) -> None:
        super().close()
        self._orjson.kill()
        self._orjson.communicate()


class Memory(Contestant):
    """A new process per round, measured after its thousandth invocation."""

    invocations = 1000

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime.name)
        self._runtime = runtime

    def check(self) -> None:
        session = Session(self._runtime, "hello.handler")
        try:
            session.expect(SMALL_EVENT, "hello")
        finally:
            session.close()

    def sample(self) -> Mapping[str, Sequence[float]]:
        session = Session(self._runtime, "hello.handler")
        try:
            session.cycles(SMALL_EVENT, self.invocations - 1)
            time.sleep(0.1)  # back in /next, and done with what it does after a response
            return {"memory": [resident_memory_mb(session.pid)]}
        finally:
            session.close()


def small_events(layout: Layout, count: int) -> list[Contestant]:
    """Cycle, latency and CPU."""
    return [SmallEvents(runtime, count) for runtime in (rust_floor(layout), *peers(layout), *ours(layout))]


def echoes(metric: str, layout: Layout, count: int) -> list[Contestant]:
    """The echo of one document."""
    return [
        EchoFloor(metric, layout, count),
        *(Echo(metric, runtime, count) for runtime in (*peers(layout), *ours(layout))),
    ]


def memory(layout: Layout) -> list[Contestant]:
    """Idle memory."""
    return [
        Memory(runtime)
        for runtime in (python_floor(layout), *peers(layout), *ours(layout), *production(layout))
    ]
