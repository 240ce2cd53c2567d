"""Several environments: `--concurrency` of `caloric emulate` and `caloric invoke`."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from caloric._rust import EnvironmentPool, ExecutionEnvironment
from caloric.local.pool import SupervisedPool
from caloric.local.process import function_environment, supervise
from tests.emulator.emulators import (
    CALORIC,
    PATIENCE,
    Emulator,
    children_of,
    is_alive,
    runtime,
    wait_until_gone,
)
from tests.runtimes import COMMANDS, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from caloric._rust import InvokeResult
    from caloric.local.process import RuntimeProcess
    from tests.conftest import WriteFunction

FUNCTION = """
    import os, time

    FIRST = True

    def wait_for(path):
        while not os.path.exists(path):
            time.sleep(0.002)

    def handler(event, context):
        global FIRST
        first, FIRST = FIRST, False
        kind = event["kind"]
        if kind == "meet":
            # Nobody leaves before all are here.
            open(os.path.join(event["folder"], str(os.getpid())), "w").close()
            while len(os.listdir(event["folder"])) < event["count"]:
                time.sleep(0.002)
        elif kind == "wait":
            print("waiting for", event["path"], flush=True)
            wait_for(event["path"])
        elif kind == "die":
            os._exit(3)
        elif kind == "print":
            wait_for(event["path"])
            for number in range(event["lines"]):
                # In two writes, so that a line is often incomplete when it is read.
                os.write(1, b"<" + str(os.getpid()).encode())
                os.write(1, b">" * 60 + b"\\n")
        return {"pid": os.getpid(), "first": first, "tmp": os.environ["TMPDIR"]}
