"""Worker processes on Managed Instances (spec runtime-api 6.2): who lives, who dies, and who hears of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from caloric._rust import ExecutionEnvironment
from tests.runtimes import CALORIC, COMMANDS, environment, start
from tests.scripted_api import ACCEPTED, HANG, ScriptedApi, event, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from caloric._rust import InvokeResult
    from tests.conftest import WriteFunction

PATIENCE = 20.0
HANDLERS = Path(__file__).parent.parent / "handlers"

every_way = pytest.mark.parametrize("way", COMMANDS)
our_ways = pytest.mark.parametrize("way", CALORIC)


class Function:
    """A managed function that was started, and the endpoint it talks to."""

    def __init__(
        self, environment: ExecutionEnvironment, process: subprocess.Popen[bytes], folder: Path
    ) -> None:
        self.environment = environment
        self.process = process
        self.folder = folder
        self.stderr = ""
        self._results: dict[str, InvokeResult] = {}
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._came:
                self.stderr += line.decode()
                self._came.notify_all()

    def submit(self, request_id: str, event: object = None, **options: Any) -> None:
        self.environment.submit(
            json.dumps(event or {}).encode(), self._settle, request_id=request_id, **options
        )

    def _settle(self, result: InvokeResult) -> None:
        with self._came:
            self._results[result.request_id] = result
            self._came.notify_all()

    def result(self, request_id: str) -> InvokeResult:
        self.wait(lambda: request_id in self._results)
        return self._results[request_id]

    def answer(self, request_id: str) -> Any:
        return json.loads(self.result(request_id).payload)

    def invoke(self, event: object = None) -> Any:
        return json.loads(self.environment.invoke(json.dumps(event or {}).encode()).payload)

    def together(self, name: str, count: int) -> list[Any]:
        """The answers of `count` invocations that run at the same time."""
        ids = [f"{name}-{number}" for number in range(count)]
        for request_id in ids:
            self.submit(request_id, {"round": name, "count": count})
        return [self.answer(request_id) for request_id in ids]

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._came:
            assert self._came.wait_for(condition, PATIENCE), f"{self._results}\n{self.stderr}"

    def wait_for_file(self, name: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"{name} never came: {self.stderr}"
            time.sleep(0.002)

    def end(self) -> int:
        """Wait for the end of the main process, and return how it ended."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code


