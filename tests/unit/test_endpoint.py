"""The execution environment: invocations, life cycle, limits and logs, with a scripted runtime behind it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from caloric._rust import ExecutionEnvironment, InvokeResult
from caloric.local import invoke_async
from caloric.local.process import RuntimeProcess, function_environment, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCRIPT = [sys.executable, "-I", "-S", str(Path(__file__).with_name("endpoint_runtime.py"))]


class Start(Protocol):
    """The type of the `start` fixture."""

    def __call__(self, *init: str, output: int | None = None, **options: Any) -> ExecutionEnvironment: ...


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that makes an environment with the scripted runtime behind it."""
    environments: list[ExecutionEnvironment] = []
    processes: list[RuntimeProcess] = []

    def make(*init: str, output: int | None = None, **options: Any) -> ExecutionEnvironment:
        environment = ExecutionEnvironment(**{"keep_log": True, "timeout_ms": 10_000, **options})
        environments.append(environment)
        command = [*SCRIPT, *(init or ("ready",))]
        processes.append(supervise(environment, command, function_environment(environment), output_fd=output))
        return environment

    yield make
    for environment in environments:
        environment.close()
    for process in processes:
        assert process.join(5), "the supervisor ends when its environment is closed"


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children_of(pid: int) -> set[int]:
    paths = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for path in paths for child in path.read_text(encoding="ascii").split()}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False  # The one that listed the folder.


def lines(result: InvokeResult) -> list[str]:
    return result.log.decode().splitlines()


# ---- invocations -------------------------------------------------------------------------------------------------


def test_an_invocation_returns_what_the_runtime_posted(start: Start) -> None:
    result = start().invoke(b"echo")
    assert (result.payload, result.status, result.function_error, result.error_type) == (
        b"done",
        "success",
        None,
        None,
    )
    assert result.content_type == "application/json"
    assert result.executed_version == "$LATEST"
    assert re.fullmatch(r"[0-9a-f-]{36}", result.request_id)
    assert 0 < result.response_latency_ms <= result.duration_ms


def test_only_the_first_invocation_of_a_process_has_an_init(start: Start) -> None:
    environment = start()
    first, second = environment.invoke(b"echo"), environment.invoke(b"echo")
    assert first.init_duration_ms is not None
    assert second.init_duration_ms is None
    assert set(first.phases) == {
        "queued_ms",
        "process_start_ms",
        "runtime_init_ms",
        "response_ms",
        "after_response_ms",
    }
    assert set(second.phases) == {"queued_ms", "response_ms", "after_response_ms"}
    parts = first.phases["process_start_ms"] + first.phases["runtime_init_ms"]
    assert parts == pytest.approx(first.init_duration_ms)
    assert first.billed_duration_ms >= first.init_duration_ms + first.duration_ms


def test_what_travels_with_an_event_reaches_the_runtime(start: Start) -> None:
    environment = start(function_name="orders", region="eu-west-1", account_id="123456789012")
    result = environment.invoke(
        b"headers",
        content_type="text/x-command",
        request_id="my-id",
        client_context='{"client": {}}',
        cognito_identity='{"cognitoIdentityId": "me"}',
        trace_id="Root=1-2-3;Sampled=1",
        tenant_id="blue",
        timeout_ms=5000,
    )
    headers = dict(line.split(": ", 1) for line in result.payload.decode().splitlines())
    assert environment.function_arn == "arn:aws:lambda:eu-west-1:123456789012:function:orders"
    assert headers["lambda-runtime-aws-request-id"] == result.request_id == "my-id"
    assert headers["lambda-runtime-invoked-function-arn"] == environment.function_arn
    assert headers["lambda-runtime-client-context"] == '{"client": {}}'
    assert (
        headers["lambda-runtime-cognito-identity"] == '{"cognitoidentityid": "me"}'
    )  # The script lowers it.
    assert headers["lambda-runtime-trace-id"] == "root=1-2-3;sampled=1"
    assert headers["lambda-runtime-aws-tenant-id"] == "blue"
    assert headers["content-type"] == "text/x-command"
    remaining = int(headers["lambda-runtime-deadline-ms"]) - time.time() * 1000
    assert 3000 < remaining < 5001
    assert result.content_type == "text/plain"


