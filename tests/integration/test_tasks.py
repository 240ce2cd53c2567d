"""Managed Instances with an `async` handler: invocations are tasks on one event loop (spec runtime-api 6)."""

from __future__ import annotations

import json
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.test_workers import HANDLERS, PATIENCE, kill_all, managed, our_ways, workers
from tests.runtimes import start
from tests.scripted_api import ScriptedApi, status

if TYPE_CHECKING:
    from caloric._rust import InvokeResult
    from tests.conftest import WriteFunction
    from tests.integration.test_workers import Function

BEHAVE = "at_once.behave"


def waiting(function: Function, name: str) -> None:
    """Begin an invocation that goes on until `let_go`."""
    function.submit(name, {"do": "wait"})
    function.wait_for_file(f"{name}.begun")


def let_go(function: Function, name: str) -> Any:
    (function.folder / f"{name}.go").touch()
    return function.answer(name)


def stdout(function: Function) -> list[str]:
    """What the function wrote, when it has been ended."""
    assert function.process.stdout is not None
    return function.process.stdout.read().decode().splitlines()


@our_ways
def test_invocations_overlap_in_one_process_and_each_knows_its_own(way: str) -> None:
    with managed(way, "at_once.together", 5) as function:
        for number in range(5):
            function.submit(
                f"id-{number}",
                {"round": "r", "count": 5},
                trace_id=f"Root=1-{number}",
                tenant_id=f"tenant-{number}",
            )
        answers = [function.answer(f"id-{number}") for number in range(5)]
        assert len(workers(function.process.pid)) == 1
    assert len({(answer["pid"], answer["thread"]) for answer in answers}) == 1
    assert answers[0]["parent"] == function.process.pid
    for number, answer in enumerate(answers):
        known = [answer[name] for name in ("id", "trace", "tenant")]
        assert known == [f"id-{number}", f"Root=1-{number}", f"tenant-{number}"]
        assert answer["environment"] is None


@our_ways
def test_log_records_carry_the_ids_of_their_task(way: str) -> None:
    with managed(way, "at_once.together", 3, AWS_LAMBDA_LOG_FORMAT="JSON") as function:
        for number in range(3):
            function.submit(f"id-{number}", {"round": "r", "count": 3}, tenant_id=f"tenant-{number}")
        for number in range(3):
            function.result(f"id-{number}")
        kill_all(function.process)
        records = [json.loads(line) for line in stdout(function)]
    assert sorted((r["message"], r["requestId"], r["tenantId"]) for r in records) == sorted(
        (f"{where} of id-{number}", f"id-{number}", f"tenant-{number}")
        for number in range(3)
        for where in ("task", "thread")
    )


@our_ways
def test_with_prefork_import_one_worker_serves_too(way: str) -> None:
    with managed(way, "at_once.together", 3, CALORIC_PREFORK_IMPORT="1") as function:
        assert len({answer["pid"] for answer in function.together("r", 3)}) == 1


@our_ways
def test_one_at_a_time_without_pipelining(way: str) -> None:
    with managed(way, BEHAVE, 2, CALORIC_PIPELINE="0") as function:
        assert len({function.invoke()["pid"] for _ in range(10)}) == 1


# ---- errors ---------------------------------------------------------------------------------------------------------


@our_ways
def test_a_failing_task_leaves_the_others_alone(way: str) -> None:
    with managed(way, BEHAVE, 2) as function:
        waiting(function, "other")
        failed = function.invoke({"do": "fail"})
        assert (failed["errorType"], failed["errorMessage"]) == ("ValueError", "on purpose")
        assert [line.split(", ")[2].split("\n")[0] for line in failed["stackTrace"]] == [
            "in behave",
            "in _fail",
        ]
        cancelled = function.invoke({"do": "cancel"})
        assert cancelled["errorType"] == "CancelledError"
        assert cancelled["errorMessage"] == "the handler was cancelled"
        result = function.environment.invoke(json.dumps({"do": "unmarshallable"}).encode())
        assert json.loads(result.payload)["errorType"] == "Runtime.MarshalError"
        result = function.environment.invoke(b"{")
        assert json.loads(result.payload)["errorType"] == "Runtime.UnmarshalError"
        result = function.environment.invoke(b"{}", client_context="{")
        assert json.loads(result.payload)["errorType"] == "Runtime.LambdaContextUnmarshalError"
        assert function.invoke({"do": "stop the loop"}) == "went on"
        assert function.invoke({"do": "http"})["statusCode"] == 201
        assert let_go(function, "other")["id"] == "other"


