"""The runtimes that are compared, and what is done with a running one."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import placement
from bench.contest import WrongAnswerError
from bench.goals import FAST, FLOOR, MODULE, PEER, PEER_THREADED, PRODUCTION
from bench.layout import FLOORS, FUNCTIONS
from caloric._rust import ExecutionEnvironment
from caloric.local.process import function_environment, supervise
from caloric.testing.processes import processes

if TYPE_CHECKING:
    from bench.layout import Layout

# Enough for the peer to echo megabytes many times over; a runtime that hangs must not hang the benchmark.
TIMEOUT_MS = 60_000

# A function has credentials; without them boto3 would go and look for some.
VARIABLES = {
    "LANG": "en_US.UTF-8",
    "TZ": ":UTC",
    "LAMBDA_TASK_ROOT": str(FUNCTIONS),
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_LAMBDA_FUNCTION_NAME": "bench",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/bench",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
}


@dataclass(frozen=True)
class Runtime:
    """A program that is given to an execution environment."""

    name: str
    command: tuple[str, ...]
    """Without the handler."""
    variables: dict[str, str] = field(default_factory=dict)
    takes_handler: bool = True

    def full_command(self, handler: str) -> list[str]:
        """Return the command for one handler."""
        return [*self.command, handler] if self.takes_handler else list(self.command)

    def environment(self) -> dict[str, str]:
        """Return the variables of its process, all but the Runtime API's address and the handler."""
        path = {"PATH": os.environ.get("PATH", os.defpath)}
        return {**path, **VARIABLES, **self.variables}


def python_floor(layout: Layout) -> Runtime:
    """The least that a Python process can do: of start-up and memory."""
    script = str(FLOORS / "raw_socket.py")
    return Runtime(FLOOR, (layout.default.python, "-I", "-S", script), takes_handler=False)


def rust_floor(layout: Layout) -> Runtime:
    """The least that any process can do with an invocation; it echoes."""
    return Runtime(FLOOR, (layout.floor_client,), takes_handler=False)


def peers(layout: Layout) -> list[Runtime]:
    """awslambdaric as it is, and as AWS runs it on Python 3.12 and later."""
    command = (layout.default.python, "-m", "awslambdaric")
    return [
        Runtime(PEER, command),
        Runtime(PEER_THREADED, command, {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"}),
    ]


def fast(layout: Layout) -> Runtime:
    """Caloric's script by path."""
    return Runtime(FAST, (layout.default.python, "-S", layout.default.bootstrap))


def ours(layout: Layout) -> list[Runtime]:
    """Caloric's two ways in."""
    return [fast(layout), Runtime(MODULE, (layout.default.python, "-m", "caloric"))]


def production(layout: Layout) -> list[Runtime]:
    """The fast way in of a build without the endpoint, as in a layer, where there is one."""
    if layout.production is None:
        return []
    return [Runtime(PRODUCTION, (layout.production.python, "-S", layout.production.bootstrap))]


class Session:
    """A runtime that serves invocations of one handler in an execution environment of our endpoint."""

    def __init__(self, runtime: Runtime, handler: str, **settings: Any) -> None:
        """Make the environment; `settings` are further arguments of `ExecutionEnvironment`."""
        self._environment = ExecutionEnvironment(timeout_ms=TIMEOUT_MS, memory_size_mb=1024, **settings)
        variables = function_environment(
            self._environment, handler=handler, task_root=str(FUNCTIONS), base=runtime.environment()
        )
        command = runtime.full_command(handler)
        self._process = supervise(self._environment, command, variables, cwd=str(FUNCTIONS))

    def expect(self, event: bytes, expected: Any, *, logs: str = "") -> float:
        """Invoke once and return the latency in ms. Raises `WrongAnswerError` if the result is another, or the log is
        without `logs`.
        """
        result = self._environment.invoke(event)
        check_answer(result.payload, expected, result.log_tail)
        if logs.encode() not in result.log_tail:
            raise WrongAnswerError(f"logged {result.log_tail.decode(errors='replace').strip()}")
        return result.response_latency_ms

    def cycles(self, event: bytes, count: int) -> list[int]:
        """Return the time of `count` cycles, in ns."""
        try:
            # One delivery more than intervals between deliveries.
            return self._environment.measure_cycles(event, count + 1)
        except RuntimeError as error:
            raise WrongAnswerError(str(error)) from None

    @property
    def pid(self) -> int:
        """The runtime's process. Raises `WrongAnswerError` before there is one."""
        if self._process.pid is None:
            raise WrongAnswerError("no process was started")
        return self._process.pid

    def frozen(self) -> int:
        """Return how many of the environment's processes stand still."""
        return sum(process.at_rest for process in processes(self._environment.process_ids()))

    def pin(self) -> None:
        """Keep the process on the runtimes' CPU. To be called after an answer, when its threads are there."""
        placement.pin(self.pid, placement.RUNTIME_CPU)

    def close(self) -> None:
        """End the process."""
        self._environment.close()
        self._process.join(3)


def check_answer(payload: bytes, expected: Any, log: bytes = b"") -> None:
    """Raise `WrongAnswerError` unless `payload` is JSON for `expected`, with what was logged."""
    try:
        right = json.loads(payload) == expected
    except ValueError:
        right = False
    if not right:
        shown = payload[:200].decode(errors="replace")
        logged = log.decode(errors="replace").strip()
        raise WrongAnswerError(f"answered {shown}" + (f"\n{logged}" if logged else ""))


def cpu_time_ns(pid: int) -> int:
    """Return the CPU time that the process's living threads have used, from the scheduler's own clock.

    `utime` and `stime` in /proc count ticks of 10 ms; this one counts nanoseconds
    (Documentation/scheduler/sched-stats).
    """
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def resident_memory_mb(pid: int) -> float:
    """Return the memory that the process has in RAM, shared pages included, in MB of 2^20 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise WrongAnswerError(f"process {pid} has ended")