def test_an_error_of_the_function_leaves_the_process_running(start: Start) -> None:
    environment = start()
    before = environment.invoke(b"pid").payload
    result = environment.invoke(b"fail")
    assert result.payload == b'{"errorMessage":"on purpose","errorType":"ValueError"}'
    assert (result.status, result.function_error, result.error_type) == ("error", "Unhandled", "ValueError")
    assert "Status" not in lines(result)[-1], "an error the function reports is none of the platform's"
    assert environment.invoke(b"pid").payload == before


def test_invocations_from_many_threads_are_run_in_turn(start: Start) -> None:
    environment = start()
    results: list[InvokeResult] = []
    threads = [threading.Thread(target=lambda: results.append(environment.invoke(b"pid"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({result.payload for result in results}) == 1
    assert len({result.request_id for result in results}) == 20


def test_submit_calls_back_on_another_thread(start: Start) -> None:
    called = threading.Event()
    seen: list[tuple[InvokeResult, int]] = []

    def callback(result: InvokeResult) -> None:
        seen.append((result, threading.get_ident()))
        called.set()

    start().submit(b"echo", callback, request_id="one")
    assert called.wait(10)
    (result, thread) = seen[0]
    assert (result.request_id, result.payload) == ("one", b"done")
    assert thread != threading.get_ident()


@pytest.mark.filterwarnings("default")
def test_a_callback_that_raises_is_reported_and_harms_nobody(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = start()
    raised: list[BaseException | None] = []
    reported = threading.Event()

    def hook(unraisable: Any) -> None:
        raised.append(unraisable.exc_value)
        reported.set()

    monkeypatch.setattr(sys, "unraisablehook", hook)
    environment.submit(b"echo", lambda _result: 1 / 0)
    assert reported.wait(10)
    assert isinstance(raised[0], ZeroDivisionError)
    assert environment.invoke(b"echo").payload == b"done"


def test_invocations_can_be_awaited_together(start: Start) -> None:
    first, second = start(), start()

    async def both() -> tuple[InvokeResult, InvokeResult]:
        return await asyncio.gather(
            invoke_async(first, b"sleep 0.1"), invoke_async(second, b"sleep 0.1", request_id="two")
        )

    results = asyncio.run(both())
    assert [result.payload for result in results] == [b"done", b"done"]
    assert results[1].request_id == "two"


def test_measured_cycles_are_the_times_between_deliveries(start: Start) -> None:
    environment = start()
    cycles = environment.measure_cycles(b"sleep 0.01", 5)
    assert len(cycles) == 4
    assert all(10_000_000 < cycle < 2_000_000_000 for cycle in cycles)
    assert environment.measure_cycles(event=b"echo", count=0) == []


def test_a_failure_while_measuring_is_an_error(start: Start) -> None:
    with pytest.raises(RuntimeError, match="on purpose"):
        start().measure_cycles(b"fail", 3)


def test_a_value_that_is_no_header_is_named(start: Start) -> None:
    with pytest.raises(ValueError, match="tenant_id holds control characters"):
        start().invoke(b"echo", tenant_id="a\x00b")


def test_ctrl_c_ends_the_wait_within_50_ms(start: Start) -> None:
    environment = start()
    environment.invoke(b"echo")

    class Interrupted(Exception):  # noqa: N818
        pass

    def interrupt(_signal: int, _frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        began = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupted):
            environment.invoke(b"sleep 5")
        waited = time.monotonic() - began
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert 0.2 <= waited < 2


# ---- how a process ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (b"exit 0", "Runtime exited without providing a reason"),
        (b"exit 3", "Runtime exited with error: exit status 3"),
        (b"signal 9", "Runtime exited with error: signal: killed"),
        (b"signal 15", "Runtime exited with error: signal: terminated"),
    ],
)
def test_an_exit_fails_the_invocation_and_the_next_one_gets_a_new_process(
    start: Start, event: bytes, reason: str
) -> None:
    environment = start()
    before = environment.invoke(b"pid").payload
    result = environment.invoke(event)
    message = f"RequestId: {result.request_id} Error: {reason}"
    assert result.payload.decode() == f'{{"errorType":"Runtime.ExitError","errorMessage":"{message}"}}'
    assert (result.status, result.error_type) == ("error", "Runtime.ExitError")
    assert lines(result)[-1].endswith("\tStatus: error\tError Type: Runtime.ExitError")
    after = environment.invoke(b"pid")
    assert after.payload != before
    # Its init is part of the invocation, as on AWS.
    assert after.init_duration_ms is None
    assert after.phases["runtime_init_ms"] <= after.duration_ms


def test_an_answer_posted_with_the_last_breath_counts(start: Start) -> None:
    environment = start()
    for _ in range(20):
        result = environment.invoke(b"answer-and-exit 1")
        assert (result.payload, result.function_error) == (b"last words", None)
        assert (result.status, result.error_type) == ("error", "Runtime.ExitError")


def test_an_exit_while_idle_is_noticed(start: Start) -> None:
    environment = start()
    pid = int(environment.invoke(b"pid").payload)
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)
    result = environment.invoke(b"pid")
    assert result.status == "success"
    assert int(result.payload) != pid


def test_a_timeout_kills_the_process_and_its_children(start: Start) -> None:
    environment = start(timeout_ms=400)
    pid = int(environment.invoke(b"pid").payload)
    child = int(environment.invoke(b"child").payload)
    result = environment.invoke(b"sleep 5")
    message = f"RequestId: {result.request_id} Error: Task timed out after 0.40 seconds"
    assert result.payload.decode() == f'{{"errorType":"Sandbox.Timedout","errorMessage":"{message}"}}'
    assert (result.status, result.function_error) == ("timeout", "Unhandled")
    assert result.duration_ms == 400
    assert lines(result)[-1].endswith("\tStatus: timeout")
    assert not is_alive(pid)
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child)
    assert environment.invoke(b"echo", timeout_ms=20_000).payload == b"done"


def test_the_time_limit_counts_until_the_next_poll(start: Start) -> None:
    result = start(timeout_ms=300).invoke(b"linger 5")
    assert (result.payload, result.function_error, result.status) == (b"done", None, "timeout")
    assert result.phases["after_response_ms"] > 200


def test_a_time_limit_can_be_given_with_the_invocation(start: Start) -> None:
    environment = start(timeout_ms=60_000)
    assert environment.invoke(b"sleep 5", timeout_ms=100).status == "timeout"


def test_a_debugger_suspends_the_time_limit(start: Start) -> None:
    environment = start(timeout_ms=200)
    assert environment.invoke(b"pause 0.6").payload == b"paused"
    assert environment.invoke(b"sleep 5").status == "timeout", "of its own invocation only"


def test_the_time_limit_can_be_suspended_from_here(start: Start) -> None:
    environment = start(timeout_ms=300)
    environment.invoke(b"echo")
    timer = threading.Timer(0.1, environment.pause_timeout)
    timer.start()
    assert environment.invoke(b"sleep 0.8").status == "success"


def test_an_answer_that_breaks_off_is_a_truncated_response(start: Start) -> None:
    environment = start()
    result = environment.invoke(b"truncate")
    assert (result.status, result.error_type) == ("error", "Runtime.TruncatedResponse")
    assert environment.invoke(b"echo").payload == b"done"


def test_an_answer_over_the_limit_is_an_error_and_the_process_goes_on(start: Start, tmp_path: Path) -> None:
    log = (tmp_path / "log").open("wb")
    environment = start(log_fd=log.fileno())
    result = environment.invoke(b"large 6291557")
    assert result.error_type == "Function.ResponseSizeTooLarge"
    assert b"(6291557 bytes)" in result.payload
    following = environment.invoke(b"large 6291556")
    assert len(following.payload) == 6_291_556
    environment.close()
    log.close()
    assert b"refused: HTTP/1.1 413 Payload Too Large\n" in (tmp_path / "log").read_bytes()


# ---- init --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["leave", "stay"])
def test_an_init_error_is_the_answer_and_the_next_invocation_tries_again(start: Start, how: str) -> None:
    environment = start("error", how, timeout_ms=30_000)
    for phases in (["init", "invoke"], ["invoke"]):
        result = environment.invoke(b"echo")
        assert result.payload.startswith(b'{"errorMessage":"no module"')
        assert (result.status, result.error_type) == ("error", "Runtime.ImportModuleError")
        kinds = [line.split(" ")[0] for line in lines(result)]
        assert kinds == [*["INIT_REPORT"] * len(phases), "START", "END", "REPORT"]
        for line, phase in zip(lines(result), phases, strict=False):
            assert line.endswith(f"\tPhase: {phase}\tStatus: error\tError Type: Runtime.ImportModuleError")
        assert result.init_duration_ms is None
        assert ("failed_init_ms" in result.phases) == ("init" in phases)


@pytest.mark.parametrize(("status", "reason"), [("0", "without providing a reason"), ("1", "exit status 1")])
def test_a_runtime_that_exits_at_once_does_not_hang_the_caller(
    start: Start, status: str, reason: str
) -> None:
    result = start("exit", status).invoke(b"echo")
    assert (result.status, result.error_type) == ("error", "Runtime.ExitError")
    assert result.payload.decode().endswith(f'{reason}"}}')
    assert lines(result)[0] == "leaving at once"
    assert b"leaving at once" in result.log_tail


def test_an_init_that_hangs_is_killed(start: Start) -> None:
    environment = start("hang", init_timeout_ms=300, timeout_ms=400)
    began = time.monotonic()
    result = environment.invoke(b"echo")
    assert time.monotonic() - began < 30
    assert (result.status, result.error_type) == ("timeout", "Sandbox.Timedout")
    assert b"Task timed out after 0.40 seconds" in result.payload
    assert lines(result)[0].startswith("INIT_REPORT Init Duration: ")
    assert lines(result)[0].endswith("\tPhase: init\tStatus: timeout")
    assert lines(result)[1].endswith("\tPhase: invoke\tStatus: timeout")
    assert lines(result)[2].startswith("START ")
    assert result.duration_ms == 400


def test_nobody_supervising_does_not_hang_the_caller() -> None:
    with ExecutionEnvironment(init_timeout_ms=200, timeout_ms=200) as environment:
        assert environment.invoke(b"echo").status == "timeout"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-program"], "the runtime program 'no-such-program' was not found on PATH"),
        (["./missing"], "the runtime program './missing' was not found"),
        (["/tmp"], "the runtime program '/tmp' is a directory"),
        (["/etc/passwd"], "the runtime program '/etc/passwd' is not executable"),
    ],
)
def test_a_program_that_cannot_be_started_is_told_in_a_sentence(command: list[str], message: str) -> None:
    with (
        ExecutionEnvironment() as environment,
        RuntimeProcess(environment, command, function_environment(environment)),
    ):
        result = environment.invoke(b"echo")
    document = (
        f'{{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: {result.request_id} Error: '
    )
    assert result.payload.decode() == f'{document}{message}"}}'


