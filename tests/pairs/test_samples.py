"""AWS's sample events, as real input: all of them through one process of every pair."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.pairs.differences import assert_result
from tests.parts import sample_events

if TYPE_CHECKING:
    from tests.pairs.function import Function, Pair


def sample_names() -> list[str]:
    from tests.parts import PartsMissingError

    try:
        return list(sample_events())
    except PartsMissingError as error:
        # Collecting must not fail; the test then does, with the reason.
        return [f"missing: {error}"]


@pytest.fixture(scope="module")
def samples() -> dict[str, bytes]:
    return sample_events()


@pytest.mark.parametrize("name", sample_names())
def test_a_sample_event_comes_back_equal(
    pair: Pair, function: Function, samples: dict[str, bytes], name: str
) -> None:
    answer = function.invoke_bytes(samples[name])
    assert json.loads(assert_result(pair, answer)) == json.loads(samples[name])
