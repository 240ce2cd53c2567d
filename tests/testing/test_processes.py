"""Freeze checks: what is found, and that nothing is found where there is nothing."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from caloric.testing import LambdaFunction, LambdaFunctionError, processes
from caloric.testing.processes import ProcessInfo
from tests.freezers import FREEZERS, skip_unless_usable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import WriteFunction

    MakeFunction = Callable[..., LambdaFunction]

SOURCE = """
    import os, subprocess, threading, time

    def work():
        while True:
            time.sleep(0.001)

    def handler(event, context):
        if event == "thread":
            threading.Thread(target=work, daemon=True, name="worker").start()
        if event == "child":
            return subprocess.Popen(["sh", "-c", "while :; do sleep 0.01; done"]).pid
        if event == "sleeper":
            return subprocess.Popen(["sleep", "600"]).pid
        if event == "idle thread":
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return os.getpid()
"""


@pytest.fixture
def make(lambda_function: MakeFunction, write_function: WriteFunction) -> MakeFunction:
    root = write_function(SOURCE)
    return lambda **options: lambda_function("app.handler", task_root=root, timeout=20, **options)


@pytest.mark.parametrize("freezer", FREEZERS)
@pytest.mark.parametrize("event", ["nothing", "thread", "child", "sleeper"])
def test_a_frozen_environment_does_nothing(make: MakeFunction, event: str, freezer: str) -> None:
    skip_unless_usable(freezer)
    os.environ["CALORIC_FREEZER"] = freezer
    function = make()
    function.invoke(event)
    for _ in range(3):
        with function.assert_frozen():
            time.sleep(0.03)
        # D: a shell that has begun to start a program, which was stopped first. Z: a program that has just ended.
        assert {info.frozen or info.state in "TDZ" for info in function.processes()} == {True}
        function.invoke()


@pytest.mark.parametrize(
    ("states", "stops", "stopped"),
    [
        ("T", True, True),
        ("TT", True, True),
        ("Z", False, True),
        ("S", True, False),
        ("TR", True, False),
        # In vfork, say, until a stopped program goes on.
        ("D", True, True),
        ("TD", True, True),
        ("D", False, False),
    ],
)
def test_stopped_is_who_cannot_run_again_by_itself(states: str, stops: bool, stopped: bool) -> None:
    info = ProcessInfo(1, "program", states[0], 0)
    moment = processes._Moment(info, dict.fromkeys(range(len(states)), "0"), dict(enumerate(states)), stops)
    assert moment.is_stopped is stopped


def test_a_process_that_goes_on_is_found(make: MakeFunction) -> None:
    # Nobody outside wakes a control group's processes one by one.
    os.environ["CALORIC_FREEZER"] = "signals"
    function = make()
    pid = function.invoke("thread").payload
    message = rf"work while .* frozen: process {pid} \(.*app\.handler, state .\) "
    with pytest.raises(AssertionError, match=message), function.assert_frozen():
        go_on(pid)


def go_on(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.05)


def test_an_invocation_in_the_block_is_found_too(make: MakeFunction) -> None:
    function = make()
    function.invoke()
    message = "work while the environment was to be frozen"
    with pytest.raises(AssertionError, match=message), function.assert_frozen():
        function.invoke()


def test_a_process_that_ends_is_found(make: MakeFunction) -> None:
    # Version 1 of control groups kills nobody who is frozen.
    os.environ["CALORIC_FREEZER"] = "signals"
    function = make()
    pid = function.invoke("sleeper").payload
    with pytest.raises(AssertionError, match=rf"process {pid} \(.*\) has"), function.assert_frozen():
        kill(function, pid)


def kill(function: LambdaFunction, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while [info for info in function.processes() if info.pid == pid and info.state != "Z"]:
        time.sleep(0.001)


@pytest.mark.parametrize("event", ["nothing", "idle thread", "sleeper"])
def test_who_waits_does_no_work(make: MakeFunction, event: str) -> None:
    function = make(freeze=False)
    function.invoke(event)
    function.invoke()
    deadline = time.monotonic() + 30
    while True:
        # A thread and a child take a moment to begin to wait; who works is never quiet.
        try:
            with function.assert_no_background_work():
                time.sleep(0.1)
            break
        except AssertionError:
            assert time.monotonic() < deadline


def test_a_thread_that_works_is_found_by_name(make: MakeFunction) -> None:
    function = make(freeze=False)
    pid = function.invoke("thread").payload
    with (
        pytest.raises(
            AssertionError, match=rf"stands still on AWS .*: thread \d+ \(.+\) of process {pid} .* has run"
        ),
        function.assert_no_background_work(),
    ):
        time.sleep(0.2)


def test_a_child_that_works_is_found(make: MakeFunction) -> None:
    function = make(freeze=False)
    pid = function.invoke("child").payload
    with (
        pytest.raises(
            AssertionError, match=rf"of process {pid} \(sh -c while|was started|went on to its end"
        ),
        function.assert_no_background_work(),
    ):
        time.sleep(0.3)


def test_processes_are_described(make: MakeFunction) -> None:
    function = make(freeze=False)
    assert function.processes() == []
    runtime = function.invoke().payload
    child = function.invoke("sleeper").payload
    by_pid = {info.pid: info for info in function.processes()}
    assert by_pid.keys() == {runtime, child}
    assert isinstance(by_pid[child], ProcessInfo)
    assert by_pid[runtime].cpu_time_s >= 0


@pytest.mark.parametrize(
    ("options", "check", "message"),
    [
        ({"freeze": False}, "assert_frozen", r"never frozen \(freeze=False\)"),
        ({"max_concurrency": 1}, "assert_frozen", r"never frozen \(max_concurrency\)"),
        ({"in_process": True}, "assert_frozen", "no processes of its own"),
        ({"in_process": True}, "assert_no_background_work", "no processes of its own"),
        ({}, "assert_no_background_work", "use freeze=False"),
    ],
)
def test_checks_that_make_no_sense_say_so(
    make: MakeFunction, options: dict[str, object], check: str, message: str
) -> None:
    function = make(**options)
    function.invoke()
    with pytest.raises(LambdaFunctionError, match=message), getattr(function, check)():
        pass


def test_before_the_first_invocation_there_is_nothing_to_check(make: MakeFunction) -> None:
    with pytest.raises(LambdaFunctionError, match="before the first invocation"), make().assert_frozen():
        pass
