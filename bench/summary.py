"""From samples to the few figures that are shown and kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Below this many samples a 99th percentile is the maximum by another name.
SAMPLES_FOR_P99 = 300


@dataclass(frozen=True)
class Summary:
    """What is left of one contestant's samples of one metric, all in the metric's unit."""

    median: float
    minimum: float
    p99: float | None
    """None where there are too few samples for one."""
    count: int
    round_medians: tuple[float, ...]
    """The median of every round: shows whether the machine was quiet."""


def summarize(rounds: Sequence[Sequence[float]]) -> Summary:
    """Summarize the samples of all rounds together. Raises `ValueError` if there are none."""
    samples = sorted(sample for round_ in rounds for sample in round_)
    if not samples:
        raise ValueError("there are no samples to summarize")
    return Summary(
        median=median(samples),
        minimum=samples[0],
        p99=percentile(samples, 99) if len(samples) >= SAMPLES_FOR_P99 else None,
        count=len(samples),
        round_medians=tuple(median(round_) for round_ in rounds if round_),
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest of the `ordered` samples that `percent` of them do not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("there are no samples to take a percentile of")
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True)
class Estimate:
    """A median and what it may as well have been."""

    median: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of `values`, one per round, and its 95 % interval.

    The interval is between order statistics (the sign test turned around), so it assumes nothing about the noise. Of
    fewer than six values it is their whole range, since no interval of them reaches 95 %.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there are no rounds to estimate from")
    # The largest rank whose tail of the binomial distribution with p = 1/2 is at most 2.5 %.
    count, rank, tail = len(ordered), 0, 0.0
    while True:
        tail += math.comb(count, rank) / 2**count
        if tail > 0.025:
            break
        rank += 1
    rank = max(rank, 1)
    return Estimate(median(ordered), ordered[rank - 1], ordered[-rank])
