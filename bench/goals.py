"""What is measured, and the numbers we hold ourselves to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from bench.summary import estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.summary import Summary

FLOOR = "floor"
PEER = "awslambdaric"
# AWS sets AWS_EXECUTION_ENV; for 3.12 and later it makes awslambdaric poll in a thread of its own.
PEER_THREADED = "awslambdaric, AWS_Lambda_python3.12"
FAST = "caloric, fast way in"
MODULE = "caloric, python -m"
PRODUCTION = "caloric, fast, production build"
INVOKE = "caloric invoke"
RIE_START = "AWS's emulator, awslambdaric"
EMULATE_FAST = "caloric emulate, caloric"
EMULATE_PEER = "caloric emulate, awslambdaric"
LOCAL = "caloric local start"
MINISTACK = "ministack 1.5.33"
RIE_FAST = "AWS's emulator, caloric"
RIE_PEER = "AWS's emulator, awslambdaric"
NOT_FROZEN = "not frozen"
# As the argument `freezer` has them.
SIGNALS = "signals"
FREEZERS = (SIGNALS, "cgroup-v2", "cgroup-v1")

NO_HOOKS = "no hook"
HOOKS_AROUND = "before_invoke and after_invoke"
HOOK_AT_SHUTDOWN = "on_shutdown"
NOT_SUBSCRIBED = "no subscriber"
SUBSCRIBED = "a subscriber to platform and function"


@dataclass(frozen=True)
class Metric:
    """One table: a quantity that several contestants have."""

    key: str
    title: str
    unit: str
    peer: str | None = PEER
    """Whom the column "against the peer" compares with."""
    strict_floor: bool = False
    """The floor does a part of what a runtime does, so that a figure below it is a mistake of the measurement."""


METRICS = {
    metric.key: metric
    for metric in (
        Metric("start", "Start of the process to its first GET /next, trivial handler", "ms", PEER, True),
        Metric("start_boto3", "The same, for a handler that creates a boto3 client", "ms"),
        Metric(
            "cycle",
            "Warm cycle, /next to /next, 54-byte event, runtime and endpoint on two CPUs",
            "µs",
            PEER,
            True,
        ),
        Metric("cycle_one_cpu", "The same on one CPU", "µs"),
        Metric("latency", "Latency, delivery of a 54-byte event to its response, two CPUs", "µs"),
        Metric("cpu", "CPU time of the runtime's process per invocation, two CPUs", "µs"),
        Metric("cpu_one_cpu", "The same on one CPU", "µs"),
        Metric("echo_80_kb", "Echo of 80 kB of JSON, /next to /next", "ms"),
        Metric("echo_4_9_mb", "Echo of 4.9 MB of JSON, /next to /next", "ms"),
        Metric(
            "start_log_text", "Start, for a handler that imports logging and writes a record, in text", "ms"
        ),
        Metric("start_log_json", "Start, for the same handler, in JSON", "ms"),
        Metric("log_text", "Warm cycle with one record in text, two CPUs", "µs"),
        Metric("log_text_one_cpu", "Warm cycle with one record in text, one CPU", "µs"),
        Metric("log_json", "Warm cycle with one record in JSON, two CPUs", "µs"),
        Metric("log_json_one_cpu", "Warm cycle with one record in JSON, one CPU", "µs"),
        Metric("memory", "Resident memory, idle after 1000 invocations", "MB"),
        Metric("invoke", "One local invocation, start of the command to its result", "ms", RIE_START),
        Metric("emulate", "Warm invocation through the emulator's HTTP port", "µs", RIE_FAST),
        Metric(
            "local_start",
            "The local Lambda, start of the command to a stored function's first answer",
            "ms",
            MINISTACK,
        ),
        Metric("local_invoke", "Warm invocation through the local Lambda's API", "µs", RIE_FAST),
        Metric("freeze_back_to_back", "Invocations back to back, one CPU", "µs", NOT_FROZEN),
        Metric("freeze_gap", "Invocation 20 ms after the last one, one process, one CPU", "µs", NOT_FROZEN),
        Metric("freeze_gap_8", "The same with eight processes", "µs", NOT_FROZEN),
        Metric("freeze_cpu", "CPU time of the endpoint's process for it, freeze included", "µs", NOT_FROZEN),
        Metric("freeze_cpu_8", "The same with eight processes", "µs", NOT_FROZEN),
        Metric("hooks", "Warm cycle with lifecycle hooks that do nothing, two CPUs", "µs", NO_HOOKS),
        Metric("hooks_one_cpu", "The same on one CPU", "µs", NO_HOOKS),
        Metric("telemetry", "Invocation to its result, with telemetry delivered", "µs", NOT_SUBSCRIBED),
        Metric("stream", "A piece of a streamed response, from the yield to the caller's socket", "µs", None),
    )
}


class Rule(Enum):
    """How a figure is compared with its limit."""

    AT_MOST = "at most an absolute figure"
    AT_MOST_TIMES = "at most so many times another's"
    AT_MOST_ABOVE = "at most so much above another's"
    FASTER = "at least so many times faster than another"


@dataclass(frozen=True)
class Goal:
    """A limit for one contestant's median of one metric."""

    metric: str
    contestant: str
    rule: Rule
    limit: float
    reference: str = ""
    """The contestant that it is compared with; empty for an absolute limit."""

    def __str__(self) -> str:
        unit = METRICS[self.metric].unit
        if self.rule is Rule.AT_MOST:
            return f"≤ {self.limit:g} {unit}"
        if self.rule is Rule.AT_MOST_TIMES:
            return f"≤ {self.limit:g} × {self.reference}"
        if self.rule is Rule.AT_MOST_ABOVE:
            return f"≤ {self.reference} + {self.limit:g} {unit}"
        return f"≥ {self.limit:g} × faster than {self.reference}"