"""


@pytest.fixture
def emulator(write_function: WriteFunction) -> Iterator[Emulator]:
    """Return one with room for four environments."""
    with started(write_function(FUNCTION)) as emulator:
        yield emulator


def started(folder: Path, *options: str, concurrency: int = 4) -> Emulator:
    return Emulator(
        "caloric",
        folder,
        ["--", *runtime("caloric")],
        options=["--concurrency", str(concurrency), *options],
    )


def test_as_many_handlers_run_at_once_as_there_are_environments(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    event = {"kind": "meet", "folder": str(tmp_path / "here"), "count": 4}
    answers = [
        future.result(PATIENCE).json() for future in [emulator.start_invoking(event) for _ in range(4)]
    ]
    assert len({answer["pid"] for answer in answers}) == 4
    assert len({answer["tmp"] for answer in answers}) == 4
    assert all(answer["first"] for answer in answers)
    # All of them are kept, and used again.
    for name in os.listdir(tmp_path / "here"):
        (tmp_path / "here" / name).unlink()
    again = [future.result(PATIENCE).json() for future in [emulator.start_invoking(event) for _ in range(4)]]
    assert {answer["pid"] for answer in again} == {answer["pid"] for answer in answers}


def test_one_caller_after_the_other_is_served_by_one_process(emulator: Emulator) -> None:
    answers = [emulator.invoke({"kind": "pid"}).json() for _ in range(20)]
    assert len({answer["pid"] for answer in answers}) == 1
    assert [answer["first"] for answer in answers] == [True] + [False] * 19


def test_what_is_beyond_the_limit_waits(emulator: Emulator, tmp_path: Path) -> None:
    go = tmp_path / "go"
    running = [emulator.start_invoking({"kind": "wait", "path": str(go)}) for _ in range(4)]
    emulator.wait_for_log(lambda log: log.count("waiting for") == 4)
    waiting = [emulator.start_invoking({"kind": "wait", "path": str(go)}) for _ in range(3)]
    time.sleep(0.1)
    assert emulator.log.count("START RequestId") == 4
    assert not any(future.done() for future in [*running, *waiting])
    go.touch()
    pids = {future.result(PATIENCE).json()["pid"] for future in running}
    assert {future.result(PATIENCE).json()["pid"] for future in waiting} <= pids


def test_a_crash_and_a_timeout_are_their_own_environments_affair(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    with started(write_function(FUNCTION), "--timeout", "2", concurrency=3) as emulator:
        slow = emulator.start_invoking({"kind": "wait", "path": str(tmp_path / "never")})
        emulator.wait_for_log(lambda log: "waiting for" in log)
        assert emulator.invoke({"kind": "die"}).json()["errorType"] == "Runtime.ExitError"
        waiting = emulator.start_invoking({"kind": "wait", "path": str(go)})
        emulator.wait_for_log(lambda log: log.count("waiting for") == 2)
        assert emulator.invoke({"kind": "pid"}).json()["first"]
        go.touch()
        assert "pid" in waiting.result(PATIENCE).json()
        assert slow.result(PATIENCE).json()["errorType"] == "Sandbox.Timedout"
        assert emulator.invoke({"kind": "pid"}).status == 200


def test_a_slow_init_holds_up_its_own_invocation_only(write_function: WriteFunction, tmp_path: Path) -> None:
    source = f"""
        import os, time

        if os.path.exists({str(tmp_path / "slow")!r}):
            print("slow init", flush=True)
            while not os.path.exists({str(tmp_path / "go")!r}):
                time.sleep(0.002)

        def handler(event, context):
            if event:
                print("busy", flush=True)
                while not os.path.exists(event):
                    time.sleep(0.002)
            return os.getpid()
    """
    with started(write_function(source), concurrency=2) as emulator:
        first = emulator.invoke().json()
        busy = emulator.start_invoking(str(tmp_path / "enough"))
        emulator.wait_for_log(lambda log: "busy" in log)
        (tmp_path / "slow").touch()
        cold = emulator.start_invoking()
        emulator.wait_for_log(lambda log: "slow init" in log)
        (tmp_path / "enough").touch()
        assert busy.result(PATIENCE).json() == first
        assert [emulator.invoke().json() for _ in range(3)] == [first] * 3
        assert not cold.done()
        (tmp_path / "go").touch()
        assert cold.result(PATIENCE).json() != first


def test_lines_of_environments_stay_whole_and_each_has_a_log_tail(emulator: Emulator, tmp_path: Path) -> None:
    go = tmp_path / "go"
    event = {"kind": "print", "path": str(go), "lines": 300}
    calls = [emulator.start_invoking(event, X_Amz_Log_Type="Tail") for _ in range(4)]
    emulator.wait_for_log(lambda log: log.count("START RequestId") == 4)
    go.touch()
    pids = {call.result(PATIENCE).json()["pid"] for call in calls}
    log = emulator.wait_for_log(lambda log: log.count("REPORT RequestId") == 4)
    lines = [line for line in log.splitlines() if not re.match("START|END|REPORT|caloric emulate", line)]
    assert sorted(lines) == sorted(f"<{pid}{'>' * 60}" for pid in pids for _ in range(300))
    for call in calls:
        answer = call.result()
        tail = base64.b64decode(answer.headers["X-Amz-Log-Result"]).decode()
        assert set(re.findall(r"^<(\d+)>", tail, re.MULTILINE)) == {str(answer.json()["pid"])}
        assert f"END RequestId: {answer.headers['x-amzn-RequestId']}" in tail


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_end_of_the_command_is_the_end_of_all_environments(
    emulator: Emulator, number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    event = {"kind": "meet", "folder": str(tmp_path / "here"), "count": 3}
    answers = [
        future.result(PATIENCE).json() for future in [emulator.start_invoking(event) for _ in range(3)]
    ]
    emulator.start_invoking({"kind": "wait", "path": "/no/such/file"})
    emulator.wait_for_log(lambda log: "waiting for" in log)
    processes = children_of(emulator.process.pid)
    assert {answer["pid"] for answer in answers} <= set(processes)
    status = emulator.end(number)
    assert status == (-9 if number == signal.SIGKILL else 0)
    wait_until_gone(*processes)
    for answer in answers:
        deadline = time.monotonic() + PATIENCE
        while os.path.exists(answer["tmp"]):
            assert time.monotonic() < deadline, f"{answer['tmp']} is still there"
            time.sleep(0.005)


def test_each_environment_has_its_own_extension_and_they_share_the_layers(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    layer = tmp_path / "layer" / "extensions"
    layer.mkdir(parents=True)
    program = layer / "watcher"
    program.write_text(
        f"#!{os.path.realpath(COMMANDS['module'][0])} -IS\n"
        "import http.client, json, os\n"
        "api = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])\n"
        "def call(method, path, headers, body=b''):\n"
        "    api.request(method, '/2020-01-01/extension/' + path, body, headers)\n"
        "    response = api.getresponse()\n"
        "    return response.headers, response.read()\n"
        "name = {'Lambda-Extension-Name': 'watcher'}\n"
        "headers, _ = call('POST', 'register', name, json.dumps({'events': ['INVOKE', 'SHUTDOWN']}).encode())\n"
        "me = {'Lambda-Extension-Identifier': headers['Lambda-Extension-Identifier']}\n"
        "while True:\n"
        "    event = json.loads(call('GET', 'event/next', me)[1])\n"
        "    print(os.getpid(), event['eventType'], os.environ['CALORIC_OPT'], flush=True)\n"
        "    if event['eventType'] == 'SHUTDOWN':\n"
        "        break\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    (tmp_path / "here").mkdir()
    event = {"kind": "meet", "folder": str(tmp_path / "here"), "count": 2}
    options = ["--layer", str(tmp_path / "layer")]
    with started(write_function(FUNCTION), *options, concurrency=2) as emulator:
        for future in [emulator.start_invoking(event) for _ in range(2)]:
            assert future.result(PATIENCE).status == 200
        assert emulator.end() == 0
        seen = re.findall(r"^\[watcher\] (\d+) (INVOKE|SHUTDOWN) (.*)$", emulator.log, re.MULTILINE)
    by_kind = {kind: {pid for pid, kind_, _ in seen if kind_ == kind} for kind in ("INVOKE", "SHUTDOWN")}
    assert len(by_kind["INVOKE"]) == 2
    assert by_kind["SHUTDOWN"] == by_kind["INVOKE"]
    assert len({opt for _, _, opt in seen}) == 1


def test_each_restored_environment_is_one_of_its_own(write_function: WriteFunction, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    event = {"kind": "meet", "folder": str(tmp_path / "here"), "count": 2}
    with started(write_function(FUNCTION), "--snapstart", concurrency=2) as emulator:
        for future in [emulator.start_invoking(event) for _ in range(2)]:
            assert future.result(PATIENCE).status == 200
        emulator.wait_for_log(lambda log: log.count("Restore Duration") >= 2)


def test_invoke_runs_several_environments_at_once(write_function: WriteFunction, tmp_path: Path) -> None:
    folder = write_function(FUNCTION)
    (tmp_path / "here").mkdir()
    event = json.dumps({"kind": "meet", "folder": str(tmp_path / "here"), "count": 3})
    run = subprocess.run(
        [CALORIC, "invoke", "app.handler", "--repeat", "6", "--concurrency", "3", "--event", event, "--json"],
        cwd=folder,
        env=environment(""),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    documents = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(documents) == 6
    assert len({document["result"]["pid"] for document in documents}) == 3
    assert len({document["requestId"] for document in documents}) == 6
    for document in documents:
        assert document["logs"].count("START RequestId: " + document["requestId"]) == 1


def test_the_exclusive_options_are_named(tmp_path: Path) -> None:
    for arguments, sentence in (
        (
            ["--max-concurrency", "2"],
            "--concurrency and --max-concurrency (AWS_LAMBDA_MAX_CONCURRENCY) exclude",
        ),
        (["--runtime-api-address", "127.0.0.1:0"], "--runtime-api-address and --concurrency exclude"),
    ):
        command = [CALORIC, "emulate", "--concurrency", "2", *arguments, "--", "true"]
        run = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment(""),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert run.returncode == 2
        assert sentence in run.stderr


# ---- the pool itself -----------------------------------------------------------------------------------------------


def start_process(folder: Path) -> RuntimeProcess:
    made = ExecutionEnvironment(timeout_ms=20_000)
    variables = function_environment(made, base=environment(made.address), task_root=str(folder))
    return supervise(made, [*COMMANDS["fast"], "app.handler"], variables, cwd=str(folder))


def invoke_together(pool: EnvironmentPool, events: list[object]) -> list[InvokeResult]:
    results: list[InvokeResult] = []
    done = threading.Event()

    def take(result: InvokeResult) -> None:
        results.append(result)
        if len(results) == len(events):
            done.set()

    for event in events:
        pool.submit(json.dumps(event).encode(), take)
    assert done.wait(PATIENCE)
    return results


def test_when_no_more_can_be_made_those_that_are_there_do(write_function: WriteFunction) -> None:
    folder = write_function(FUNCTION)
    reported: list[Exception] = []
    made: list[RuntimeProcess] = []

    def start() -> RuntimeProcess:
        if len(made) == 2:
            raise OSError(24, "Too many open files")
        made.append(start_process(folder))
        return made[-1]

    with SupervisedPool(start, limit=10, report=reported.append) as pool:
        results = invoke_together(pool, [{"kind": "pid"}] * 12)
        assert len(pool) == 2
    assert [str(error) for error in reported] == ["[Errno 24] Too many open files"]
    assert len({json.loads(result.payload)["pid"] for result in results}) == 2
    assert len({result.request_id for result in results}) == 12


def test_closing_answers_those_who_wait_and_ends_all_processes(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    folder = write_function(FUNCTION)
    (tmp_path / "here").mkdir()
    results: list[InvokeResult] = []
    with SupervisedPool(lambda: start_process(folder), limit=2, report=print) as pool:
        meet = {"kind": "meet", "folder": str(tmp_path / "here"), "count": 2}
        pids = {json.loads(r.payload)["pid"] for r in invoke_together(pool, [meet, meet])}
        for _ in range(4):
            pool.submit(b'{"kind": "wait", "path": "/no/such/file"}', results.append)
    assert not any(is_alive(pid) for pid in pids)
    assert len(results) == 4
    assert {result.function_error for result in results} == {"Unhandled"}
    assert {result.error_type for result in results} == {"Sandbox.Failure"}
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(b"{}", print)
    assert pool.wait_until_wanted() is None


def test_a_value_that_cannot_be_sent_is_refused_at_once_though_all_are_busy(
    write_function: WriteFunction,
) -> None:
    folder = write_function(FUNCTION)
    with SupervisedPool(lambda: start_process(folder), limit=2, report=print) as pool:
        for _ in range(3):
            pool.submit(b'{"kind": "wait", "path": "/no/such/file"}', lambda _: None)
        with pytest.raises(ValueError, match="tenant_id holds control characters"):
            pool.submit(b"{}", lambda _: None, tenant_id="a\x01")


def test_a_pool_has_at_least_one_environment_and_closes_a_late_one() -> None:
    with ExecutionEnvironment() as first, ExecutionEnvironment() as late:
        with pytest.raises(ValueError, match="at least one"):
            EnvironmentPool(first, limit=0)
        pool = EnvironmentPool(first, limit=2)
        assert repr(pool) == "<EnvironmentPool of 1 environment>"
        pool.close()
        assert first.closed
        with pytest.raises(RuntimeError, match="closed"):
            pool.add(late, generation=0)


@pytest.mark.parametrize("limit", [1, 4])
def test_nothing_is_lost_while_environments_are_replaced(limit: int, write_function: WriteFunction) -> None:
    folder = write_function("import os\n\ndef handler(event, context):\n    return [event, os.getpid()]\n")
    made: list[RuntimeProcess] = []

    def start() -> RuntimeProcess:
        made.append(start_process(folder))
        return made[-1]

    results: list[InvokeResult] = []
    errors: list[Exception] = []

    def call(first: int) -> None:
        # One after the other, as a client does it.
        for number in range(first, first + 100):
            answered = threading.Event()

            def take(result: InvokeResult, answered: threading.Event = answered) -> None:
                results.append(result)
                answered.set()

            supervised.pool.submit(json.dumps(number).encode(), take)
            assert answered.wait(PATIENCE), f"invocation {number} was lost"

    def caller(first: int) -> None:
        try:
            call(first)
        except Exception as error:
            errors.append(error)

    supervised = SupervisedPool(start, limit=limit, report=errors.append)
    with supervised:
        callers = [threading.Thread(target=caller, args=(first,)) for first in range(0, 600, 100)]
        for thread in callers:
            thread.start()
        replaced = 0
        while any(thread.is_alive() for thread in callers):
            served = len(results)
            supervised.replace(start)
            replaced += 1
            # Each generation is to run something.
            while len(results) < served + 10 and any(thread.is_alive() for thread in callers):
                time.sleep(0.001)
        assert not errors
        assert replaced > 10
        assert {result.status for result in results} == {"success"}
        assert sorted(json.loads(result.payload)[0] for result in results) == list(range(600))
        assert len({json.loads(result.payload)[1] for result in results}) > 10
        assert len(supervised.pool) <= limit
    assert all(process.join(10) for process in made)
    assert not any(is_alive(json.loads(result.payload)[1]) for result in results)


def test_an_environment_for_replaced_ones_is_not_taken_in() -> None:
    with ExecutionEnvironment() as first, ExecutionEnvironment() as second, ExecutionEnvironment() as late:
        with EnvironmentPool(first, limit=2) as pool:
            for _ in range(2):
                pool.submit(b"{}", lambda _: None)
            generation = pool.wait_until_wanted()
            assert generation is not None
            pool.replace(second)
            assert first.closed
            assert not pool.add(late, generation=generation)
            assert not late.closed
            assert len(pool) == 1
            # It has no process, so what waits wants another one: of the new generation.
            assert pool.wait_until_wanted() == generation + 1
        assert second.closed
        with pytest.raises(RuntimeError, match="closed"):
            pool.replace(late)
        assert not late.closed


def test_replaced_environments_end_with_the_pool(write_function: WriteFunction) -> None:
    folder = write_function(FUNCTION)
    results: list[InvokeResult] = []
    with ExecutionEnvironment() as last, EnvironmentPool(last, limit=1) as pool:
        process = start_process(folder)
        pool.replace(process.environment)
        pool.submit(b'{"kind": "wait", "path": "/no/such/file"}', results.append)
        assert process.environment.wait_until_handed_out(timeout_s=PATIENCE)
        with ExecutionEnvironment() as successor:
            pool.replace(successor)
            assert not process.environment.closed
            pool.close()
            assert successor.closed
            assert process.join(PATIENCE)
    assert [result.error_type for result in results] == ["Sandbox.Failure"]
    assert process.pid is not None
    assert not is_alive(process.pid)
