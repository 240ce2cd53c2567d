"""The command: which measures to run, how long, and what to do with the results."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine, report
from bench.contest import Results, contest
from bench.layout import CACHE, ROOT, LayoutError, prepare
from tests.parts import PartsMissingError, rie

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.contest import Contestant
    from bench.layout import Layout

RESULTS = ROOT / "bench" / "results"


@dataclass(frozen=True)
class Measure:
    """What can be asked for by name: a contest that fills one or more tables."""

    help: str
    contestants: Callable[[Layout, int], list[Contestant]]
    """From a layout and a count: how much one turn does."""
    rounds: tuple[int, int]
    """In a default and in a quick run."""
    count: tuple[int, int] = (0, 0)
    production: bool = False
    """Whether the build without the endpoint takes part."""
    emulator: bool = False
    """Whether AWS's emulator takes part."""
    service: bool = False
    """Whether the local Lambda's service takes part, and ministack."""


def _measures() -> dict[str, Measure]:
    from bench.measures import cycle, environment, lifecycle, local, local_service, logs, start, stream

    return {
        "start": Measure(
            "process start to first GET /next, trivial handler",
            lambda layout, _: start.trivial(layout),
            rounds=(60, 10),
            production=True,
        ),
        "boto3": Measure(
            "the same for a handler that creates a boto3 client",
            lambda layout, _: start.with_boto3(layout),
            rounds=(12, 1),
        ),
        "cycle": Measure(
            "warm cycle, latency and CPU time at 54 bytes",
            cycle.small_events,
            # Short turns: on two CPUs, a second of somebody else's work is a round's difference.
            rounds=(40, 4),
            count=(400, 200),
        ),
        "echo80k": Measure(
            "echo of 80 kB of JSON",
            lambda layout, count: cycle.echoes("echo_80_kb", layout, count),
            rounds=(12, 3),
            count=(20, 5),
        ),
        "echo5m": Measure(
            "echo of 4.9 MB of JSON",
            lambda layout, count: cycle.echoes("echo_4_9_mb", layout, count),
            rounds=(10, 2),
            count=(2, 1),
        ),
        "startlogs": Measure(
            "process start to first GET /next of a handler that logs, text and JSON",
            lambda layout, _: [each for name in logs.FORMATS for each in logs.starts(name, layout)],
            rounds=(24, 3),
        ),
        "logs": Measure(
            "warm cycle with one log record, text and JSON",
            lambda layout, count: [
                each for name in logs.FORMATS for each in logs.records(name, layout, count)
            ],
            rounds=(20, 3),
            count=(300, 100),
        ),
        "memory": Measure(
            "resident memory after 1000 invocations",
            lambda layout, _: cycle.memory(layout),
            rounds=(3, 1),
            production=True,
        ),
        "invoke": Measure(
            "`caloric invoke`, start to result",
            lambda layout, _: local.one_invocation(layout, rie()),
            rounds=(20, 3),
            emulator=True,
        ),
        "emulate": Measure(
            "warm invocation through HTTP, `caloric emulate` against AWS's emulator",
            lambda layout, count: local.warm_invocations(layout, rie(), count),
            rounds=(12, 3),
            count=(200, 50),
            emulator=True,
        ),
        "localstart": Measure(
            "the local Lambda: start of the command to the first answer of a stored function",
            lambda layout, _: local_service.starts(layout),
            rounds=(12, 2),
            service=True,
        ),
        "localinvoke": Measure(
            "warm invocation through the local Lambda's API, against ministack and AWS's emulator",
            lambda layout, count: local_service.warm_invocations(layout, rie(), count),
            rounds=(12, 3),
            count=(100, 20),
            emulator=True,
            service=True,
        ),
        "freeze": Measure(
            "invocations back to back and 20 ms apart, by what freezes the environment between them",
            environment.freezing,
            rounds=(16, 2),
            count=(10, 3),
        ),
        "hooks": Measure(
            "warm cycle with lifecycle hooks, and without",
            lifecycle.hooks,
            rounds=(16, 3),
            count=(300, 100),
        ),
        "telemetry": Measure(
            "an invocation with a telemetry subscriber, and without",
            lifecycle.telemetry,
            rounds=(12, 2),
            count=(200, 50),
        ),
        "stream": Measure(
            "a piece of a streamed response, from the yield to the caller's socket",
            lambda layout, count: [stream.Stream(layout, count)],
            rounds=(8, 2),
            count=(200, 50),
        ),
    }


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark. Returns 0; 1 if a contestant answered wrongly; 2 for a mistake in `arguments`."""
    measures = _measures()
    options = _parser(measures).parse_args(arguments)
    unknown = [name for name in options.measures if name not in measures]
    if unknown:
        return _mistake(f"no measure is called {unknown[0]!r}: choose from {', '.join(measures)}")
    text = report.overview if options.overview else report.markdown
    for option in (options.save, options.update):
        if option is not None and not option.parent.is_dir():
            return _mistake(f"there is no folder {option.parent}")
    try:
        if options.show:
            found = report.from_json(json.loads(options.show.read_bytes()))
        else:
            names = [name for name in measures if name in options.measures or not options.measures]
            found = run({name: measures[name] for name in names}, options.python, quick=options.quick)
            complete = not options.quick and len(names) == len(measures) and not found.results.wrong
            _save(found, options.save, complete)
        if options.update:
            report.update(options.update, text(found))
    except (LayoutError, PartsMissingError, ValueError) as error:
        return _mistake(str(error))
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _mistake(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    if options.markdown or options.overview:
        sys.stdout.write(text(found))
    else:
        from rich.console import Console

        # Not to a terminal, rich assumes 80 columns, and would break names and figures in two.
        report.print_report(found, Console(width=None if sys.stdout.isatty() else 120))
    return 1 if found.results.wrong else 0


def run(measures: dict[str, Measure], python: str, *, quick: bool) -> report.Report:
    """Prepare what the contestants run in, and hold one contest after the other."""
    if any(measure.emulator for measure in measures.values()):
        rie()  # to fail now rather than after minutes
    environment = machine.describe(python)
    if machine.is_busy(environment):
        load = environment["load_average"][0]
        _tell(f"warning: the load average is {load:.2f}; compare ratios, or wait for a quieter moment")
    production = any(measure.production for measure in measures.values()) and not quick
    service = any(measure.service for measure in measures.values())
    layout = prepare(python, production=production, service=service, tell=lambda line: _tell(f"{line}…"))
    started = datetime.now().astimezone()
    results = Results()
    for name, measure in measures.items():
        rounds, count = measure.rounds[quick], measure.count[quick]
        contestants = measure.contestants(layout, count)
        with _Progress(name, len(contestants) * (rounds + 1)) as progress:
            contest(name, contestants, rounds, results, progress.step)
    return report.Report(started.isoformat(" ", "minutes")[:16], environment, quick, results)


def _save(found: report.Report, where: Path | None, complete: bool) -> None:
    """Keep the last run in the cache, and a complete one beside the others."""
    paths = [where] if where else [CACHE / "last.json"]
    if complete and not where:
        paths.append(RESULTS / f"{found.date[:10]}-{machine.slug(found.environment)}.json")
    for path in paths:
        report.save(found, path)
    _tell(f"written: {paths[-1]}")


class _Progress:
    """A counter on stderr: redrawn on a terminal, one line per measure elsewhere."""

    def __init__(self, name: str, steps: int) -> None:
        self._name = name
        self._steps = steps
        self._done = 0
        self._terminal = sys.stderr.isatty()
        self._started = datetime.now()

    def step(self) -> None:
        """Count one."""
        self._done += 1
        if self._terminal:
            sys.stderr.write(f"\r{self._name}: {self._done * 100 // self._steps} %\033[K")
            sys.stderr.flush()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_exception: object) -> None:
        seconds = (datetime.now() - self._started).total_seconds()
        start = "\r\033[K" if self._terminal else ""
        _tell(f"{start}{self._name}: {seconds:.0f} s")


def _parser(measures: dict[str, Measure]) -> argparse.ArgumentParser:
    width = max(map(len, measures))
    listed = "\n".join(f"  {name.ljust(width)}  {measure.help}" for name, measure in measures.items())
    examples = textwrap.dedent(
        """
        examples:
          python -m bench                       everything, 3 to 5 minutes
          python -m bench start cycle --quick   two measures, a few seconds
          python -m bench --python ~/.pyenv/versions/3.13.0/bin/python start
          python -m bench --show .cache/bench/last.json --markdown

        Figures of different runs do not compare; ratios within a run do. bench/README.md explains the method.
        """
    )
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Compare Caloric with awslambdaric, AWS's emulator and the floors, in one run.",
        epilog=f"measures:\n{listed}\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "measures", nargs="*", metavar="MEASURE", help="what to run; everything if none is named"
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works, not to quote")
    parser.add_argument(
        "--python", default=sys.executable, metavar="PATH", help="the CPython that runs the contestants"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="where the JSON goes, instead of bench/results"
    )
    parser.add_argument(
        "--show", type=Path, metavar="FILE", help="show an earlier run's JSON instead of running"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of tables")
    parser.add_argument(
        "--overview", action="store_true", help="the same, as one table with a row for each measure"
    )
    parser.add_argument(
        "--update", type=Path, metavar="FILE", help="write the Markdown into FILE, between its marks"
    )
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _mistake(message: str) -> int:
    _tell(f"python -m bench: {message}")
    return 2
