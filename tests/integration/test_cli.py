"""The commands: exit codes, what is said where, and the debugger."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtimes import environment

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
ECHO = """
    def handler(event, context):
        print("to the log")
        return event
"""
BROKEN = """
    import os, sys, time

    def raises(event, context):
        raise ValueError("on purpose: böse")

    def sleeps(event, context):
        time.sleep(30)

    def leaves(event, context):
        os._exit(3)

    def returns_object(event, context):
        return object()
"""


def caloric(
    *arguments: str, folder: Path | None = None, stdin: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    variables_ = {**environment(""), **variables}
    if not variables.get("AWS_LAMBDA_RUNTIME_API"):
        del variables_["AWS_LAMBDA_RUNTIME_API"]
    return subprocess.run(
        [CALORIC, *arguments], cwd=folder, env=variables_, input=stdin, capture_output=True, timeout=30
    )


def test_invoke_prints_the_result_and_nothing_else_on_stdout(write_function: WriteFunction) -> None:
    run = caloric("invoke", "app.handler", "--event", '{"a": [1, "日本"]}', folder=write_function(ECHO))
    assert run.returncode == 0
    assert json.loads(run.stdout) == {"a": [1, "日本"]}
    assert run.stdout.count(b"\n") == 1
    kinds = [re.split(r"[ :]", line)[0] for line in run.stderr.decode().splitlines()]
    assert kinds == ["START", "to", "END", "REPORT"]


def test_invoke_repeats_in_one_environment_with_one_cold_start(write_function: WriteFunction) -> None:
    source = """
        count = 0

        def handler(event, context):
            global count
            count += 1
            return count
    """
    run = caloric("invoke", "app.handler", "--repeat", "3", folder=write_function(source))
    assert run.stdout == b"1\n2\n3\n"
    reports = [line for line in run.stderr.decode().splitlines() if line.startswith("REPORT")]
    assert ["Init Duration" in line for line in reports] == [True, False, False]
    assert all(int(re.findall(r"Max Memory Used: (\d+) MB", line)[0]) > 5 for line in reports)


@pytest.mark.parametrize("source", ["argument", "file", "stdin"])
def test_an_event_comes_from_an_argument_a_file_or_standard_input(
    source: str, write_function: WriteFunction
) -> None:
    folder = write_function(ECHO)
    (folder / "event.json").write_text('{"b": 2}')
    event = {"argument": '{"b": 2}', "file": "@event.json", "stdin": "-"}[source]
    run = caloric("invoke", "app.handler", "--event", event, folder=folder, stdin=b'{"b": 2}')
    assert json.loads(run.stdout) == {"b": 2}


def test_json_is_one_document_with_result_logs_and_phases(write_function: WriteFunction) -> None:
    options = ["--event", '{"a": 1}', "--json", "--repeat", "2"]
    run = caloric("invoke", "app.handler", *options, folder=write_function(ECHO))
    document, second = (json.loads(line) for line in run.stdout.splitlines())
    assert run.stderr == b""
    assert (document["result"], document["error"], document["status"]) == ({"a": 1}, None, "success")
    assert "to the log\n" in document["logs"]
    assert "REPORT RequestId: " + document["requestId"] in document["logs"]
    assert document["phasesMs"].keys() >= {"runtime_init_ms"}
    assert document["initDurationMs"] > 0
    assert document["phasesMs"].keys() >= {"process_start_ms"}
    assert document["maxMemoryUsedMB"] > 5
    assert second["maxMemoryUsedMB"] > 5


def test_json_holds_a_result_that_is_no_json(write_function: WriteFunction) -> None:
    source = "def handler(event, context): return bytes([255, 0]) if event else b'plain'"
    folder = write_function(source)
    text = json.loads(caloric("invoke", "app.handler", "--json", folder=folder).stdout)
    assert (text["result"], text["resultEncoding"]) == ("plain", "text")
    run = caloric("invoke", "app.handler", "--json", "--event", "1", folder=folder)
    binary = json.loads(run.stdout)
    assert (binary["result"], binary["resultEncoding"]) == ("/wA=", "base64")


@pytest.mark.parametrize(
    ("handler", "error_type", "said"),
    [
        # What fails in init starts twice, the second time within the time limit.
        ("app.raises", "ValueError", "[ERROR] ValueError: on purpose: böse"),
        ("app.sleeps", "Sandbox.Timedout", "Status: timeout"),
        ("app.leaves", "Runtime.ExitError", "Error Type: Runtime.ExitError"),
        ("app.returns_object", "Runtime.MarshalError", "[ERROR] Runtime.MarshalError"),
        ("missing.handler", "Runtime.ImportModuleError", "[ERROR] Runtime.ImportModuleError"),
        ("app.missing", "Runtime.HandlerNotFound", "[ERROR] Runtime.HandlerNotFound"),
        ("broken.handler", "Runtime.UserCodeSyntaxError", "broken.py"),
    ],
)
def test_what_the_function_does_wrong_is_exit_code_1_and_its_error(
    handler: str, error_type: str, said: str, write_function: WriteFunction
) -> None:
    folder = write_function(BROKEN)
    write_function("def handler(:", "broken.py")
    limit = "1" if handler == "app.sleeps" else "20"
    run = caloric("invoke", handler, "--timeout", limit, folder=folder)
    assert run.returncode == 1
    assert json.loads(run.stdout)["errorType"] == error_type
    assert said in run.stderr.decode()


def test_a_runtime_that_exits_at_once_is_exit_code_1_with_its_stderr(tmp_path: Path) -> None:
    runtime = "sh -c 'echo no such luck >&2; exit 4'"
    run = caloric("invoke", "app.handler", "--timeout", "20", "--runtime", runtime, folder=tmp_path)
    assert run.returncode == 1
    error = json.loads(run.stdout)
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].endswith("Runtime exited with error: exit status 4")
    assert b"no such luck\n" in run.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_invoke_takes_the_function_along_when_it_is_told_to_end(
    number: signal.Signals, code: int, write_function: WriteFunction
) -> None:
    source = (
        "import os, time\ndef handler(event, context):\n    print('pid', os.getpid())\n    time.sleep(60)\n"
    )
    command = [CALORIC, "invoke", "app.handler", "--timeout", "50"]
    with subprocess.Popen(
        command, cwd=write_function(source), env=environment(""), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = ""
        while not line.startswith("pid "):
            line = process.stderr.readline()
        process.send_signal(number)
        assert process.wait(timeout=10) == code
    with pytest.raises(ProcessLookupError):
        os.kill(int(line.split()[1]), 0)


def test_another_runtime_serves_the_handler(write_function: WriteFunction) -> None:
    runtime = f"{sys.executable} -m awslambdaric app.handler"
    run = caloric(
        "invoke", "app.handler", "--event", "[1]", "--runtime", runtime, folder=write_function(ECHO)
    )
    assert json.loads(run.stdout) == [1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["invoke", "app"], "the handler 'app' has no dot"),
        (["invoke"], "the following arguments are required: HANDLER"),
        (
            ["invoke", "app.handler", "--event", "@nowhere.json"],
            "the event file 'nowhere.json' cannot be read: No such",
        ),
        (["invoke", "app.handler", "--event", '{"a": 1,\n  nope}'], "is not JSON: "),
        (["invoke", "app.handler", "--event", '{"a": 1,\n  nope}'], "at line 2, column 3"),
        (["invoke", "app.handler", "--client-context", "{"], "the client context is not JSON"),
        (["invoke", "app.handler", "--timeout", "901"], "901 is out of range: 1 to 900 seconds"),
        (["invoke", "app.handler", "--timeout", "fast"], "'fast' is not a whole number"),
        (["invoke", "app.handler", "--memory", "64"], "64 is out of range: 128 to 10240 MB"),
        (["invoke", "app.handler", "--env", "NAME"], "'NAME' is not of the form NAME=VALUE"),
        (["invoke", "app.handler", "--runtime", "/no/such/program"], "'/no/such/program' was not found"),
        (["invoke", "app.handler", "--runtime", "'"], "is no command line"),
        (["invoke", "app.handler", "--layer", "x.zip"], "the layer 'x.zip' cannot be read: No such file"),
        (["invoke", "app.handler", "--stream", "--json"], "--stream prints one response as it comes"),
        (["invoke", "app.handler", "--concurrency", "0"], "0 is out of range: 1 to 1000 environments"),
        (["invoke", "app.handler", "--colour"], "unrecognized arguments: --colour"),
        (["emulate", "--memory", "1", "--", "true"], "1 is out of range: 128 to 10240 MB"),
        (["emulate"], "name the runtime's command after --"),
        (["emulate", "--", "/no/such/program", "app.handler"], "'/no/such/program' was not found"),
        (["emulate", "--port", "70000", "--", "true"], "70000 is out of range"),
        (["run", "app.handler"], "AWS_LAMBDA_RUNTIME_API is not set"),
        (["frobnicate"], "there is no command 'frobnicate'"),
        ([], "name a command"),
    ],
)
def test_a_mistake_is_one_clear_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    run = caloric(*arguments, folder=tmp_path)
    assert run.returncode == 2
    assert run.stdout == b""
    assert sentence in run.stderr.decode()
    assert run.stderr.count(b"\n") == 1
    assert run.stderr.startswith(b"caloric")


def test_a_program_that_is_not_executable_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "program").touch()
    run = caloric("invoke", "app.handler", "--runtime", "./program", folder=tmp_path)
    assert (run.returncode, run.stderr) == (
        2,
        b"caloric invoke: the runtime program './program' is not executable\n",
    )


def test_a_variable_out_of_range_is_a_mistake_that_names_it(tmp_path: Path) -> None:
    run = caloric("emulate", "--", "true", folder=tmp_path, AWS_LAMBDA_FUNCTION_TIMEOUT="901")
    assert run.returncode == 2
    sentence = "the variable AWS_LAMBDA_FUNCTION_TIMEOUT: 901 is out of range: 1 to 900 seconds"
    assert sentence in run.stderr.decode()


def test_help_and_version_answer_without_an_error() -> None:
    for arguments in (["--help"], ["invoke", "--help"], ["emulate", "--help"], ["run", "--help"]):
        run = caloric(*arguments)
        assert run.returncode == 0
        assert run.stdout.startswith(b"usage: caloric")
    assert re.fullmatch(rb"caloric \d+\.\d+\.\d+\n", caloric("--version").stdout)


def test_invoke_imports_neither_asyncio_nor_heavy_libraries(write_function: WriteFunction) -> None:
    # The function runs in a process of its own, so this lists what the command itself imported.
    code = (
        "import sys; from caloric.cli import main; "
        "sys.stderr.write('code %s\\n' % main(['invoke', 'app.handler'])); "
        "heavy = {'asyncio', 'click', 'rich', 'typer', 'subprocess', 'logging', 'json', 'multiprocessing', 'typing'}; "
        "sys.stderr.write('heavy %s\\n' % sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        cwd=write_function(ECHO),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "code 0\n" in run.stderr
    assert "heavy []\n" in run.stderr


class Emulator:
    """`caloric emulate` on a free port."""

    def __init__(self, folder: Path, *options: str, handler: str = "app.handler", **variables: str) -> None:
        command = [
            CALORIC,
            "emulate",
            "--port",
            "0",
            *options,
            "--",
            sys.executable,
            "-m",
            "caloric",
            handler,
        ]
        self.process = subprocess.Popen(
            command, cwd=folder, env={**environment(""), **variables}, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"listening on http://127\.0\.0\.1:(\d+)/2015-03-31/", line)
        assert found, line
        self.port = int(found[1])

    def invoke(self, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        path = "/2015-03-31/functions/function/invocations"
        connection.request(
            "POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        response = connection.getresponse()
        answer = response.status, dict(response.getheaders()), response.read()
        connection.close()
        return answer

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_emulate_serves_the_emulators_invoke_path(write_function: WriteFunction) -> None:
    with Emulator(write_function(ECHO)) as emulator:
        status, headers, body = emulator.invoke(b'{"a": 1}')
        assert (status, json.loads(body)) == (200, {"a": 1})
        assert {name.lower() for name in headers} >= {"x-amzn-requestid", "x-amz-executed-version"}


def test_emulate_marks_a_function_error_and_goes_on(write_function: WriteFunction) -> None:
    with Emulator(write_function(BROKEN), handler="app.raises") as emulator:
        for _ in range(2):
            status, headers, body = emulator.invoke(b"{}")
            assert status == 200
            assert {name.lower(): value for name, value in headers.items()}[
                "x-amz-function-error"
            ] == "Unhandled"
            assert json.loads(body)["errorType"] == "ValueError"


def test_emulate_takes_its_defaults_from_the_emulators_variables(write_function: WriteFunction) -> None:
    source = """
        def handler(event, context):
            return [context.function_name, context.memory_limit_in_mb, context.get_remaining_time_in_millis()]
    """
    variables = {
        "AWS_LAMBDA_FUNCTION_NAME": "orders",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "7",
    }
    with Emulator(write_function(source), **variables) as emulator:
        name, memory, remaining = json.loads(emulator.invoke(b"{}")[2])
    assert (name, memory) == ("orders", "256")
    assert 5000 < remaining <= 7000


def test_emulate_starts_the_runtime_anew_after_a_crash(write_function: WriteFunction) -> None:
    source = """
        import os
        def handler(event, context):
            if event == "die":
                os._exit(3)
            return os.getpid()
    """
    with Emulator(write_function(source)) as emulator:
        first = json.loads(emulator.invoke(b"{}")[2])
        assert json.loads(emulator.invoke(b'"die"')[2])["errorType"] == "Runtime.ExitError"
        second = json.loads(emulator.invoke(b"{}")[2])
    assert first != second


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_emulate_stops_on_a_signal_and_takes_the_runtime_with_it(
    number: signal.Signals, write_function: WriteFunction
) -> None:
    source = "import os\ndef handler(event, context): return os.getpid()"
    with Emulator(write_function(source)) as emulator:
        pid = json.loads(emulator.invoke(b"{}")[2])
        emulator.process.send_signal(number)
        assert emulator.process.wait(timeout=10) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_port_in_use_is_a_mistake_that_names_it(write_function: WriteFunction) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = caloric("emulate", "--port", port, "--", sys.executable, folder=write_function(ECHO))
    assert run.returncode == 2
    assert run.stderr.startswith(f"caloric emulate: cannot listen on 127.0.0.1:{port}: ".encode())
    assert run.stderr.count(b"\n") == 1


def test_run_is_the_runtime(write_function: WriteFunction) -> None:
    from tests.scripted_api import HANG, ScriptedApi, event

    folder = write_function("import os, sys\ndef handler(event, context): return [sys.path[0], sys.argv]")
    with ScriptedApi([event({}), HANG]) as api:
        process = subprocess.Popen([CALORIC, "run", "app.handler"], cwd=folder, env=environment(api.address))
        answer = api.wait_for(2)[1].json()
        process.kill()
        process.wait()
    assert answer == [str(folder), ["caloric", "app.handler"]]


def read_until(terminal: int, text: bytes, timeout: float = 20) -> bytes:
    seen = b""
    end = time.monotonic() + timeout
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        assert ready, f"{text!r} did not come: {seen!r}"
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            chunk = b""
        assert chunk, f"the terminal closed before {text!r} came: {seen!r}"
        seen += chunk
    return seen


def test_breakpoint_opens_the_debugger_and_the_time_limit_waits(write_function: WriteFunction) -> None:
    source = """
        def handler(event, context):
            answer = event["n"] * 2
            breakpoint()
            return {"answer": answer}
    """
    folder = write_function(source)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        variables = {**environment(""), "TERM": "dumb"}
        command = [CALORIC, "invoke", "app.handler", "--event", '{"n": 21}', "--timeout", "1"]
        os.execve(CALORIC, command, variables)
    try:
        read_until(terminal, b"(Pdb) ")
        time.sleep(1.5)
        os.write(terminal, b"p answer\n")
        assert b"42" in read_until(terminal, b"(Pdb) ").replace(b"p answer", b"")
        os.write(terminal, b"c\n")
        read_until(terminal, b'{"answer":42}')
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        os.close(terminal)


def test_a_tenant_and_a_trace_context_reach_the_handler(write_function: WriteFunction) -> None:
    folder = write_function("def handler(event, context): return [context.tenant_id, context.w3c()]")
    context = '{"w3c": {"traceparent": "00-1", "tracestate": 1}}'
    run = caloric(
        "invoke", "app.handler", "--tenant-id", "blue 1", "--client-context", context, folder=folder
    )
    assert json.loads(run.stdout) == ["blue 1", {"traceparent": "00-1"}]


@pytest.mark.parametrize("tenant", ["", "a" * 257, "größe", "a\tb", "a,b"])
def test_a_tenant_id_that_aws_would_not_take_is_the_users_mistake(tenant: str) -> None:
    run = caloric("invoke", "app.handler", "--tenant-id", tenant)
    assert run.returncode == 2
    assert b"is no tenant id: 1 to 256 ASCII letters" in run.stderr