# ---- memory and logs ---------------------------------------------------------------------------------------------


def test_max_memory_used_is_the_processs_own_peak(start: Start) -> None:
    environment = start(memory_size_mb=512)
    small = environment.invoke(b"echo").max_memory_used_mb
    assert 3 < small < 40
    large = environment.invoke(b"allocate 200").max_memory_used_mb
    assert small + 195 <= large <= small + 215
    assert environment.invoke(b"echo").max_memory_used_mb == large, "the peak stays"
    assert f"\tMax Memory Used: {large} MB\t" in environment.invoke(b"echo").log.decode()


def test_the_log_of_an_invocation_is_in_order(start: Start) -> None:
    environment = start("print", "at init")
    result = environment.invoke(b"print hello")
    request_id = result.request_id
    assert lines(result)[:4] == [
        "at init",
        f"START RequestId: {request_id} Version: $LATEST",
        "hello",
        f"END RequestId: {request_id}",
    ]
    assert lines(result)[4].startswith(f"REPORT RequestId: {request_id}\tDuration: ")
    assert lines(environment.invoke(b"stderr again"))[1] == "again"


def test_the_log_tail_is_the_end_of_the_invocations_log(start: Start) -> None:
    environment = start()
    for _ in range(10):
        result = environment.invoke(b"lines 5000")
        assert len(result.log_tail) == 4096
        assert result.log.endswith(result.log_tail)
        # Everything that was written before the answer was posted is there.
        assert lines(result)[1:5001] == [f"line {number}" for number in range(5000)]
    assert environment.invoke(b"echo").log_tail.startswith(b"START")


