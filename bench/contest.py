"""Contestants take turns, round by round, so that a machine that slows down slows down all of them."""

from __future__ import annotations

import gc
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.summary import Summary, summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class WrongAnswerError(Exception):
    """A contestant does not do what it is timed for; the message says what it does instead."""


class Contestant(ABC):
    """Something that can be timed, by the name that the table shows."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def check(self) -> None:
        """Start what is needed, and warm up. Raises `WrongAnswerError` if an answer is wrong."""

    @abstractmethod
    def sample(self) -> Mapping[str, Sequence[float]]:
        """Run one round and return samples by metric, in the metrics' units. Raises `WrongAnswerError`."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Stop what was started. Called once, also after a failure."""


@dataclass
class Results:
    """What a run found, by metric."""

    summaries: dict[str, dict[str, Summary]] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    """Who was not timed, or not to the end, and why; by contestant and measure."""


def contest(
    measure: str,
    contestants: Sequence[Contestant],
    rounds: int,
    results: Results,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Check all `contestants`, let them take turns for `rounds` rounds, and add their summaries to `results`.

    One that answers wrongly is listed in `results.wrong` and has no summary; the others go on. Turns are shuffled, the
    same way in every run: what the last one leaves behind (caches, how deep the CPUs sleep) changes a figure by a
    fifth, and in a fixed order it would always be the same one's gift. `on_step` is called after each check and each
    turn: `len(contestants) * (rounds + 1)` times where nobody fails.
    """
    shuffle = random.Random(len(contestants)).shuffle
    samples: dict[str, dict[str, list[Sequence[float]]]] = {}
    running = []
    try:
        for contestant in contestants:
            try:
                contestant.check()
                running.append(contestant)
            except WrongAnswerError as error:
                results.wrong[f"{measure}: {contestant.name}"] = str(error)
            on_step()
        gc.collect()
        for _ in range(rounds):
            turns = running.copy()
            shuffle(turns)
            for contestant in turns:
                try:
                    for metric, values in contestant.sample().items():
                        samples.setdefault(metric, {}).setdefault(contestant.name, []).append(values)
                except WrongAnswerError as error:
                    results.wrong[f"{measure}: {contestant.name}"] = str(error)
                    running.remove(contestant)
                    for by_name in samples.values():
                        by_name.pop(contestant.name, None)
                on_step()
    finally:
        for contestant in contestants:
            contestant.close()
    for metric, by_name in samples.items():
        # In the order in which they were given, whoever took the first turn.
        results.summaries[metric] = {
            contestant.name: summarize(by_name[contestant.name])
            for contestant in contestants
            if contestant.name in by_name
        }
