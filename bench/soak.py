"""A long run of one process: invocations of every kind, and proof that nothing is lost, crossed or kept.

    .venv/bin/python -m bench.soak                          a million invocations: 2 to 5 minutes
    .venv/bin/python -m bench.soak --invocations 20000      or fewer
    .venv/bin/python -m bench.soak --seconds 600            or as many as fit

Every answer has to carry the id of its request and the token of its event, byte for byte; every line that the function
logs has to arrive; the process has to stay the same one. Its resident memory and its open descriptors are read after
every batch, while it idles in `GET /next`: after the first ten thousand invocations they have to stay where they are.
Exit code 1 if anything of that does not hold. The figures are written to bench/results/soak.json, with the machine's.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import sys
import threading
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import caloric
from bench import machine
from bench.layout import FUNCTIONS, ROOT
from caloric._rust import ExecutionEnvironment
from caloric.local.process import function_environment, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from caloric._rust import InvokeResult

RESULT = ROOT / "bench" / "results" / "soak.json"
WAYS = {
    "fast": ["-S", str(Path(caloric.__file__).with_name("bootstrap.py"))],
    "module": ["-m", "caloric"],
}
# How many invocations are queued at once, and after how many the process is looked at.
CHUNK = 500
BATCH = 10_000
# What the process may have more at the end than after the warm-up, in kB: a quarter of a byte for each of a million
# invocations. Descriptors may not change at all.
TOLERANCE_KB = 256
# A chunk that is not answered after so many seconds never will be.
PATIENCE_S = 120

# Per mille of the invocations; the rest is small and quiet.
KINDS = {"print": 20, "log": 20, "stderr": 10, "raise": 10, "unserializable": 5, "bytes": 50}
SIZES = {4_000: 60, 60_000: 5, 1_000_000: 0.3}
LOGS_LINE = ("print", "log", "stderr", "raise", "unserializable")


@dataclass(frozen=True)
class Sample:
    """What was seen of the processes, at rest, after so many invocations. Memory in kB."""

    invocations: int
    resident_kb: int
    proportional_kb: int
    descriptors: int
    endpoint_resident_kb: int
    endpoint_descriptors: int


COLUMNS = tuple(column.name for column in fields(Sample))


@dataclass
class Soak:
    """The counts of a run, and what was wrong."""

    way: str
    invocations: int = 0
    errors: int = 0
    log_lines_expected: int = 0
    log_lines_seen: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def complain(self, problem: str) -> None:
        """Note what is wrong; of a thousand like it, the first few say enough."""
        if len(self.problems) < 20:
            self.problems.append(problem)


@dataclass(frozen=True)
class Invocation:
    """An event and what has to come of it."""

    request_id: str
    token: str
    event: bytes
    do: str
    size: int

    @property
    def logs_line(self) -> bool:
        return self.do in LOGS_LINE

    def check(self, result: InvokeResult) -> str | None:
        """Return what is wrong with the result, if anything is."""
        if result.request_id != self.request_id:
            return f"{self.request_id} got the result of {result.request_id}"
        if self.do in ("raise", "unserializable"):
            document = json.loads(result.payload)
            right = (
                document["requestId"] == self.request_id and f"soak {self.token}" in document["errorMessage"]
            )
        else:
            right = result.payload == self.expected_payload()
        return None if right else f"{self.request_id} ({self.do}) was answered {result.payload[:200]!r}"

    def expected_payload(self) -> bytes:
        if self.do == "bytes":
            return f"{self.request_id} {self.token} {'b' * self.size}".encode()
        return f'{{"id":"{self.request_id}","token":"{self.token}","data":"{"d" * self.size}"}}'.encode()


def make_invocation(number: int, randomness: random.Random) -> Invocation:
    """Return the invocation of this number: kind, size and padding drawn at random."""
    do = draw(KINDS, randomness) or "return"
    size = int(draw(SIZES, randomness) or randomness.randrange(100))
    # The number is in the token so that a line can be matched with its event.
    token = f"{number}-{randomness.getrandbits(64):016x}"
    padding = "p" * int(draw(SIZES, randomness) or randomness.randrange(100))
    event = f'{{"token": "{token}", "do": "{do}", "size": {size}, "padding": "{padding}"}}'.encode()
    return Invocation(f"soak-{number}-{randomness.getrandbits(32):08x}", token, event, do, size)


def draw(shares: Mapping[Any, float], randomness: random.Random) -> Any:
    """Return one of the keys, each with its share of a thousand, or None for the rest."""
    at = randomness.random() * 1000
    for key, share in shares.items():
        at -= share
        if at < 0:
            return key
    return None


class LogReader:
    """Reads what the function writes and ticks off the lines that were to come."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self._lock = threading.Lock()
        self._expected: set[str] = set()
        self._arrived = threading.Condition(self._lock)
        read_end, self.write_end = os.pipe()
        self._stream = os.fdopen(read_end, "rb", buffering=1 << 20)
        threading.Thread(target=self._read, daemon=True).start()

    def expect(self, invocations: Sequence[Invocation]) -> None:
        tokens = {invocation.token for invocation in invocations if invocation.logs_line}
        with self._lock:
            self._expected |= tokens
            self._soak.log_lines_expected += len(tokens)

    def missing(self, timeout: float) -> set[str]:
        """Wait until all expected lines are there; return the tokens of those that are not."""
        with self._lock:
            self._arrived.wait_for(lambda: not self._expected, timeout)
            return set(self._expected)

    def _read(self) -> None:
        for line in self._stream:
            words = line.decode(errors="replace").replace("\r", " ").split()
            token = words[words.index("soak") + 1] if "soak" in words[:-1] else ""
            with self._lock:
                if token in self._expected:
                    self._expected.remove(token)
                    self._soak.log_lines_seen += 1
                    if not self._expected:
                        self._arrived.notify_all()
                else:
                    self._soak.complain(f"a line that belongs to no event at hand: {line[:200]!r}")