@our_ways
def test_a_task_that_exits_takes_no_other_one_along(way: str) -> None:
    with managed(way, BEHAVE, 3) as function:
        before = function.invoke()["pid"]
        waiting(function, "first")
        waiting(function, "second")
        failed = function.invoke({"do": "exit"})
        assert failed["errorType"] == "Runtime.ExitError"
        assert failed["errorMessage"] == "the handler has ended its process: SystemExit(3)"
        for name in ("first", "second"):
            assert let_go(function, name)["pid"] == before
        said = f"caloric: worker {before} ended with exit status 3; another one starts in 100 ms\n"
        function.wait(lambda: said in function.stderr)
        assert function.invoke()["pid"] != before


@our_ways
def test_an_exit_after_the_response_takes_no_other_one_along(way: str) -> None:
    with managed(way, BEHAVE, 2) as function:
        waiting(function, "other")
        assert function.invoke({"do": "exit after"}) == "answered"
        pid = let_go(function, "other")["pid"]
        function.wait(lambda: f"worker {pid} ended with exit status 5" in function.stderr)


@our_ways
def test_who_cancels_all_tasks_loses_no_slot(way: str) -> None:
    with managed(way, BEHAVE, 4) as function:
        waiting(function, "runs")
        function.submit("cancels", {"do": "cancel all"})
        function.wait_for_file("blocking")
        function.submit("comes", {"do": "wait"})
        (function.folder / "unblock").touch()
        for name in ("cancels", "runs"):
            assert function.answer(name)["errorType"] == "CancelledError"
        # Before it began, while it ran, or not at all: that is a matter of when it came.
        assert let_go(function, "comes").get("errorType") in ("CancelledError", None)
        assert len({answer["pid"] for answer in (function.invoke() for _ in range(8))}) == 1


@our_ways
def test_an_exit_waits_for_nobody_whose_time_is_up(way: str) -> None:
    with managed(way, BEHAVE, 2) as function:
        before = function.invoke()["pid"]
        function.submit("stuck", {"do": "wait"}, timeout_ms=300)
        function.wait_for_file("stuck.begun")
        function.invoke({"do": "exit"})
        function.wait(lambda: f"worker {before} ended with exit status 3" in function.stderr)


@our_ways
def test_a_process_that_crashes_is_replaced(way: str) -> None:
    with managed(way, BEHAVE, 2) as function:
        before = function.invoke()["pid"]
        function.submit("lost", {"do": "crash"}, timeout_ms=1000)
        function.wait(lambda: f"worker {before} ended with exit status 4" in function.stderr)
        # One that is given to a slot of the process that has just ended is lost with it: nobody could know.
        answers = (function.environment.invoke(b"{}", timeout_ms=2000) for _ in range(5))
        pid = next(json.loads(answer.payload)["pid"] for answer in answers if answer.function_error is None)
        assert pid != before


@our_ways
def test_an_init_error_is_reported(way: str, write_function: WriteFunction) -> None:
    folder = write_function("async def handler(event, context): pass\nraise ValueError('on purpose')")
    with managed(way, "app.handler", 2, folder) as function:
        assert function.invoke()["errorMessage"] == "on purpose"
        assert function.end() == 1


@our_ways
def test_a_late_answer_is_refused_and_the_slot_goes_on(way: str) -> None:
    with managed(way, BEHAVE, 1) as function:
        function.submit("late", {"do": "wait"}, timeout_ms=100)
        function.wait_for_file("late.begun")
        assert function.answer("late")["errorType"] == "Sandbox.Timedout"
        (function.folder / "late.go").touch()
        assert function.invoke()["pid"]
        function.wait(lambda: "caloric: the answer to late was not accepted: 410 " in function.stderr)