GOALS = (
    Goal("start", FAST, Rule.AT_MOST_TIMES, 1.10, FLOOR),
    Goal("start", FAST, Rule.FASTER, 3, PEER),
    Goal("start", MODULE, Rule.FASTER, 2, PEER),
    Goal("start_boto3", FAST, Rule.FASTER, 1.15, PEER),
    Goal("cycle", FAST, Rule.AT_MOST_TIMES, 1.15, FLOOR),
    Goal("cycle", FAST, Rule.FASTER, 3, PEER),
    Goal("cycle_one_cpu", FAST, Rule.FASTER, 3, PEER),
    Goal("cpu", FAST, Rule.AT_MOST, 45),
    Goal("echo_80_kb", FAST, Rule.AT_MOST_TIMES, 1.3, FLOOR),
    Goal("echo_80_kb", FAST, Rule.FASTER, 4.5, PEER),
    Goal("echo_4_9_mb", FAST, Rule.AT_MOST_TIMES, 1.3, FLOOR),
    Goal("echo_4_9_mb", FAST, Rule.FASTER, 3.5, PEER),
    Goal("start_log_text", FAST, Rule.FASTER, 1, PEER),
    Goal("start_log_json", FAST, Rule.FASTER, 1, PEER),
    Goal("log_text", FAST, Rule.FASTER, 2, PEER),
    Goal("log_text_one_cpu", FAST, Rule.FASTER, 2, PEER),
    Goal("log_json", FAST, Rule.FASTER, 2, PEER),
    Goal("log_json_one_cpu", FAST, Rule.FASTER, 2, PEER),
    Goal("memory", FAST, Rule.AT_MOST_ABOVE, 1, FLOOR),
    Goal("invoke", INVOKE, Rule.AT_MOST, 150),
    Goal("hooks_one_cpu", HOOK_AT_SHUTDOWN, Rule.AT_MOST_TIMES, 1.05, NO_HOOKS),
    Goal("stream", EMULATE_FAST, Rule.AT_MOST, 150),
    Goal("emulate", EMULATE_FAST, Rule.AT_MOST_TIMES, 0.4, RIE_FAST),
    Goal("local_start", LOCAL, Rule.AT_MOST, 400),
    Goal("local_invoke", LOCAL, Rule.AT_MOST_TIMES, 0.5, RIE_FAST),
    *(
        Goal("freeze_back_to_back", freezer, Rule.AT_MOST_TIMES, 1.05, NOT_FROZEN)
        for freezer in (SIGNALS, "cgroup-v2")
    ),
)


class Outcome(Enum):
    """What a run says about a goal."""

    MET = "met"
    NOT_MET = "not met"
    UNDECIDED = "undecided"
    """The limit is inside the interval, or the figure cannot be right."""
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Verdict:
    """What a run says about a goal, and the figure with its interval, in the goal's own terms."""

    goal: Goal
    outcome: Outcome
    figure: str


def judge(goal: Goal, summaries: Mapping[str, Summary]) -> Verdict:
    """Compare one metric's `summaries`, by contestant, with a goal.

    Rounds are compared one by one, since contestants met the same conditions in them; the estimate is over rounds.
    """
    ours, other = summaries.get(goal.contestant), summaries.get(goal.reference)
    if ours is None or (other is None and goal.rule is not Rule.AT_MOST):
        return Verdict(goal, Outcome.NOT_MEASURED, "")
    unit = METRICS[goal.metric].unit
    if other is None:
        values, form = list(ours.round_medians), f"{{:.3g}} {unit}"
    else:
        pairs = list(zip(ours.round_medians, other.round_medians, strict=True))
        if goal.rule is Rule.AT_MOST_TIMES:
            values, form = [mine / theirs for mine, theirs in pairs], "{:.3f} ×"
        elif goal.rule is Rule.AT_MOST_ABOVE:
            values, form = [mine - theirs for mine, theirs in pairs], f"{{:+.2f}} {unit}"
        else:
            values, form = [theirs / mine for mine, theirs in pairs], "{:.2f} ×"
    found = estimate(values)
    figure = form.format(found.median)
    if found.low != found.high:
        number = form.split("}")[0] + "}"
        figure += f" ({number.format(found.low)} to {number.format(found.high)})"
    beats_floor = goal.reference == FLOOR and METRICS[goal.metric].strict_floor and found.median < 1
    if goal.rule is Rule.FASTER:
        met, missed = found.low >= goal.limit, found.high < goal.limit
    else:
        met, missed = found.high <= goal.limit, found.low > goal.limit
    if beats_floor or not (met or missed):
        return Verdict(goal, Outcome.UNDECIDED, figure)
    return Verdict(goal, Outcome.MET if met else Outcome.NOT_MET, figure)


def verdicts(summaries: Mapping[str, Mapping[str, Summary]]) -> list[Verdict]:
    """Judge every goal of the metrics that were measured; `summaries` is by metric, then by contestant."""
    return [judge(goal, summaries[goal.metric]) for goal in GOALS if goal.metric in summaries]
