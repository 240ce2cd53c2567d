"""Time limits that a test need not wait for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from caloric.testing import LambdaFunction, LambdaFunctionError, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import WriteFunction

    MakeFunction = Callable[..., LambdaFunction]

SOURCE = """
    import time

    def handler(event, context):
        begun = context.get_remaining_time_in_millis()
        while context.get_remaining_time_in_millis() > event:
            time.sleep(0.001)
        return begun, context.get_remaining_time_in_millis()

    def sleeps(event, context):
        time.sleep(event)

    hook = None

    def calls(event, context):
        begun = context.get_remaining_time_in_millis()
        hook()
        return begun, context.get_remaining_time_in_millis()
"""


@pytest.fixture
def make(
    lambda_function: MakeFunction, write_function: WriteFunction, virtual_clock: VirtualClock
) -> MakeFunction:
    root = write_function(SOURCE)
    return lambda handler, **options: lambda_function(handler, task_root=root, clock=virtual_clock, **options)


def test_a_timeout_needs_no_waiting(make: MakeFunction, virtual_clock: VirtualClock) -> None:
    function = make("app.sleeps", timeout=900)
    began = time.monotonic()
    invocation = function.begin(2000)
    invocation.wait_until_running()
    virtual_clock.advance(901)
    result = invocation.result(30)
    assert time.monotonic() - began < 60
    assert result.status == "timeout"
    assert result.error is not None
    assert result.error.message.endswith("Task timed out after 900.00 seconds")
    assert result.report.duration_ms == pytest.approx(900_000, rel=0.01)


def test_the_remaining_time_drops(make: MakeFunction, virtual_clock: VirtualClock) -> None:
    invocation = make("app.handler", timeout=900).begin(100_000)
    invocation.wait_until_running()
    virtual_clock.advance(850)
    begun, left = invocation.result(30).payload
    assert begun <= 900_000
    assert 0 < left <= 50_000


def test_so_it_does_in_process(make: MakeFunction, virtual_clock: VirtualClock) -> None:
    function = make("app.calls", timeout=900, in_process=True)
    # Only there can the handler's module be reached.
    function.invoke(None)
    import sys

    app: Any = sys.modules["app"]
    app.hook = lambda: virtual_clock.advance(850)
    begun, left = function.invoke(None).payload
    assert 890_000 < begun <= 900_000
    assert 30_000 < left <= 50_000


def test_nothing_runs_in_process_before_it_is_asked_for(make: MakeFunction) -> None:
    invocation = make("app.handler", in_process=True).begin(0)
    with pytest.raises(LambdaFunctionError, match="when its result is asked for"):
        invocation.wait_until_running()


def test_who_has_finished_is_not_waited_for(make: MakeFunction) -> None:
    invocation = make("app.nothing").begin(0)
    invocation.result(30)
    invocation.wait_until_running()
