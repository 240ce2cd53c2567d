"""Time limits that run out without anybody waiting for them: real processes on a clock that is put forward."""

from __future__ import annotations

import json
import os
import queue
import time
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from caloric._rust import ExecutionEnvironment, InvokeResult, VirtualClock
from caloric.local.extensions import launch_extensions
from caloric.local.process import function_environment, supervise
from tests.runtimes import CALORIC, COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import MakeExtension, WriteFunction

any_way = pytest.mark.parametrize("way", COMMANDS)
our_ways = pytest.mark.parametrize("way", CALORIC)

LONG = 900
PATIENCE = 30

# `meet` tells the test that it is there and waits until the test lets it go on.
FUNCTION = """
    import os, threading, time

    def meet(name):
        os.close(os.open(name + ".arrived", os.O_CREAT))
        while not os.path.exists(name + ".go"):
            time.sleep(0.002)

    def handler(event, context):
        if event == "hang":
            meet("hang")
            threading.Event().wait()
        if event == "time":
            before, wall = context.get_remaining_time_in_millis(), time.time()
            meet("time")
            return before, context.get_remaining_time_in_millis(), time.time() - wall
        return context.get_remaining_time_in_millis()
"""
# What a tool patches makes Caloric run its loop in Python.
PATCHED = """
    from awslambdaric import bootstrap

    original = bootstrap.handle_event_request
    bootstrap.handle_event_request = lambda *arguments: original(*arguments)
"""


class Function:
    """A function on a clock, and the results that have come."""

    def __init__(self, environment: ExecutionEnvironment, folder: Path) -> None:
        self.environment = environment
        self.folder = folder
        self._results: queue.SimpleQueue[InvokeResult] = queue.SimpleQueue()

    def submit(self, event: object) -> None:
        self.environment.submit(json.dumps(event).encode(), self._results.put)

    def result(self) -> InvokeResult:
        return self._results.get(timeout=PATIENCE)

    def answer(self, event: object = None) -> Any:
        """Invoke the function and return what it returns."""
        if event is not None:
            self.submit(event)
        result = self.result()
        assert result.function_error is None, result.payload
        return json.loads(result.payload)

    def arrived(self, name: str) -> None:
        wait_until((self.folder / f"{name}.arrived").exists)

    def go_on(self, name: str) -> None:
        (self.folder / f"{name}.go").touch()


class Start(Protocol):
    """The type of the `start` fixture."""

    def __call__(
        self, clock: VirtualClock, way: str = "fast", *, source: str = FUNCTION, **options: Any
    ) -> Function: ...


@pytest.fixture
def start(write_function: WriteFunction) -> Iterator[Start]:
    """Return a function that starts one on a clock."""
    environments: list[ExecutionEnvironment] = []

    def make(
        clock: VirtualClock,
        way: str = "fast",
        *,
        source: str = FUNCTION,
        extensions: dict[str, str] | None = None,
        user: dict[str, str] | None = None,
        **options: Any,
    ) -> Function:
        folder = write_function(source, f"task{len(environments)}/app.py") / f"task{len(environments)}"
        paths = extensions or {}
        environment = ExecutionEnvironment(
            **{
                "timeout_ms": LONG * 1000,
                "keep_log": True,
                "extensions": list(paths),
                "clock": clock,
                **options,
            }
        )
        environments.append(environment)
        variables = function_environment(environment, task_root=str(folder), user=user)
        launch_extensions(environment, paths, variables)
        supervise(environment, [*COMMANDS[way], "app.handler"], variables, cwd=str(folder))
        return Function(environment, folder)

    yield make
    for environment in environments:
        environment.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)


# ---- the environment's time limits ----------------------------------------------------------------------------------


@any_way
def test_a_handler_that_never_returns_times_out_at_once(start: Start, way: str) -> None:
    clock = VirtualClock()
    function = start(clock, way)
    function.submit("hang")
    function.arrived("hang")
    clock.advance(LONG)
    result = function.result()
    assert result.error_type == "Sandbox.Timedout"
    assert result.duration_ms == LONG * 1000
    assert result.init_duration_ms is not None
    billed = LONG * 1000 + result.init_duration_ms
    assert billed <= result.billed_duration_ms <= billed + 1
    assert b"Duration: 900000.00 ms\t" in result.log
    assert b"Status: timeout" in result.log
    # The next one has a new process, and its own time.
    assert 0 < function.answer("remaining") <= LONG * 1000