def run(
    way: str, invocations: int | None, seconds: float | None, seed: int, progress: Callable[[Soak], None]
) -> Soak:
    """Run so many invocations, or so long, in batches; ends early when something is lost."""
    soak = Soak(way)
    randomness = random.Random(seed)
    logs = LogReader(soak)
    environment = ExecutionEnvironment(timeout_ms=PATIENCE_S * 1000, memory_size_mb=1024)
    process = supervise(
        environment,
        [sys.executable, *WAYS[way], "soak.handler"],
        function_environment(environment, handler="soak.handler", task_root=str(FUNCTIONS)),
        cwd=str(FUNCTIONS),
        output_fd=logs.write_end,
    )
    started = time.monotonic()
    try:
        pid = None
        while not soak.problems and not _is_over(soak, invocations, seconds, started):
            left = BATCH if invocations is None else min(BATCH, invocations - soak.invocations)
            for size in [CHUNK] * (left // CHUNK) + [left % CHUNK] * bool(left % CHUNK):
                _run_chunk(environment, logs, soak, size, randomness)
                if soak.problems:
                    break
            for token in sorted(logs.missing(PATIENCE_S))[:3]:
                soak.complain(f"a log line was lost: that of {token}")
            if pid not in (None, process.pid):
                soak.complain(f"process {pid} ended and {process.pid} took its place")
            pid = process.pid
            assert pid is not None
            soak.samples.append(_sample(pid, soak.invocations))
            soak.seconds = time.monotonic() - started
            progress(soak)
    finally:
        environment.close()
        process.join(5)
    soak.problems += memory_problems(soak.samples)
    return soak


def _is_over(soak: Soak, invocations: int | None, seconds: float | None, started: float) -> bool:
    if invocations is not None and soak.invocations >= invocations:
        return True
    return seconds is not None and time.monotonic() - started >= seconds


def _run_chunk(
    environment: ExecutionEnvironment, logs: LogReader, soak: Soak, size: int, randomness: random.Random
) -> None:
    chunk = [make_invocation(soak.invocations + number, randomness) for number in range(size)]
    logs.expect(chunk)
    open_ones = {invocation.request_id for invocation in chunk}
    done = threading.Event()

    def finished(invocation: Invocation, result: InvokeResult) -> None:
        if problem := invocation.check(result):
            soak.complain(problem)
        if invocation.request_id not in open_ones:
            soak.complain(f"{invocation.request_id} was answered twice")
        open_ones.discard(invocation.request_id)
        soak.errors += result.function_error is not None
        soak.bytes_out += len(result.payload)
        if not open_ones:
            done.set()

    for invocation in chunk:
        soak.bytes_in += len(invocation.event)
        environment.submit(
            invocation.event,
            functools.partial(finished, invocation),
            request_id=invocation.request_id,
        )
    if not done.wait(PATIENCE_S):
        soak.complain(f"{len(open_ones)} invocations were never answered: {sorted(open_ones)[:3]}")
    soak.invocations += size


def _sample(pid: int, invocations: int) -> Sample:
    # The runtime has polled again before the last result is out; what it frees after that takes a moment.
    time.sleep(0.05)
    status, proportional = _status_kb(pid, "status", "VmRSS"), _status_kb(pid, "smaps_rollup", "Pss")
    return Sample(
        invocations,
        status,
        proportional,
        len(os.listdir(f"/proc/{pid}/fd")),
        _status_kb(os.getpid(), "status", "VmRSS"),
        len(os.listdir("/proc/self/fd")),
    )


def _status_kb(pid: int, file: str, name: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} has ended")


def memory_problems(samples: Sequence[Sample]) -> list[str]:
    """Return what says that the process grew after the warm-up.

    One sample may be a page or a hundred off; so the first and the last tenth of them are compared, by their medians.
    """
    problems = []
    settled = [sample for sample in samples if sample.invocations >= min(BATCH, samples[-1].invocations)]
    tenth = max(1, len(settled) // 10)
    first, last = settled[:tenth], settled[-tenth:]
    growth = {
        name: statistics.median(getattr(sample, name) for sample in last)
        - statistics.median(getattr(sample, name) for sample in first)
        for name in ("resident_kb", "descriptors", "endpoint_descriptors")
    }
    if growth["resident_kb"] > TOLERANCE_KB:
        problems.append(f"resident memory grew by {growth['resident_kb']:.0f} kB (tolerated: {TOLERANCE_KB})")
    for name in ("descriptors", "endpoint_descriptors"):
        if growth[name]:
            problems.append(f"{name.replace('_', ' ')} changed by {growth[name]:+.0f}")
    return problems


def summary(soak: Soak) -> dict[str, Any]:
    """Return the result as it is written."""
    return {
        "verdict": "passed" if not soak.problems else "failed",
        **asdict(soak),
        "samples": {column: [getattr(sample, column) for sample in soak.samples] for column in COLUMNS},
        "seconds": round(soak.seconds, 1),
        "tolerance_kb": TOLERANCE_KB,
        "kinds_per_mille": KINDS,
        "sizes_per_mille": {str(size): share for size, share in SIZES.items()},
        "machine": machine.describe(sys.executable),
    }


def _show_progress(soak: Soak) -> None:
    sample = soak.samples[-1]
    line = (
        f"{soak.invocations:>9,} invocations in {soak.seconds:4.0f} s: {sample.resident_kb / 1024:.1f} MB resident, "
        f"{sample.descriptors} descriptors, {soak.errors:,} errors, {soak.log_lines_seen:,} log lines"
    )
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    elif soak.invocations % (10 * BATCH) == 0 or len(soak.samples) == 1:
        print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--invocations", type=int, help="how many (a million, unless --seconds is given)")
    parser.add_argument("--seconds", type=float, help="end after so long")
    parser.add_argument(
        "--way", choices=WAYS, default="fast", help="bootstrap.py by path, or python -m caloric"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="repeat a run")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the result goes (%(default)s)")
    options = parser.parse_args(arguments)
    if options.invocations is None and options.seconds is None:
        options.invocations = 1_000_000
    if (options.invocations or 1) < 1 or (options.seconds or 1) <= 0:
        parser.error("nothing to do: --invocations and --seconds are to be above zero")
    print(f"soak: {' '.join(WAYS[options.way][:1])}, seed {options.seed}", file=sys.stderr)
    soak = run(options.way, options.invocations, options.seconds, options.seed, _show_progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {**summary(soak), "seed": options.seed}
    # One line for each thing, so that two results can be compared.
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in result.items()]
    options.output.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    for problem in soak.problems:
        print(f"soak: {problem}", file=sys.stderr)
    first, last = soak.samples[0], soak.samples[-1]
    print(
        f"soak {'failed' if soak.problems else 'passed'}: {soak.invocations:,} invocations in {soak.seconds:.0f} s, "
        f"resident {first.resident_kb} kB after {first.invocations:,}, {last.resident_kb} kB at the end, "
        f"descriptors {first.descriptors} and {last.descriptors}, "
        f"{soak.log_lines_seen:,} of {soak.log_lines_expected:,} log lines"
    )
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