@contextlib.contextmanager
def managed(
    way: str, handler: str, count: int = 2, folder: Path = HANDLERS, **variables: str
) -> Iterator[Function]:
    with (
        tempfile.TemporaryDirectory() as notes,
        ExecutionEnvironment(max_concurrency=count, timeout_ms=60_000, init_timeout_ms=60_000) as endpoint,
        start(
            way,
            handler,
            folder,
            endpoint.address,
            AWS_LAMBDA_MAX_CONCURRENCY=str(count),
            LAMBDA_TASK_ROOT=str(folder),
            TEST_FOLDER=notes,
            **variables,
        ) as process,
    ):
        function = Function(endpoint, process, Path(notes))
        try:
            yield function
        finally:
            kill_all(process)
            function.end()


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill the main process and its workers: the peer's outlive it, and hold the pipes open."""
    # The main process first, before it can say that a worker ended.
    for pid in [process.pid, *workers(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def workers(pid: int) -> list[int]:
    """The children of a process; none if it has ended."""
    try:
        return [
            int(child)
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        ]
    except FileNotFoundError:
        return []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while alive := {pid for pid in pids if is_alive(pid)}:
        assert time.monotonic() < deadline, f"{alive} of {pids} live on"
        time.sleep(0.005)


# ---- the variable ---------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("value", ["abc", "", "1.5"])
def test_a_value_that_is_no_number_ends_the_process(way: str, value: str) -> None:
    with ScriptedApi([]) as api:
        process = start(way, "managed.who", HANDLERS, api.address, AWS_LAMBDA_MAX_CONCURRENCY=value)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert not api.requests
    if way in CALORIC:
        assert err.decode() == (
            f"caloric: AWS_LAMBDA_MAX_CONCURRENCY is {value!r} and not a whole number: on Lambda Managed Instances it "
            "is the number of worker processes, anywhere else it must not be set\n"
        )


@every_way
@pytest.mark.parametrize("value", ["0", "-1"])
def test_without_a_worker_there_is_nothing_to_do(way: str, value: str) -> None:
    with ScriptedApi([]) as api:
        process = start(way, "managed.who", HANDLERS, api.address, AWS_LAMBDA_MAX_CONCURRENCY=value)
        assert process.communicate(timeout=PATIENCE) == (b"", b"")
        assert process.returncode == 0
        assert not api.requests


# ---- who does what --------------------------------------------------------------------------------------------------


@every_way
def test_each_worker_imports_the_handler_and_knows_its_own_invocation(way: str) -> None:
    with managed(way, "managed.together", 3) as function:
        for number in range(3):
            request = {"round": "r", "count": 3}
            function.submit(
                f"id-{number}", request, trace_id=f"Root=1-{number}", tenant_id=f"tenant-{number}"
            )
        answers = [function.answer(f"id-{number}") for number in range(3)]
        main = function.process.pid
    assert len({answer["pid"] for answer in answers}) == 3
    for number, answer in enumerate(answers):
        assert answer["imported_by"] == answer["pid"] != main
        assert answer["parent"] == main
        known = [answer[name] for name in ("id", "trace", "tenant")]
        assert known == [f"id-{number}", f"Root=1-{number}", f"tenant-{number}"]


@every_way
def test_log_records_carry_the_ids_of_their_workers_invocation(way: str) -> None:
    with managed(way, "managed.together", 3, AWS_LAMBDA_LOG_FORMAT="JSON") as function:
        for number in range(3):
            function.submit(f"id-{number}", {"round": "r", "count": 3}, tenant_id=f"tenant-{number}")
        for number in range(3):
            function.result(f"id-{number}")
        kill_all(function.process)
        assert function.process.stdout is not None
        records = [json.loads(line) for line in function.process.stdout]
    assert sorted(
        (r["message"], r["requestId"], r["tenantId"]) for r in records if r["message"].startswith("of ")
    ) == [(f"of id-{number}", f"id-{number}", f"tenant-{number}") for number in range(3)]


@our_ways
def test_the_handler_is_imported_once_where_that_is_asked_for(way: str) -> None:
    with managed(way, "managed.together", 3, CALORIC_PREFORK_IMPORT="1") as function:
        answers = function.together("r", 3)
        assert {answer["imported_by"] for answer in answers} == {function.process.pid}
        assert len({answer["pid"] for answer in answers}) == 3


@our_ways
def test_a_failed_import_before_the_fork_is_reported_once(way: str, write_function: WriteFunction) -> None:
    folder = write_function("import nowhere_to_be_found")
    with ScriptedApi([ACCEPTED]) as api:
        variables = {"AWS_LAMBDA_MAX_CONCURRENCY": "4", "CALORIC_PREFORK_IMPORT": "1"}
        process = start(way, "app.handler", folder, api.address, **variables)
        out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert [request.path for request in api.requests] == ["/2018-06-01/runtime/init/error"]
        assert out.decode().count("[ERROR] Runtime.ImportModuleError") == 1


@our_ways
def test_threads_that_will_be_missing_are_told_of(way: str, write_function: WriteFunction) -> None:
    folder = write_function("""
        import threading

        threading.Thread(target=threading.Event().wait, daemon=True).start()

        def handler(event, context):
            return threading.active_count()
    """)
    with managed(way, "app.handler", 1, folder, CALORIC_PREFORK_IMPORT="1") as function:
        assert function.invoke() == 1
        function.wait(lambda: "importing the handler has started threads (1)" in function.stderr)


# ---- init errors ----------------------------------------------------------------------------------------------------


@every_way
def test_an_init_error_is_reported_once_in_effect(way: str, write_function: WriteFunction) -> None:
    folder = write_function("import nowhere_to_be_found")
    with managed(way, "app.handler", 3, folder) as function:
        answer = function.invoke()
        assert answer["errorType"] == "Runtime.ImportModuleError"
        assert (
            answer["errorMessage"] == "Unable to import module 'app': No module named 'nowhere_to_be_found'"
        )
        if way in CALORIC:
            assert function.end() == 1, "the peer ends with 0"
            assert function.stderr == ""


@our_ways
def test_workers_that_leave_at_import_take_their_status_along(
    way: str, write_function: WriteFunction
) -> None:
    folder = write_function("import sys; sys.exit(7)")
    with managed(way, "app.handler", 3, folder) as function:
        assert function.end() == 7


@our_ways
def test_a_worker_that_cannot_load_what_another_could_is_started_again(
    way: str, write_function: WriteFunction
) -> None:
    folder = write_function("""
        import os, pathlib
        from managed import together as handler

        folder = pathlib.Path(os.environ["TEST_FOLDER"])
        try:
            (folder / "first").touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            raise RuntimeError("on purpose")
    """)
    with managed(way, "app.handler", 2, folder, PYTHONPATH=str(HANDLERS)) as function:
        function.wait_for_file("first")
        # The first invocation ends with the error that was reported, on either side of what is loaded then.
        function.invoke()
        pids = {answer["pid"] for answer in function.together("both", 2)}
        assert len(pids) == 2


# ---- the end of a worker --------------------------------------------------------------------------------------------


@our_ways
@pytest.mark.parametrize(
    ("end", "how"),
    [({"status": 3}, "ended with exit status 3"), ({"signal": 9}, "was ended by signal 9")],
    ids=["exit", "signal"],
)
def test_a_worker_that_ends_is_replaced(way: str, end: dict[str, int], how: str) -> None:
    with managed(way, "managed.crash", 1) as function:
        before = function.invoke()["pid"]
        function.submit("lost", end)
        after = function.invoke()["pid"]
        assert after != before
        said = f"caloric: worker {before} {how}; another one starts in 100 ms\n"
        function.wait(lambda: function.stderr == said)


@our_ways
@pytest.mark.parametrize(("end", "code"), [({"status": 5}, 5), ({"status": 0}, 1), ({"signal": 9}, 137)])
def test_when_no_worker_is_left_the_process_fails(way: str, end: dict[str, int], code: int) -> None:
    with managed(way, "managed.crash", 1) as function:
        for number in range(4):
            function.submit(str(number), end)
        assert function.end() == code
        last = function.stderr.splitlines()[-1]
        assert re.fullmatch(r"caloric: worker \d+ .*, the 4th end within 60 s: it is not replaced", last)
        assert len(function.stderr.splitlines()) == 4


# ---- signals --------------------------------------------------------------------------------------------------------


@our_ways
def test_sigterm_ends_all_of_them(way: str) -> None:
    with managed(way, "managed.together", 3) as function:
        pids = {answer["pid"] for answer in function.together("r", 3)}
        function.process.terminate()
        assert function.end() == -signal.SIGTERM
        assert function.stderr == ""
        wait_until_gone(pids)


@our_ways
def test_an_invocation_may_finish_after_sigterm(way: str) -> None:
    with managed(way, "managed.survive", 1) as function:
        function.submit("a")
        function.wait_for_file("begun")
        function.process.terminate()
        assert function.answer("a") == "finished"
        assert function.process.poll() is None, "a worker that handles the signal decides for itself"


@our_ways
def test_the_exit_status_of_a_sigterm_handler_is_kept(way: str, write_function: WriteFunction) -> None:
    folder = write_function("""
        import signal, sys

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))

        def handler(event, context):
            pass
    """)
    with managed(way, "app.handler", 2, folder) as function:
        function.invoke()
        function.process.terminate()
        # A worker that was still importing has no handler yet.
        assert function.end() in (7, -signal.SIGTERM)


@our_ways
def test_ctrl_c_ends_all_of_them_without_a_word(way: str) -> None:
    with managed(way, "managed.together", 3) as function:
        pids = {answer["pid"] for answer in function.together("r", 3)}
        for pid in [function.process.pid, *pids]:
            # A terminal tells each process of the group.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        assert function.end() == -signal.SIGINT
        assert function.stderr == ""
        wait_until_gone(pids)


@our_ways
@pytest.mark.parametrize("prefork", ["0", "1"])
def test_workers_do_not_outlive_a_killed_main_process(way: str, prefork: str) -> None:
    with managed(way, "managed.together", 3, CALORIC_PREFORK_IMPORT=prefork) as function:
        pids = {answer["pid"] for answer in function.together("r", 3)}
        function.process.kill()
        wait_until_gone(pids)


@our_ways
@pytest.mark.parametrize("prefork", ["0", "1"])
def test_a_worker_has_the_signal_mask_and_actions_it_would_have_by_itself(
    way: str, prefork: str, write_function: WriteFunction
) -> None:
    folder = write_function("""
        import signal

        signal.signal(signal.SIGTERM, print)

        def handler(event, context):
            return [
                len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
                signal.getsignal(signal.SIGTERM) is print,
                signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
                signal.set_wakeup_fd(-1),
            ]
    """)
    with managed(way, "app.handler", 1, folder, CALORIC_PREFORK_IMPORT=prefork) as function:
        assert function.invoke() == [0, True, True, -1]


# ---- what goes wrong with the Runtime API ---------------------------------------------------------------------------


@our_ways
@pytest.mark.parametrize("execution_env", ["", "AWS_Lambda_python3.13"])
def test_a_failing_next_is_tried_five_times(way: str, execution_env: str) -> None:
    failure = status(500, "InternalServerError")
    steps = [failure, failure, failure, failure, event({}, "a"), ACCEPTED, HANG]
    with ScriptedApi([*steps]) as api:
        variables = {"AWS_LAMBDA_MAX_CONCURRENCY": "1", "AWS_EXECUTION_ENV": execution_env}
        process = start(
            way, "managed.who", HANDLERS, api.address, LAMBDA_TASK_ROOT=str(HANDLERS), **variables
        )
        with process:
            calls = [request.call for request in api.wait_for(7)]
            kill_all(process)
            err = process.communicate(timeout=PATIENCE)[1].decode().splitlines()
    assert calls == ["next"] * 5 + ["response", "next"]
    assert [line.rpartition("; ")[2] for line in err] == [
        f"asking again in {delay} ms (attempt {attempt} of 5)"
        for attempt, delay in ((2, 100), (3, 200), (4, 400), (5, 800))
    ]


@our_ways
def test_a_worker_that_never_gets_through_ends_and_is_replaced(way: str) -> None:
    with ScriptedApi([status(500, "InternalServerError")] * 5) as api:
        variables = {"AWS_LAMBDA_MAX_CONCURRENCY": "1", "LAMBDA_TASK_ROOT": str(HANDLERS)}
        with start(way, "managed.who", HANDLERS, api.address, **variables) as process:
            requests = api.wait_for(6)
            kill_all(process)
            err = process.communicate(timeout=PATIENCE)[1].decode()
    assert requests[5].connection != requests[4].connection
    assert re.search(r"caloric: worker \d+ ended with exit status 1; another one starts in 100 ms\n", err)


@our_ways
def test_a_refused_connection_is_tried_again_too(way: str) -> None:
    variables = {"AWS_LAMBDA_MAX_CONCURRENCY": "1", "LAMBDA_TASK_ROOT": str(HANDLERS)}
    with socket.socket() as deaf:
        # Bound, so that nobody else gets the port, and not listening.
        deaf.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        with start(way, "managed.who", HANDLERS, address, **variables) as process:
            assert process.stderr is not None
            lines = [process.stderr.readline().decode() for _ in range(5)]
            kill_all(process)
    assert all("cannot connect to the Runtime API" in line for line in lines)
    assert "(attempt 5 of 5)" in lines[3]
    assert "attempt" not in lines[4]


@every_way
def test_an_answer_that_cannot_be_posted_does_not_end_the_worker(way: str) -> None:
    steps = [event({}, "a"), status(500), event({}, "b"), ACCEPTED, HANG]
    with ScriptedApi([*steps]) as api:
        variables = {"AWS_LAMBDA_MAX_CONCURRENCY": "1", "CALORIC_PIPELINE": "0"}
        process = start(
            way, "managed.who", HANDLERS, api.address, LAMBDA_TASK_ROOT=str(HANDLERS), **variables
        )
        with process:
            requests = api.wait_for(5)
            kill_all(process)
            err = process.communicate(timeout=PATIENCE)[1].decode()
    assert [request.call for request in requests] == ["next", "response", "next", "response", "next"]
    if way in CALORIC:
        assert err.startswith("caloric: the answer to a is lost: POST /runtime/invocation/<id>/response: ")
    posts = [request.json()["id"] for request in requests if request.call == "response"]
    assert posts == ["a", "b"]


@every_way
def test_a_late_answer_is_refused_and_the_worker_goes_on(way: str) -> None:
    with managed(way, "managed.slow", 1) as function:
        function.submit("late", timeout_ms=100)
        function.wait_for_file("begun")
        assert function.answer("late")["errorType"] == "Sandbox.Timedout"
        (function.folder / "go").touch()
        assert function.invoke() == "done"
        if way in CALORIC:
            function.wait(lambda: "caloric: the answer to late was not accepted: 410 " in function.stderr)


# ---- logs -----------------------------------------------------------------------------------------------------------


class LogSocket:
    """Lambda's side of the log socket: keeps what each connection sent."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "log.sock")
        self.received: list[bytes] = []
        self._changed = threading.Condition()
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(self.path)
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.received.append(b"")
                threading.Thread(
                    target=self._read, args=(connection, len(self.received) - 1), daemon=True
                ).start()

    def _read(self, connection: socket.socket, number: int) -> None:
        with connection:
            while got := connection.recv(4096):
                with self._changed:
                    self.received[number] += got
                    self._changed.notify_all()

    def wait_for(self, condition: Callable[[list[bytes]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.received), PATIENCE), self.received

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@every_way
def test_each_worker_writes_to_lambdas_log_socket(way: str) -> None:
    # Not pytest's folder: the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="log") as folder:
        log = LogSocket(folder)
        with managed(way, "managed.write", 2, _LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET=log.path) as function:
            function.invoke()
            log.wait_for(lambda got: len(got) == 4 and any(b"raw" in part for part in got))
            log.wait_for(lambda got: any(b"to stderr" in part for part in got))
            kill_all(function.process)
            assert function.process.stdout is not None
            assert function.process.stdout.read() == b""
        log.close()
    written = sorted(part for part in log.received if part)
    assert len(written) == 2, "one connection for each stream of the worker that wrote"
    streams = {part.splitlines()[0]: part for part in written}
    assert streams[b"to stderr"] == b"to stderr\n"
    assert re.fullmatch(rb"to stdout\n\[WARNING\]\t.*\tlogged\n\n?raw\n", streams[b"to stdout"])


@our_ways
def test_without_a_usable_log_socket_the_log_goes_to_stdout(way: str) -> None:
    with managed(way, "managed.write", 1, _LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET="/nowhere") as function:
        function.invoke()
        function.process.kill()
        assert function.process.stdout is not None
        assert function.process.stdout.read().startswith(b"to stdout\n")
        function.wait(
            lambda: "the log goes to standard output, the log socket cannot be used: " in function.stderr
        )


@pytest.mark.parametrize("log_format", ["JSON", "Text"])
@pytest.mark.parametrize("framed", [True, False])
@every_way
def test_the_workers_are_announced_at_debug_and_never_write_frames(
    way: str, log_format: str, framed: bool
) -> None:
    """The record goes to the log descriptor, which no worker uses (spec runtime-api 6.2)."""
    reader, writer = os.pipe()
    with ExecutionEnvironment(max_concurrency=2, timeout_ms=60_000) as endpoint:
        variables = {
            "AWS_LAMBDA_MAX_CONCURRENCY": "2",
            "AWS_LAMBDA_LOG_LEVEL": "DEBUG",
            "AWS_LAMBDA_LOG_FORMAT": log_format,
            "LAMBDA_TASK_ROOT": str(HANDLERS),
            **({"_LAMBDA_TELEMETRY_LOG_FD": str(writer)} if framed else {}),
        }
        process = subprocess.Popen(
            [*COMMANDS[way], "managed.write"],
            cwd=HANDLERS,
            env=environment(endpoint.address, **variables),
            pass_fds=[writer],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with process:
            os.close(writer)
            endpoint.invoke(b"{}")
            kill_all(process)
            assert process.stdout is not None
            out = process.stdout.read()
        frames = b""
        while got := os.read(reader, 65536):
            frames += got
        os.close(reader)
    assert b"logged" in out
    announced = frames if framed else out
    assert announced.count(b"runtime_worker_pool_initializing") == 1
    if framed:
        assert frames[:3] == b"\xa5\x5a\x00"
        assert b"runtime_worker_pool_initializing" not in out
    line = announced[16:] if framed else out.splitlines(keepends=True)[0]
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "<time>", line.decode())
    if log_format == "JSON":
        record = json.loads(text)
        assert record == {
            "timestamp": "<time>",
            "level": "DEBUG",
            "message": {
                "event": "runtime_worker_pool_initializing",
                "workerCount": 2,
                "executionEnvironmentMaxConcurrency": 2,
            },
            "logger": "root",
            "requestId": "",
        }
    else:
        assert text.rstrip("\n") == (
            "[DEBUG]\t<time>\t\t{'event': 'runtime_worker_pool_initializing', 'workerCount': 2, "
            "'executionEnvironmentMaxConcurrency': 2}"
        )
