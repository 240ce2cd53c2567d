"""Managed Instances, side by side: `python -m bench.managed [--workers N] [--at-once N] [--seconds S] [--rounds N]`.

The first table is the memory of the worker processes that serve plain handlers. The second is about invocations that
wait for something else for 20 ms each, so many at once: how many are answered in a second, what a processor does for
each, and the memory of it all. The same plain function is served by worker processes and by threads
(`CALORIC_CONCURRENCY=thread`), the same coroutine by worker processes and as tasks.

Memory is the proportional set size (PSS) of the main process and all others of the runtime together, after each worker
has served an invocation: a page that several share is divided among them, so the sum is what the machine has to have.
The rounds of the second table take turns, and it shows the median of them.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import caloric
from caloric._rust import ExecutionEnvironment
from caloric.local.process import function_environment, supervise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caloric._rust import InvokeResult

BOOTSTRAP = str(Path(caloric.__file__).with_name("bootstrap.py"))
FUNCTIONS = Path(__file__).parent / "functions"
PEER = [sys.executable, "-m", "awslambdaric"]
OURS = [sys.executable, "-S", BOOTSTRAP]
RUNTIMES: dict[str, tuple[list[str], dict[str, str]]] = {
    "awslambdaric": (PEER, {}),
    "caloric": (OURS, {}),
    "caloric, CALORIC_PREFORK_IMPORT=1": (OURS, {"CALORIC_PREFORK_IMPORT": "1"}),
}
# Command, variables, handler, and whether each invocation has a process of its own.
WAYS: dict[str, tuple[list[str], dict[str, str], str, bool]] = {
    "plain: awslambdaric, processes": (PEER, {}, "waits.handler", True),
    "plain: caloric, processes": (OURS, {}, "waits.handler", True),
    "plain: caloric, threads": (OURS, {"CALORIC_CONCURRENCY": "thread"}, "waits.handler", False),
    "async: awslambdaric, processes": (PEER, {}, "waits_async.plain_handler", True),
    "async: caloric, processes": (OURS, {"CALORIC_CONCURRENCY": "process"}, "waits_async.handler", True),
    "async: caloric, tasks": (OURS, {}, "waits_async.handler", False),
}
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PATIENCE_S = 60.0


class Load(NamedTuple):
    """What a runtime did under load."""

    per_second: float
    """Invocations that were answered."""
    cpu_us: float
    """Processor time of all its processes, for each invocation."""
    pss_kb: int


def pss_kb(pid: int) -> int:
    """Return the proportional set size of a process, in kB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"process {pid} has no Pss")


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def running(
    command: list[str], variables: dict[str, str], handler: str, at_once: int, processes: int
) -> Iterator[tuple[ExecutionEnvironment, list[int]]]:
    """Start a runtime and yield its environment and all its processes, each of which has served."""
    with ExecutionEnvironment(max_concurrency=at_once, timeout_ms=60_000) as environment:
        env = function_environment(environment, handler=handler, task_root=str(FUNCTIONS), user=variables)
        with supervise(environment, [*command, handler], env, cwd=str(FUNCTIONS)) as runtime:
            # Whoever is idle longest is next, so that all of them have served when each had its turn.
            for _ in range(at_once):
                assert environment.invoke(b"{}").function_error is None
            pid = runtime.pid or 0
            children = Path(f"/proc/{pid}/task/{pid}/children")
            deadline = time.monotonic() + PATIENCE_S
            pids: list[str] = []
            while len(pids) < processes:
                assert time.monotonic() < deadline, "the workers do not come"
                time.sleep(0.01)
                pids = children.read_text(encoding="ascii").split()
            workers = [int(pid) for pid in pids]
            # They import what they need one after the other, and are idle when they wait for an invocation.
            before, taken = -1.0, sum(map(cpu_s, workers))
            while before != taken:
                assert time.monotonic() < deadline, "the workers do not come to rest"
                time.sleep(0.5)
                before, taken = taken, sum(map(cpu_s, workers))
            for _ in range(2 * at_once):
                environment.invoke(b"{}")
            yield environment, [pid, *workers]
            # The peer's workers outlive it.
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)


def memory_kb(command: list[str], variables: dict[str, str], handler: str, workers: int) -> int:
    """Return the PSS of a runtime with so many workers, in kB."""
    with running(command, variables, handler, workers, workers) as (_, pids):
        return sum(map(pss_kb, pids))


def load(
    command: list[str], variables: dict[str, str], handler: str, at_once: int, processes: int, seconds: float
) -> Load:
    """Keep so many invocations running for so long, and return what came of it."""
    with running(command, variables, handler, at_once, processes) as (environment, pids):
        answered = 0
        under_way = at_once
        is_over = threading.Event()
        lock = threading.Lock()

        def settle(result: InvokeResult) -> None:
            nonlocal answered, under_way
            assert result.payload == b'"hello"', result.payload
            with lock:
                answered += 1
                if time.perf_counter() >= end:
                    under_way -= 1
                    if not under_way:
                        is_over.set()
                    return
            environment.submit(b"{}", settle)

        cpu_before = sum(map(cpu_s, pids))
        begin = time.perf_counter()
        end = begin + seconds
        for _ in range(at_once):
            environment.submit(b"{}", settle)
        assert is_over.wait(seconds + PATIENCE_S), "an invocation was lost"
        elapsed = time.perf_counter() - begin
        cpu = sum(map(cpu_s, pids)) - cpu_before
        return Load(answered / elapsed, cpu / answered * 1e6, sum(map(pss_kb, pids)))


def main() -> None:
    """Measure everything, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=8, help="of the first table; 0: leave it out")
    parser.add_argument(
        "--at-once", type=int, default=16, help="invocations of the second one; 0: leave it out"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="that a round takes (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.workers:
        print(f"PSS of {options.workers} workers and their main process, MB")
        for handler in ("hello.handler", "with_boto3.handler"):
            for name, (command, variables) in RUNTIMES.items():
                total = memory_kb(command, variables, handler, options.workers)
                print(f"{handler:20} {name:36} {total / 1024:8.1f}", flush=True)
    if options.at_once:
        print(f"{options.at_once} invocations at once that wait for 20 ms each")
        rounds: dict[str, list[Load]] = {name: [] for name in WAYS}
        for _ in range(options.rounds):
            for name, (command, variables, handler, one_each) in WAYS.items():
                processes = options.at_once if one_each else 1
                loads = rounds[name]
                loads.append(load(command, variables, handler, options.at_once, processes, options.seconds))
        print(f"{'':32} {'per second':>10} {'CPU, µs each':>13} {'PSS, MB':>9}")
        for name, loads in rounds.items():
            per_second, cpu_us, kb = (statistics.median(column) for column in zip(*loads, strict=True))
            print(f"{name:32} {per_second:10.0f} {cpu_us:13.0f} {kb / 1024:9.1f}")


if __name__ == "__main__":
    main()
