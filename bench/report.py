"""Results as tables on a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench.contest import Results
from bench.goals import FLOOR, METRICS, verdicts
from bench.summary import Summary

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

HEADER = ("", "median", "min", "p99", "× floor", "against the peer")
BEGIN = "<!-- Written by python -m bench --update; what is between these two lines is replaced. -->"
END = "<!-- end -->"


@dataclass
class Report:
    """A run: when, on what, and what came out."""

    date: str
    environment: dict[str, Any]
    quick: bool
    results: Results


def _in_order(report: Report) -> list[tuple[str, dict[str, Summary]]]:
    """The summaries by metric, in the order of `METRICS`: measures take turns at random."""
    found = report.results.summaries
    return [(metric, found[metric]) for metric in METRICS if metric in found]


def rows(metric: str, summaries: dict[str, Summary]) -> list[tuple[str, ...]]:
    """Return the cells under HEADER, a row for each contestant of a metric."""
    floor, peer = summaries.get(FLOOR), summaries.get(METRICS[metric].peer or "")
    table: list[tuple[str, ...]] = []
    for name, summary in summaries.items():
        table.append(
            (
                name,
                figure(summary.median),
                figure(summary.minimum),
                "" if summary.p99 is None else figure(summary.p99),
                "" if floor is None or summary is floor else f"{summary.median / floor.median:.2f}",
                "" if peer is None or name in (FLOOR, METRICS[metric].peer) else against(summary, peer),
            )
        )
    return table


def against(summary: Summary, peer: Summary) -> str:
    """Return how many times less or more than the peer's a median is."""
    if summary.median <= peer.median:
        return f"{peer.median / summary.median:.2f} × less"
    return f"{summary.median / peer.median:.2f} × more"


def figure(value: float) -> str:
    """Return a figure with three digits that mean something, and no more."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def print_report(report: Report, console: Console) -> None:
    """Print all tables, then the goals, then who answered wrongly."""
    from rich.table import Table
    from rich.text import Text

    console.print(Text(_about(report)))
    for metric, summaries in _in_order(report):
        table = Table(
            title=f"{METRICS[metric].title} ({METRICS[metric].unit})",
            title_justify="left",
            title_style="bold",
        )
        for index, name in enumerate(HEADER):
            table.add_column(name, justify="left" if index == 0 else "right")
        for row in rows(metric, summaries):
            table.add_row(*row, style="green" if row[0].startswith("caloric") else None)
        console.print()
        console.print(table)
    judged = verdicts(report.results.summaries)
    if judged:
        table = Table("measure", "contestant", "goal", "measured", "", title="Goals", title_justify="left")
        styles = {"met": "green", "not met": "bold red", "undecided": "yellow", "not measured": "dim"}
        for verdict in judged:
            goal, word = verdict.goal, verdict.outcome.value
            table.add_row(
                goal.metric, goal.contestant, str(goal), verdict.figure, Text(word, style=styles[word])
            )
        console.print()
        console.print(table)
    for who, why in report.results.wrong.items():
        console.print()
        console.print(Text(f"WRONG, not timed: {who}: {why}", style="bold red"))


def markdown(report: Report) -> str:
    """Return the same as Markdown."""
    parts = [_about(report)]
    for metric, summaries in _in_order(report):
        table = _markdown_table(HEADER, rows(metric, summaries), right_from=1)
        parts.append(f"**{METRICS[metric].title} ({METRICS[metric].unit})**\n\n{table}")
    judged: list[tuple[str, ...]] = [
        (
            verdict.goal.metric,
            verdict.goal.contestant,
            str(verdict.goal),
            verdict.figure,
            verdict.outcome.value,
        )
        for verdict in verdicts(report.results.summaries)
    ]
    header = ("measure", "contestant", "goal", "measured", "")
    parts.append(f"**Goals**\n\n{_markdown_table(header, judged, right_from=3)}")
    parts += [f"Wrong, not timed: {who}: `{why}`" for who, why in report.results.wrong.items()]
    return "\n\n".join(parts) + "\n"


def overview(report: Report) -> str:
    """Return one Markdown table, a row for each metric: medians of the floor, the peer, and Caloric's fast way in."""
    table: list[tuple[str, ...]] = []
    for metric, summaries in _in_order(report):
        floor, peer = summaries.get(FLOOR), summaries.get(METRICS[metric].peer or "")
        ours = next((summary for name, summary in summaries.items() if name.startswith("caloric")), None)
        if ours is None or peer is None:
            continue
        table.append(
            (
                f"{METRICS[metric].title} ({METRICS[metric].unit})",
                "" if floor is None else figure(floor.median),
                figure(peer.median),
                figure(ours.median),
                against(ours, peer),
            )
        )
    header = ("", "floor", "peer", "Caloric", "")
    return f"{_markdown_table(header, table, right_from=1)}\n\n{_about(report)}\n"


def update(path: Path, text: str) -> None:
    """Replace what is between the lines BEGIN and END of `path`. Raises `ValueError` unless it has both."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} needs these two lines, in this order, around the table:\n{BEGIN}\n{END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def save(report: Report, path: Path) -> None:
    """Write a report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_json(report), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def to_json(report: Report) -> dict[str, Any]:
    """Return a report as plain data; `from_json` reads it."""
    return {
        "date": report.date,
        "environment": report.environment,
        "quick": report.quick,
        "metrics": {
            metric: {
                "title": METRICS[metric].title,
                "unit": METRICS[metric].unit,
                "contestants": {name: asdict(summary) for name, summary in summaries.items()},
            }
            for metric, summaries in _in_order(report)
        },
        "goals": [
            {
                "metric": verdict.goal.metric,
                "contestant": verdict.goal.contestant,
                "goal": str(verdict.goal),
                "measured": verdict.figure,
                "outcome": verdict.outcome.value,
            }
            for verdict in verdicts(report.results.summaries)
        ],
        "wrong": report.results.wrong,
    }


def from_json(data: dict[str, Any]) -> Report:
    """Return the report that `to_json` made data of. Raises `ValueError` if it is something else."""
    try:
        summaries = {
            metric: {name: _summary(fields) for name, fields in found["contestants"].items()}
            for metric, found in data["metrics"].items()
            if metric in METRICS
        }
        return Report(data["date"], data["environment"], data["quick"], Results(summaries, data["wrong"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no results of python -m bench: {error!r}") from None


def _summary(fields: dict[str, Any]) -> Summary:
    return Summary(**{**fields, "round_medians": tuple(fields["round_medians"])})


def _about(report: Report) -> str:
    facts = report.environment
    commit = f"{facts['commit']}{' with changes' if facts['dirty'] else ''}"
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{report.date}: {facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}, "
        f"CPython {facts['python']}, {versions}, commit {commit}, "
        f"load average {facts['load_average'][0]:.2f} at start{', quick run' if report.quick else ''}."
    )


def _markdown_table(header: tuple[str, ...], table: list[tuple[str, ...]], right_from: int) -> str:
    rules = ("---" if index < right_from else "---:" for index in range(len(header)))
    lines = [header, tuple(rules), *table]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
