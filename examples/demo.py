"""`make demo`: one Lambda function on Caloric and on awslambdaric, phase by phase."""

from __future__ import annotations

import json
import os
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.syntax import Syntax
from rich.table import Table

from caloric._rust import ExecutionEnvironment, InvokeResult
from caloric.cli.options import FAST_WAY_IN
from caloric.local.process import function_environment, supervise

FUNCTION = Path(__file__).parent / "hello"
HANDLER = "app.handler"
COLD_STARTS = 9
WARM_INVOCATIONS = 300

RUNTIMES = {
    "Caloric": [*FAST_WAY_IN, HANDLER],
    "awslambdaric": [sys.executable, "-m", "awslambdaric", HANDLER],
}


@dataclass
class Measured:
    """Milliseconds per phase, one entry per cold start."""

    start: list[float] = field(default_factory=list)
    init: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    def add(self, cold: InvokeResult, warm: list[InvokeResult]) -> None:
        self.start.append(cold.phases["process_start_ms"])
        self.init.append(cold.phases["runtime_init_ms"])
        self.first.append(cold.response_latency_ms)
        self.warm.append(statistics.median(result.response_latency_ms for result in warm))
        self.memory_mb.append(warm[-1].max_memory_used_mb)


def run(command: list[str], event: bytes, warm: int) -> tuple[InvokeResult, list[InvokeResult]]:
    """Return a cold start's result and those of `warm` further invocations in the same environment."""
    environment = ExecutionEnvironment(keep_log=True)
    # What PYTHON… variables of the developer's do to a start is not the runtimes' doing.
    base = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    variables = function_environment(environment, handler=HANDLER, task_root=str(FUNCTION), base=base)
    with environment, supervise(environment, command, variables, cwd=str(FUNCTION)):
        results = [environment.invoke(event) for _ in range(1 + warm)]
    for result in results:
        if result.function_error is not None:
            sys.exit(f"the function failed under {command}: {result.payload.decode()}")
    return results[0], results[1:]


def milliseconds(value: float) -> str:
    return f"{value * 1000:.0f} µs" if value < 1 else f"{value:.1f} ms"


def show(console: Console, measured: dict[str, Measured]) -> None:
    ours, peers = measured["Caloric"], measured["awslambdaric"]
    rows = [
        ("cold start: process created", ours.start, peers.start),
        ("cold start: until the first /next", ours.init, peers.init),
        ("first invocation", ours.first, peers.first),
        ("warm invocation", ours.warm, peers.warm),
    ]
    table = Table(title="medians; the bar is awslambdaric's time, its filled part Caloric's")
    table.add_column("phase")
    for name in RUNTIMES:
        table.add_column(name, justify="right")
    table.add_column("faster", justify="right")
    table.add_column("")
    for phase, mine, theirs in rows:
        a, b = statistics.median(mine), statistics.median(theirs)
        filled = min(20, max(1, round(20 * a / b)))
        bar = f"[green]{'█' * filled}[/][dim]{'░' * (20 - filled)}[/]"
        table.add_row(phase, milliseconds(a), milliseconds(b), f"{b / a:.1f} ×", bar)
    a, b = statistics.median(ours.memory_mb), statistics.median(peers.memory_mb)
    table.add_row("memory at most", f"{a:.0f} MB", f"{b:.0f} MB", f"{b / a:.1f} ×", "")
    console.print(table)


def main() -> None:
    console = Console(width=None if sys.stdout.isatty() else 110)
    event = (FUNCTION / "event.json").read_bytes()
    console.rule("the function: examples/hello/app.py")
    console.print(Syntax((FUNCTION / "app.py").read_text(), "python", background_color="default"))
    console.rule("one cold start and one warm invocation on Caloric, with an API Gateway event")
    cold, [warm] = run(RUNTIMES["Caloric"], event, 1)
    for result in (cold, warm):
        console.print(result.log.decode(), end="", highlight=False, markup=False, soft_wrap=True)
        console.print(json.dumps(json.loads(result.payload)), style="green", soft_wrap=True)
    console.rule(
        f"side by side: {COLD_STARTS} cold starts each, {WARM_INVOCATIONS} warm invocations after each"
    )
    measured = {name: Measured() for name in RUNTIMES}
    # In turn, so that a busy moment of the machine meets both.
    for _ in track(range(COLD_STARTS), "measuring", console=console, transient=True):
        for name, command in RUNTIMES.items():
            measured[name].add(*run(command, event, WARM_INVOCATIONS))
    show(console, measured)
    console.print(
        "Try it yourself:\n"
        "  cd examples/hello\n"
        "  ../../.venv/bin/caloric invoke app.handler --event @event.json --repeat 3",
        highlight=False,
    )


if __name__ == "__main__":
    main()