def test_the_log_goes_to_the_descriptor_unchanged(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        environment = start("print", "ready", log_fd=file.fileno(), keep_log=True)
        results = [environment.invoke(b"print \xe6\x97\xa5"), environment.invoke(b"exit 1")]
        environment.close()
    assert path.read_bytes() == b"".join(result.log for result in results)


def test_the_log_is_kept_only_where_it_is_wanted(start: Start) -> None:
    result = start(keep_log=False).invoke(b"print hello")
    assert result.log == b""
    assert b"hello" in result.log_tail


def test_output_can_go_elsewhere(start: Start, tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as file:
        result = start(output=file.fileno()).invoke(b"print hello")
    assert b"hello" not in result.log
    assert (tmp_path / "output").read_bytes() == b"hello"


# ---- processes ---------------------------------------------------------------------------------------------------


def test_no_descriptor_leaks_into_the_process(start: Start) -> None:
    start().invoke(b"echo")
    descriptors = {int(name) for name in start().invoke(b"descriptors").payload.split(b",")}
    # What this test run itself was started with is not ours to close; 3 and 4, or the next free ones, are the
    # runtime's connection and the folder it lists.
    handed_down = {int(name) for name in os.listdir("/proc/self/fd") if is_inheritable(int(name))}
    assert len(descriptors - handed_down - {0, 1, 2}) == 2


def test_the_process_leads_its_own_group_unless_told_otherwise(start: Start) -> None:
    environment = start()
    assert environment.invoke(b"group").payload == environment.invoke(b"pid").payload
    with ExecutionEnvironment() as environment:
        variables = function_environment(environment)
        with supervise(environment, [*SCRIPT, "ready"], variables, own_process_group=False):
            assert int(environment.invoke(b"group").payload) == os.getpgid(0)


def test_the_process_runs_in_the_given_folder(tmp_path: Path) -> None:
    with ExecutionEnvironment() as environment:
        variables = function_environment(environment)
        with supervise(environment, [*SCRIPT, "ready"], variables, cwd=str(tmp_path)) as process:
            assert environment.invoke(b"cwd").payload == str(tmp_path).encode()
            assert environment.invoke(b"pid").payload == b"%d" % (process.pid or 0)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with (
        ExecutionEnvironment() as environment,
        supervise(environment, SCRIPT, function_environment(environment), cwd=missing),
    ):
        payload = environment.invoke(b"").payload
    assert f"the working directory '{missing}' does not exist".encode() in payload


def test_a_second_process_is_refused_and_ended(start: Start) -> None:
    environment = start()
    first = int(environment.invoke(b"pid").payload)
    reapers = children_of(os.getpid())
    with pytest.raises(RuntimeError, match=f"was announced while process {first} is still running"):
        environment.start_process("/bin/sleep", ["sleep", "60"], {})
    wait_until(lambda: children_of(os.getpid()) == reapers)
    assert int(environment.invoke(b"pid").payload) == first


def test_a_program_that_cannot_be_executed_is_an_error_with_a_number(tmp_path: Path) -> None:
    script = tmp_path / "no-interpreter"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    before = children_of(os.getpid())
    with ExecutionEnvironment() as environment:
        with pytest.raises(FileNotFoundError, match=f"cannot start '{script}': No such file"):
            environment.start_process(program=str(script), arguments=["x"], variables={"A": "b"})
        with pytest.raises(OSError, match="contains a NUL character"):
            environment.start_process("/bin/true", ["true"], {"A": "b\0c"})
    assert children_of(os.getpid()) == before


def test_wait_for_start_returns_when_time_is_up_and_when_closed() -> None:
    environment = ExecutionEnvironment()
    began = time.monotonic()
    assert environment.wait_for_start(0.1) is False
    assert 0.1 <= time.monotonic() - began < 5
    threading.Timer(0.1, environment.close).start()
    assert environment.wait_for_start(timeout_s=None) is False
    assert environment.closed
    with pytest.raises(ValueError, match="timeout_s must be a time in seconds, not -1"):
        environment.wait_for_start(-1)


def test_closing_kills_the_process_and_fails_who_waits(start: Start) -> None:
    environment = start()
    pid = int(environment.invoke(b"pid").payload)
    results: list[InvokeResult] = []
    thread = threading.Thread(target=lambda: results.append(environment.invoke(b"sleep 30")))
    thread.start()
    time.sleep(0.1)
    environment.close()
    thread.join(5)
    assert results[0].error_type == "Sandbox.Failure"
    assert not Path(f"/proc/{pid}").exists(), "it is reaped, too"
    environment.close()
    with pytest.raises(RuntimeError, match="the execution environment is closed"):
        environment.invoke(b"echo")


def test_a_port_in_use_is_named() -> None:
    with ExecutionEnvironment() as environment:
        host, port = environment.address.split(":")
        message = f"cannot listen on {environment.address}: Address already in use"
        with pytest.raises(OSError, match=message) as caught:
            ExecutionEnvironment(host=host, port=int(port))
    assert caught.value.strerror == message


def test_many_environments_live_in_one_process(start: Start) -> None:
    threads_before = len(os.listdir("/proc/self/task"))
    environments = [start() for _ in range(8)]
    pids = {environment.invoke(b"pid").payload for environment in environments}
    assert len(pids) == 8
    # One supervisor and one watcher per process; the endpoint itself needs no thread of its own for each.
    assert len(os.listdir("/proc/self/task")) - threads_before <= 2 * 8 + 1


# ---- the function's variables ------------------------------------------------------------------------------------


def test_the_functions_variables_are_those_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "stale")
    monkeypatch.setenv("AWS_LAMBDA_MAX_CONCURRENCY", "8")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    with ExecutionEnvironment(function_name="orders", memory_size_mb=512, region="eu-west-1") as environment:
        variables = function_environment(
            environment, handler="app.handler", task_root="/task", user={"COLOUR": "blue", "AWS_REGION": "x"}
        )
        address = environment.address
    assert variables["AWS_LAMBDA_RUNTIME_API"] == address
    assert variables["AWS_LAMBDA_FUNCTION_NAME"] == "orders"
    assert variables["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert variables["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert variables["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/orders"
    stream = variables["AWS_LAMBDA_LOG_STREAM_NAME"]
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "eu-west-1", (
        "reserved: nobody overrides it"
    )
    assert (variables["_HANDLER"], variables["LAMBDA_TASK_ROOT"]) == ("app.handler", "/task")
    assert (variables["TZ"], variables["COLOUR"]) == (":UTC", "blue")
    assert variables["AWS_ACCESS_KEY_ID"] == "mine"
    assert "_X_AMZN_TRACE_ID" not in variables
    assert "AWS_LAMBDA_MAX_CONCURRENCY" not in variables
