"""Managed Instances with a plain handler in threads of one process (spec runtime-api 6)."""

from __future__ import annotations

import functools
import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_tasks import let_go, stdout, waiting
from tests.integration.test_workers import kill_all, managed, our_ways, workers

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

BEHAVE = "at_once.behave_in_threads"
threads = functools.partial(managed, CALORIC_CONCURRENCY="thread")


@our_ways
@pytest.mark.parametrize("awaited", [False, True])
def test_invocations_overlap_in_threads_and_each_knows_its_own(way: str, awaited: bool) -> None:
    with threads(way, "at_once.together_in_threads", 4, AWS_LAMBDA_LOG_FORMAT="JSON") as function:
        for number in range(4):
            function.submit(
                f"id-{number}",
                {"round": "r", "count": 4, "await": awaited},
                trace_id=f"Root=1-{number}",
                tenant_id=f"tenant-{number}",
            )
        answers = [function.answer(f"id-{number}") for number in range(4)]
        assert len(workers(function.process.pid)) == 1
        kill_all(function.process)
        records = [json.loads(line) for line in stdout(function)]
    assert len({answer["pid"] for answer in answers}) == 1
    assert len({answer["thread"] for answer in answers}) == 4
    for number, answer in enumerate(answers):
        known = [answer[name] for name in ("id", "trace", "tenant")]
        assert known == [f"id-{number}", f"Root=1-{number}", f"tenant-{number}"]
        assert answer["environment"] is None
    assert sorted((r["message"], r["requestId"], r["tenantId"]) for r in records) == sorted(
        (f"{where} of id-{number}", f"id-{number}", f"tenant-{number}")
        for number in range(4)
        for where in (("thread", "task") if awaited else ("thread",))
    )


@our_ways
def test_a_failing_invocation_leaves_the_others_alone(way: str) -> None:
    with threads(way, BEHAVE, 2) as function:
        waiting(function, "other")
        assert function.invoke({"do": "fail"})["errorMessage"] == "on purpose"
        assert function.invoke()["pid"] == let_go(function, "other")["pid"]


@our_ways
def test_streams_and_work_after_the_response_belong_to_their_invocation(way: str) -> None:
    with threads(way, BEHAVE, 2) as function:
        waiting(function, "other")
        request = {"do": "stream", "pieces": 3, "size": 2}
        stream = function.environment.invoke_with_response_stream(json.dumps(request).encode())
        assert b"".join(stream) == b"\0\0\1\1\2\2"
        stream = function.environment.invoke_with_response_stream(b'{"do": "opened"}')
        assert b"".join(stream) == b"from a thread"
        function.submit("after", {"do": "after"})
        assert function.answer("after")["id"] == "after"
        function.wait_for_file("work.done")
        assert let_go(function, "other")["id"] == "other"


@our_ways
def test_an_exit_takes_no_other_invocation_along(way: str) -> None:
    with threads(way, BEHAVE, 3) as function:
        before = function.invoke()["pid"]
        waiting(function, "other")
        failed = function.invoke({"do": "exit"})
        assert failed["errorType"] == "Runtime.ExitError"
        assert failed["errorMessage"] == "the handler has ended its process: SystemExit(3)"
        assert let_go(function, "other")["pid"] == before
        said = f"caloric: worker {before} ended with exit status 3; another one starts in 100 ms\n"
        function.wait(lambda: said in function.stderr)
        assert function.invoke()["pid"] != before


@our_ways
def test_an_exit_waits_for_nobody_whose_time_is_up(way: str) -> None:
    with threads(way, BEHAVE, 2) as function:
        before = function.invoke()["pid"]
        function.submit("stuck", {"do": "wait"}, timeout_ms=300)
        function.wait_for_file("stuck.begun")
        function.invoke({"do": "exit"})
        function.wait(lambda: f"worker {before} ended with exit status 3" in function.stderr)


HOOKS = """
    import os, pathlib, threading, time
    from caloric import lifecycle

    folder = pathlib.Path(os.environ["TEST_FOLDER"])

    @lifecycle.before_invoke
    def before(event, context):
        event["before"] = context.aws_request_id

    @lifecycle.after_invoke
    def after(event, context, result, error):
        print("after", context.aws_request_id, result, flush=True)

    @lifecycle.on_shutdown
    def shutdown():
        print("shutdown", threading.current_thread() is threading.main_thread(), flush=True)

    def handler(event, context):
        (folder / f"{context.aws_request_id}.begun").touch()
        while event.get("wait"):
            time.sleep(0.001)
        return event["before"]
"""


@our_ways
def test_hooks_run_around_each_invocation_and_at_sigterm(way: str, write_function: WriteFunction) -> None:
    with threads(way, "app.handler", 2, write_function(HOOKS)) as function:
        function.submit("waits", {"wait": True})
        function.wait_for_file("waits.begun")
        function.submit("a")
        assert function.answer("a") == "a"
        function.process.send_signal(signal.SIGTERM)
        assert function.end() == 0
        assert stdout(function) == ["after a a", "shutdown True"]
    assert function.stderr == ""


@our_ways
def test_sigterm_ends_it_at_once(way: str) -> None:
    with threads(way, BEHAVE, 2) as function:
        waiting(function, "other")
        began = time.monotonic()
        function.process.send_signal(signal.SIGTERM)
        assert function.end() == -signal.SIGTERM
        assert time.monotonic() - began < 10


@our_ways
def test_async_handlers_are_tasks_all_the_same(way: str) -> None:
    with threads(way, "at_once.together", 3) as function:
        answers = function.together("r", 3)
    assert len({(answer["pid"], answer["thread"]) for answer in answers}) == 1