def test_what_is_advanced_counts_as_duration(start: Start) -> None:
    clock = VirtualClock()
    function = start(clock)
    function.answer("warm")
    function.submit("time")
    function.arrived("time")
    clock.advance(600.5)
    function.go_on("time")
    result = function.result()
    assert result.function_error is None
    assert 600_500 <= result.duration_ms < 700_000
    assert result.billed_duration_ms >= 600_500
    assert clock.advanced == 600.5
    assert 600.5 < clock.elapsed < 700


def test_an_init_that_hangs_is_over_when_its_limit_is(start: Start) -> None:
    source = "import os, threading\nos.close(os.open('init', os.O_CREAT))\nthreading.Event().wait()\n"
    clock = VirtualClock()
    function = start(clock, source=source)
    function.submit("x")
    started = function.folder / "init"
    wait_until(started.exists)
    started.unlink()
    clock.advance(60)
    # It is run again within the invocation, whose limit is the next one.
    wait_until(started.exists)
    clock.advance(LONG)
    result = function.result()
    assert result.error_type == "Sandbox.Timedout"
    for phase in (b"init", b"invoke"):
        assert b"Phase: %s\tStatus: timeout" % phase in result.log
    # What goes beyond the limit is nobody's time.
    assert b"INIT_REPORT Init Duration: 10000.00 ms\tPhase: init" in result.log


def test_two_environments_on_one_clock(start: Start) -> None:
    clock = VirtualClock()
    functions = [start(clock), start(clock)]
    for function in functions:
        function.submit("hang")
        function.arrived("hang")
    clock.advance(LONG / 2)
    clock.advance(LONG / 2)
    for function in functions:
        assert function.result().error_type == "Sandbox.Timedout"


def test_an_extension_is_killed_when_its_shutdown_is_over_by_the_clock(
    start: Start, make_extension: MakeExtension, tmp_path: Path
) -> None:
    clock, journal = VirtualClock(), tmp_path / "journal"
    advanced = tmp_path / "advanced"
    function = start(
        clock,
        extensions={"late": str(make_extension("late", "wait-for-file"))},
        user={"JOURNAL": str(journal), "WAIT_FOR": str(advanced)},
        # The shutdown of a reset is that of the end.
        timeout_ms=3000,
    )
    function.submit("hang")
    function.arrived("hang")
    clock.advance(3)
    wait_until(lambda: '"eventType": "SHUTDOWN"' in journal.read_text(encoding="utf-8"))
    clock.advance(2)
    # If it is alive now, it writes that it is.
    advanced.touch()
    assert function.result().error_type == "Sandbox.Timedout"
    function.environment.close()
    assert "survived" not in journal.read_text(encoding="utf-8")


def test_waiting_for_an_invocation_to_be_handed_out(start: Start) -> None:
    clock = VirtualClock()
    function = start(clock)
    assert not function.environment.wait_until_handed_out(timeout_s=0)
    function.submit("hang")
    assert function.environment.wait_until_handed_out(1, timeout_s=PATIENCE)
    assert not function.environment.wait_until_handed_out(count=2, timeout_s=0)
    clock.advance(LONG)
    assert function.result().error_type == "Sandbox.Timedout"
    with pytest.raises(ValueError, match="timeout_s must be a time in seconds, not -1"):
        function.environment.wait_until_handed_out(timeout_s=-1)


# ---- what the function sees -----------------------------------------------------------------------------------------


def remaining(function: Function, clock: VirtualClock) -> tuple[int, int, float]:
    """The remaining time before and after 600 s, and how long it took by `time.time()`."""
    function.submit("time")
    function.arrived("time")
    clock.advance(600)
    function.go_on("time")
    before, after, wall = function.answer()
    return before, after, wall


@our_ways
@pytest.mark.parametrize("source", [FUNCTION, PATCHED + FUNCTION], ids=["loop", "compat-loop"])
def test_remaining_time_drops_by_what_was_advanced(start: Start, way: str, source: str) -> None:
    clock = VirtualClock()
    function = start(clock, way, source=source)
    clock.advance(100)
    before, after, wall = remaining(function, clock)
    assert LONG * 1000 - 60_000 < before <= LONG * 1000
    assert 600_000 <= before - after < 660_000
    assert wall < 60
    # What was advanced before counts for no later invocation, nor after a reset.
    assert LONG * 1000 - 60_000 < function.answer("remaining") <= LONG * 1000
    function.submit("hang")
    function.arrived("hang")
    clock.advance(LONG)
    assert function.result().error_type == "Sandbox.Timedout"
    assert LONG * 1000 - 60_000 < function.answer("remaining") <= LONG * 1000


