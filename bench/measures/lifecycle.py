"""What hooks and telemetry cost a warm invocation where they are used, beside the same where they are not."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from bench import goals
from bench.contest import Contestant, WrongAnswerError
from bench.measures.cycle import SMALL_EVENT
from bench.placement import ENDPOINT_CPU, RUNTIME_CPU, endpoint_on
from bench.runtimes import Session, fast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.layout import Layout
    from bench.runtimes import Runtime

PATIENCE_S = 10


class Cycles(Contestant):
    """Warm cycles of one handler, on two CPUs and on one."""

    def __init__(self, name: str, handler: str, runtime: Runtime, count: int) -> None:
        super().__init__(name)
        self._session = Session(runtime, handler)
        self._count = count

    def check(self) -> None:
        self._session.expect(SMALL_EVENT, json.loads(SMALL_EVENT))
        self._session.pin()
        self._session.cycles(SMALL_EVENT, self._count)

    def sample(self) -> Mapping[str, Sequence[float]]:
        samples = {}
        for metric, cpu in (("hooks", ENDPOINT_CPU), ("hooks_one_cpu", RUNTIME_CPU)):
            with endpoint_on(cpu):
                self._session.cycles(SMALL_EVENT, self._count)
                cycles = self._session.cycles(SMALL_EVENT, self._count)
                samples[metric] = [nanoseconds / 1e3 for nanoseconds in cycles]
        return samples

    def close(self) -> None:
        self._session.close()


def hooks(layout: Layout, count: int) -> list[Contestant]:
    """No hook, hooks around each invocation, a hook at the end."""
    runtime = fast(layout)
    return [
        Cycles(goals.NO_HOOKS, "echo.handler", runtime, count),
        Cycles(goals.HOOKS_AROUND, "hooks_around.handler", runtime, count),
        Cycles(goals.HOOK_AT_SHUTDOWN, "hook_at_shutdown.handler", runtime, count),
    ]


class Sink(BaseHTTPRequestHandler):
    """Accepts every batch, and counts the reports in it."""

    protocol_version = "HTTP/1.1"
    reports = 0

    def do_POST(self) -> None:
        batch = self.rfile.read(int(self.headers["Content-Length"]))
        Sink.reports += batch.count(b'"platform.report"')
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class Telemetry(Contestant):
    """Invocations with platform lines, their caller's wait, with a subscriber or without."""

    def __init__(self, name: str, runtime: Runtime, count: int) -> None:
        super().__init__(name)
        self._count = count
        self._sink: socketserver.ThreadingTCPServer | None = None
        port = ""
        if name == goals.SUBSCRIBED:
            self._sink = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sink)
            self._sink.daemon_threads = True
            port = str(self._sink.server_address[1])
            threading.Thread(target=self._sink.serve_forever, daemon=True).start()
        variables = {**runtime.variables, "SINK": port}
        # A frozen environment delivers nothing: what is to be seen is the work, not its delay.
        self._session = Session(replace(runtime, variables=variables), "telemetry.handler", freeze=False)

    def check(self) -> None:
        self.sample()
        self._session.pin()
        if self._sink is None:
            return
        deadline = time.monotonic() + PATIENCE_S
        while Sink.reports < self._count:
            if time.monotonic() > deadline:
                raise WrongAnswerError(f"{Sink.reports} of {self._count} reports were delivered")
            time.sleep(0.01)

    def sample(self) -> Mapping[str, Sequence[float]]:
        expected = json.loads(SMALL_EVENT)
        times = []
        with endpoint_on(ENDPOINT_CPU):
            for _ in range(self._count):
                start = time.perf_counter_ns()
                self._session.expect(SMALL_EVENT, expected)
                times.append((time.perf_counter_ns() - start) / 1e3)
        return {"telemetry": times}

    def close(self) -> None:
        self._session.close()
        if self._sink is not None:
            self._sink.shutdown()
            self._sink.server_close()


def telemetry(layout: Layout, count: int) -> list[Contestant]:
    """No subscriber, and one to platform and function telemetry."""
    return [Telemetry(name, fast(layout), count) for name in (goals.NOT_SUBSCRIBED, goals.SUBSCRIBED)]
