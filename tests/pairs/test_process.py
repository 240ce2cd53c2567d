"""The function's process: kept warm, replaced after a timeout or an exit (spec runtime-api 7)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.pairs.conftest import HANDLERS
from tests.pairs.differences import (
    assert_exit,
    assert_function_error,
    assert_result,
    assert_timeout,
    facts,
    survives_a_refused_answer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.pairs.function import Function, Pair

PROCESS = {"case": "process"}


@pytest.fixture(scope="module")
def mortal(pair: Pair) -> Iterator[Function]:
    """The function with a short timeout, whose process the tests may end; starting anew is part of an invocation."""
    with pair.start(HANDLERS, "behaviours.handler", timeout_s=3) as started:
        yield started


def test_twenty_invocations_run_in_one_process(function: Function) -> None:
    answers = [function.invoke(PROCESS).json() for _ in range(20)]
    assert len({answer["pid"] for answer in answers}) == 1
    first = answers[0]["invocations"]
    assert [answer["invocations"] for answer in answers] == list(range(first, first + 20))


def test_errors_do_not_end_the_process(pair: Pair, function: Function) -> None:
    before = function.invoke(PROCESS).json()
    assert_function_error(pair, function.invoke({"case": "raising", "message": "x"}))
    assert_function_error(pair, function.invoke({"case": "python_value", "value": "set"}))
    assert_function_error(pair, function.invoke_bytes(b"{"))
    after = function.invoke(PROCESS).json()
    # The event that was no JSON never reached the handler.
    assert after == {"pid": before["pid"], "invocations": before["invocations"] + 3}


def test_a_timeout_kills_the_process_and_the_next_invocation_starts_anew(
    pair: Pair, mortal: Function
) -> None:
    before = mortal.invoke(PROCESS).json()
    assert_timeout(pair, mortal.invoke({"case": "sleeping", "seconds": 30}))
    after = mortal.invoke(PROCESS).json()
    assert after["pid"] != before["pid"]
    assert after["invocations"] == 1


@pytest.mark.parametrize(
    ("event", "how"),
    [
        ({"case": "exiting", "status": 0}, "without providing a reason"),
        ({"case": "exiting", "status": 3}, "with error: exit status 3"),
        ({"case": "exiting", "status": "a message"}, "with error: exit status 1"),
        ({"case": "exiting_at_once", "status": 0}, "without providing a reason"),
        ({"case": "exiting_at_once", "status": 255}, "with error: exit status 255"),
        ({"case": "killed"}, "with error: signal: killed"),
    ],
    ids=["sys.exit(0)", "sys.exit(3)", "sys.exit(str)", "os._exit(0)", "os._exit(255)", "SIGKILL"],
)
def test_an_exit_is_told_and_the_next_invocation_starts_anew(
    mortal: Function, event: dict[str, object], how: str
) -> None:
    before = mortal.invoke(PROCESS).json()
    assert_exit(mortal.invoke(event), how)
    after = mortal.invoke(PROCESS).json()
    assert after["pid"] != before["pid"]
    assert after["invocations"] == 1


def test_too_large_a_response_is_told_and_the_next_invocation_works(pair: Pair, mortal: Function) -> None:
    before = mortal.invoke(PROCESS).json()
    document = assert_function_error(pair, mortal.invoke({"case": "text", "length": 7_000_000}))
    assert document["errorType"] == "Function.ResponseSizeTooLarge"
    assert re.fullmatch(facts(pair).too_large, document["errorMessage"])
    after = mortal.invoke(PROCESS)
    assert_result(pair, after)
    if survives_a_refused_answer(pair):
        assert after.json() == {"pid": before["pid"], "invocations": before["invocations"] + 2}
    else:
        assert after.json()["invocations"] == 1
