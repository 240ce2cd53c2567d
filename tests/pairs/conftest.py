"""Fixtures that make a test run once for every pair."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pairs.function import PAIRS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.pairs.function import Function, Pair

HANDLERS = Path(__file__).parent.parent / "handlers"


@pytest.fixture(scope="module", params=PAIRS, ids=str)
def pair(request: pytest.FixtureRequest) -> Pair:
    """An endpoint and a runtime."""
    chosen: Pair = request.param
    return chosen


@pytest.fixture(scope="module")
def function(pair: Pair) -> Iterator[Function]:
    """The function of `handlers/behaviours.py`, one process per file: tests must leave it alive."""
    with pair.start(HANDLERS, "behaviours.handler") as started:
        yield started