@our_ways
def test_when_no_slot_gets_through_the_process_is_replaced(way: str) -> None:
    with ScriptedApi([status(500, "InternalServerError")] * 5) as api:
        variables = {"AWS_LAMBDA_MAX_CONCURRENCY": "1", "LAMBDA_TASK_ROOT": str(HANDLERS)}
        with start(way, BEHAVE, HANDLERS, api.address, **variables) as process:
            requests = api.wait_for(6)
            kill_all(process)
            err = process.communicate(timeout=PATIENCE)[1].decode()
    assert requests[5].connection != requests[4].connection
    assert "asking again in 800 ms (attempt 5 of 5)" in err
    assert "0 invocations at once are still possible" in err
    assert "ended with exit status 1; another one starts in 100 ms\n" in err


# ---- streams --------------------------------------------------------------------------------------------------------


@our_ways
@pytest.mark.parametrize("what", ["stream", "plain stream", "opened in thread"])
def test_a_slow_reader_blocks_no_other_task(way: str, what: str) -> None:
    pieces, size = 300, 100_000
    request = {"do": what, "pieces": pieces, "size": size}
    with managed(way, BEHAVE, 2) as function:
        stream = function.environment.invoke_with_response_stream(json.dumps(request).encode())
        first = next(stream)
        pids = {function.invoke()["pid"] for _ in range(20)}
        if what != "plain stream":
            # It waits for its reader, and has not filled the memory with the rest.
            assert int((function.folder / "written").read_text() or 0) < pieces
        received = first + b"".join(stream)
        assert stream.result().function_error is None
    assert len(pids) == 1
    assert received == b"".join(bytes([number % 256]) * size for number in range(pieces))


@our_ways
def test_a_stream_can_be_opened_and_written_to_by_threads(way: str) -> None:
    with managed(way, BEHAVE, 2) as function:
        stream = function.environment.invoke_with_response_stream(b'{"do": "opened"}')
        assert b"".join(stream) == b"from the task, from a thread"
        assert stream.content_type == "text/plain"
        assert stream.result().function_error is None


@our_ways
def test_a_stream_that_fails_midway_says_so(way: str) -> None:
    with managed(way, BEHAVE, 2) as function:
        waiting(function, "other")
        request = {"do": "stream", "pieces": 2, "size": 3, "fails": True}
        stream = function.environment.invoke_with_response_stream(json.dumps(request).encode())
        assert b"".join(stream) == b"\0\0\0\1\1\1"
        result = stream.result()
        assert json.loads(result.payload)["errorMessage"] == "midway"
        assert let_go(function, "other")["id"] == "other"
        assert function.invoke()["pid"]


# ---- after the response, hooks, signals -----------------------------------------------------------------------------


@our_ways
def test_work_after_the_response_keeps_its_slot_and_no_other(way: str) -> None:
    with managed(way, BEHAVE, 2) as function:
        results: list[Any] = []
        came = threading.Event()

        def settle(result: InvokeResult) -> None:
            results.append(result)
            came.set()

        function.environment.submit(b'{"do": "after"}', settle, request_id="after", trace_id="Root=1-after")
        function.wait_for_file("work.begun")
        # The platform has the answer; the other slot serves.
        assert came.wait(PATIENCE)
        assert json.loads(results[0].payload)["id"] == "after"
        waiting(function, "other")
        (function.folder / "work.go").touch()
        function.wait_for_file("work.done")
        assert function.invoke()["pid"] == let_go(function, "other")["pid"]
        kill_all(function.process)
        out = "\n".join(stdout(function))
    assert "worked for Root=1-after" in out
    assert "after ZeroDivisionError: " in out


HOOKS = """
    import asyncio, logging, os, pathlib, sys, time
    from caloric import lifecycle

    folder = pathlib.Path(os.environ["TEST_FOLDER"])
    loop = None

    def say(*words):
        print(*words, flush=True)

    @lifecycle.on_init
    async def init():
        global loop
        loop = asyncio.get_running_loop()

    @lifecycle.before_invoke
    async def before(event, context):
        await asyncio.sleep(0)
        event["before"] = context.aws_request_id
        if event.get("fail before"):
            raise ValueError("before")

    @lifecycle.after_invoke
    async def after(event, context, result, error):
        await asyncio.sleep(0)
        say("after", context.aws_request_id, result, repr(error))

    @lifecycle.on_shutdown
    async def shutdown():
        await asyncio.sleep(0.01)
        say("shutdown", asyncio.get_running_loop() is loop)

    @lifecycle.on_shutdown
    def plain_shutdown():
        say("plain shutdown")

    async def handler(event, context):
        (folder / f"{context.aws_request_id}.begun").touch()
        while event.get("busy"):
            time.sleep(0.001)
        while event.get("wait"):
            await asyncio.sleep(0.001)
        if event.get("fail"):
            raise ValueError("on purpose")
        return event["before"]
"""