def test_remaining_time_is_zero_at_the_end_and_not_less(start: Start) -> None:
    clock = VirtualClock()
    function = start(clock)
    function.environment.pause_timeout()
    function.submit("time")
    function.arrived("time")
    function.environment.pause_timeout()
    clock.advance(10 * LONG)
    function.go_on("time")
    assert function.answer()[1] == 0


def test_the_peer_keeps_real_time(start: Start) -> None:
    clock = VirtualClock()
    function = start(clock, "awslambdaric")
    clock.advance(100)
    before, after, wall = remaining(function, clock)
    assert LONG * 1000 - 60_000 < before <= LONG * 1000
    assert before - after < 60_000
    assert wall < 60
    assert LONG * 1000 - 60_000 < function.answer("remaining") <= LONG * 1000


@our_ways
def test_remaining_time_in_worker_processes(start: Start, way: str) -> None:
    clock = VirtualClock()
    function = start(clock, way, max_concurrency=2)
    clock.advance(100)
    before, after, _ = remaining(function, clock)
    assert LONG * 1000 - 60_000 < before <= LONG * 1000
    assert 600_000 <= before - after < 660_000
    function.submit("hang")
    function.arrived("hang")
    assert LONG * 1000 - 60_000 < function.answer("remaining") <= LONG * 1000
    clock.advance(LONG)
    assert function.result().error_type == "Sandbox.Timedout"


def test_remaining_time_after_a_restore(start: Start) -> None:
    clock = VirtualClock()
    function = start(clock, snap_start=True)
    clock.advance(100)
    before, after, _ = remaining(function, clock)
    assert LONG * 1000 - 60_000 < before <= LONG * 1000
    assert 600_000 <= before - after < 660_000


def test_who_does_not_pass_the_variable_on_has_real_time(start: Start) -> None:
    """A runtime on AWS, or with variables of its own making."""
    clock = VirtualClock()
    environment = ExecutionEnvironment(clock=clock)
    assert environment.clock_file is not None
    assert function_environment(environment)["CALORIC_CLOCK"] == environment.clock_file
    os.environ["CALORIC_CLOCK"] = "/left/over"
    with ExecutionEnvironment() as without:
        assert without.clock is None
        assert without.clock_file is None
        assert "CALORIC_CLOCK" not in function_environment(without)
    environment.close()
    with pytest.raises(RuntimeError, match="the execution environment is closed"):
        _ = environment.clock_file


def test_a_clock_that_cannot_be_read_is_named(start: Start) -> None:
    clock = VirtualClock()
    function = start(clock, user={"CALORIC_CLOCK": "/nowhere"})
    # What the environment sets is reserved.
    assert 0 < function.answer("remaining") <= LONG * 1000
    assert function.environment.clock_file is not None
    os.unlink(function.environment.clock_file)
    function.submit("remaining")
    result = function.result()
    assert result.error_type == "FileNotFoundError"
    assert os.fsencode(function.environment.clock_file) in result.payload


# ---- the class ------------------------------------------------------------------------------------------------------


def test_what_is_no_time_is_refused() -> None:
    clock = VirtualClock()
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds must be a time in seconds, not "):
            clock.advance(seconds=seconds)
    with pytest.raises(ValueError, match="more than a hundred years"):
        clock.advance(4e9)
    assert clock.advanced == 0
    clock.advance(1.5)
    assert repr(clock) == "<VirtualClock advanced by 1.5 s>"


def test_a_clock_may_be_advanced_by_who_is_told_of_an_end(start: Start) -> None:
    clock = VirtualClock()
    function = start(clock)
    ended: queue.SimpleQueue[float] = queue.SimpleQueue()

    def advance_again(_result: InvokeResult) -> None:
        clock.advance(1)
        ended.put(clock.advanced)

    function.environment.submit(b'"hang"', advance_again)
    function.arrived("hang")
    clock.advance(LONG)
    assert ended.get(timeout=PATIENCE) == LONG + 1


def test_an_environment_has_the_clock_it_was_given() -> None:
    clock = VirtualClock()
    with ExecutionEnvironment(clock=clock) as environment:
        assert environment.clock is clock
    clock.advance(1)