@our_ways
def test_hooks_run_in_each_task(way: str, write_function: WriteFunction) -> None:
    with managed(way, "app.handler", 2, write_function(HOOKS)) as function:
        function.submit("waits", {"wait": True})
        function.wait_for_file("waits.begun")
        function.submit("a")
        assert function.answer("a") == "a"
        function.submit("b", {"fail": True})
        assert function.answer("b")["errorMessage"] == "on purpose"
        function.submit("c", {"fail before": True})
        assert function.answer("c")["errorMessage"] == "before"
        kill_all(function.process)
        said = [line for line in stdout(function) if line.startswith("after")]
    assert said == [
        "after a a None",
        "after b None ValueError('on purpose')",
        "after c None ValueError('before')",
    ]


@our_ways
@pytest.mark.parametrize("busy", [True, False])
def test_sigterm_runs_the_shutdown_hooks(way: str, busy: bool, write_function: WriteFunction) -> None:
    with managed(way, "app.handler", 2, write_function(HOOKS)) as function:
        function.submit("running", {"busy": True} if busy else {"wait": True})
        function.wait_for_file("running.begun")
        function.process.send_signal(signal.SIGTERM)
        assert function.end() == 0
        said = stdout(function)
    # The loop of a task that has been interrupted cannot be entered: the hook has another one.
    assert said == ["plain shutdown", f"shutdown {not busy}"]
    assert function.stderr == ""


@our_ways
def test_a_loops_own_signal_handler_runs(way: str, write_function: WriteFunction) -> None:
    folder = write_function("""
        import asyncio, os, pathlib, signal

        async def handler(event, context):
            told = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
            (pathlib.Path(os.environ["TEST_FOLDER"]) / "begun").touch()
            await told.wait()
            return "finished"
    """)
    with managed(way, "app.handler", 2, folder) as function:
        function.submit("it")
        function.wait_for_file("begun")
        function.process.send_signal(signal.SIGTERM)
        assert function.answer("it") == "finished"


# ---- the variable ---------------------------------------------------------------------------------------------------


@our_ways
def test_an_async_handler_can_have_processes_of_its_own(way: str) -> None:
    with managed(way, "at_once.together", 2, CALORIC_CONCURRENCY="process") as function:
        answers = function.together("r", 2)
    assert len({answer["pid"] for answer in answers}) == 2
    assert all(answer["environment"] == answer["trace"] for answer in answers)


@our_ways
def test_what_returns_something_to_await_can_be_served_as_tasks(
    way: str, write_function: WriteFunction
) -> None:
    folder = write_function("""
        import functools
        from at_once import together

        @functools.wraps(together)
        def handler(event, context):
            return together(event, context)
    """)
    with managed(
        way, "app.handler", 3, folder, PYTHONPATH=str(HANDLERS), CALORIC_CONCURRENCY="task"
    ) as function:
        assert len({answer["pid"] for answer in function.together("r", 3)}) == 1


@our_ways
def test_another_value_ends_the_process(way: str) -> None:
    with managed(way, BEHAVE, 2, CALORIC_CONCURRENCY="fork") as function:
        assert function.end() == 1
    assert function.stderr == (
        'caloric: CALORIC_CONCURRENCY is "fork": it takes task, thread or process, or is left out for tasks where the '
        "handler is async, and processes where it is not\n"
    )


@our_ways
def test_a_tool_that_patches_the_runtime_has_processes(way: str, write_function: WriteFunction) -> None:
    folder = write_function("""
        import awslambdaric.lambda_runtime_marshaller
        from at_once import together as handler
    """)
    with managed(way, "app.handler", 2, folder, PYTHONPATH=str(HANDLERS)) as function:
        assert len({answer["pid"] for answer in function.together("r", 2)}) == 2
        function.wait(lambda: "a tool has patched the runtime" in function.stderr)
