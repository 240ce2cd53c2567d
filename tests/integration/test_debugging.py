"""`caloric invoke --debug` with a real debugger, and `caloric emulate --only-api` with runtimes started by hand."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.dap import PATIENCE, Debugger
from tests.ports import free_port
from tests.runtimes import COMMANDS, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WriteFunction

CALORIC = str(Path(sys.executable).with_name("caloric"))
any_way = pytest.mark.parametrize("way", COMMANDS)

FUNCTION = """\
import time
IMPORTED = 6
def handler(event, context):
    answer = IMPORTED * event["n"]
    return [answer, context.get_remaining_time_in_millis()]
"""
IMPORT, RETURN = 2, 5


class Command:
    """A command that runs, and the lines it has written to stderr."""

    def __init__(self, *arguments: str, folder: Path, **variables: str) -> None:
        self.process = subprocess.Popen(
            [CALORIC, *arguments],
            cwd=folder,
            env=environment("", **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._came:
                self.lines.append(line.rstrip("\n"))
                self._came.notify_all()
        with self._came:
            self.lines.append("<the end>")
            self._came.notify_all()

    def wait_for(self, text: str, count: int = 1) -> str:
        """Wait until `text` is in `count` lines, and return the last of them."""

        def come() -> list[str]:
            return [line for line in self.lines if text in line]

        with self._came:
            assert self._came.wait_for(lambda: len(come()) >= count or "<the end>" in self.lines, PATIENCE), (
                self.lines
            )
            assert len(come()) >= count, self.lines
            return come()[-1]

    def end(self) -> tuple[int, str]:
        """Wait for the end, and return the exit code and stdout."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        return self.process.wait(PATIENCE), out

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join(PATIENCE)
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            self.process.stdout.close()
            self.process.stderr.close()


@contextlib.contextmanager
def running(*arguments: str, folder: Path, **variables: str) -> Iterator[Command]:
    command = Command(*arguments, folder=folder, **variables)
    try:
        yield command
    finally:
        command.stop()


@contextlib.contextmanager
def attached(command: Command, port: int, times: int = 1) -> Iterator[Debugger]:
    command.wait_for(f"waiting for a debugger to attach to 127.0.0.1:{port}", times)
    debugger = Debugger(port)
    try:
        yield debugger
    finally:
        debugger.close()


# ---- --debug --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_breakpoints_at_import_and_in_the_handler(write_function: WriteFunction, as_json: bool) -> None:
    folder = write_function(FUNCTION)
    port = free_port()
    options = ["--json"] if as_json else []
    arguments = ["invoke", "--debug", str(port), "app.handler", "--event", '{"n": 7}', *options]
    with running(*arguments, folder=folder) as command, attached(command, port) as debugger:
        debugger.break_at(folder / "app.py", IMPORT, RETURN)
        debugger.configured()
        debugger.go_on(debugger.stopped())
        thread = debugger.stopped()
        assert debugger.evaluate(thread, "answer") == "42"
        debugger.go_on(thread)
        code, out = command.end()
        assert code == 0
        result = json.loads(out)
        answer, remaining = result["result"] if as_json else result
        assert answer == 42
        # It was told Lambda's longest, and was not held to it.
        assert 900_000 - PATIENCE * 1000 < remaining <= 900_000
        command.wait_for("a debugger is attached")
        command.wait_for("REPORT RequestId")


def test_nobody_is_hurried(write_function: WriteFunction) -> None:
    """Neither the time limit, which is short, nor the memory, which a debugger needs more of, ends anything."""
    source = FUNCTION.replace("import time", "import time; kept = bytearray(200_000_000)")
    folder = write_function(source)
    port = free_port()
    arguments = [
        "invoke",
        "app.handler",
        "--event",
        '{"n": 7}',
        "--timeout",
        "1",
        f"--debug=127.0.0.1:{port}",
    ]
    with running(*arguments, folder=folder) as command, attached(command, port) as debugger:
        debugger.break_at(folder / "app.py", RETURN)
        debugger.configured()
        thread = debugger.stopped()
        debugger.evaluate(thread, "time.sleep(1.5)")
        debugger.go_on(thread)
        code, out = command.end()
        assert (code, json.loads(out)) == (0, [42, 0])
        assert "Status" not in command.wait_for("REPORT RequestId")


def test_breakpoint_stops_in_the_debugger(write_function: WriteFunction) -> None:
    folder = write_function("def handler(event, context):\n    breakpoint()\n    return 1\n")
    port = free_port()
    arguments = ["invoke", "app.handler", "--debug", str(port)]
    with running(*arguments, folder=folder) as command, attached(command, port) as debugger:
        debugger.configured()
        debugger.go_on(debugger.stopped())
        assert command.end() == (0, "1\n")


def test_nothing_is_left_when_the_command_is_stopped_while_it_waits(write_function: WriteFunction) -> None:
    port = free_port()
    with running("invoke", "app.handler", "--debug", str(port), folder=write_function(FUNCTION)) as command:
        command.wait_for("waiting for a debugger")
    # The debugger's own process listened there; it is gone.
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_emulate_waits_anew_with_each_process(write_function: WriteFunction) -> None:
    folder = write_function(
        FUNCTION + "def _():\n    pass\nimport os\ndef end(event, context):\n    os._exit(1)\n"
    )
    port = free_port()
    arguments = [
        "emulate",
        "--port",
        "0",
        "--debug",
        str(port),
        "--",
        sys.executable,
        "-m",
        "caloric",
        "app.end",
    ]
    with running(*arguments, folder=folder) as command:
        url = invoke_url(command)
        for attempt in (1, 2):
            answer = in_background(url, {})
            with attached(command, port, attempt) as debugger:
                debugger.configured()
                assert "Runtime.ExitError" in str(answer())


def test_what_is_missing_or_wrong_is_said_in_one_sentence(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    folder = write_function(FUNCTION)

    def mistake(*arguments: str, **variables: str) -> str:
        run = subprocess.run(
            [CALORIC, *arguments],
            cwd=folder,
            env=environment("", **variables),
            capture_output=True,
            text=True,
        )
        assert (run.returncode, run.stdout) == (2, ""), run.stderr
        assert run.stderr.count("\n") == 1
        return run.stderr

    assert "argument --debug: '0' is not of the form HOST:PORT or PORT" in mistake(
        "invoke", "app.handler", "--debug=0"
    )
    assert "--debug and --concurrency exclude each other" in mistake(
        "invoke", "--debug", "app.handler", "--concurrency", "2"
    )
    assert "--debug and --max-concurrency exclude each other" in mistake(
        "emulate", "--debug", "--max-concurrency", "2", "--", "true"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot wait for a debugger on 127.0.0.1:{port}: " in mistake(
            "invoke", "app.handler", "--debug", str(port)
        )
    # Found before the installed one, and not to be imported.
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['debugpy'] = None\n")
    missing = mistake("invoke", "app.handler", "--debug", str(free_port()), PYTHONPATH=str(hidden))
    assert missing.endswith("-m pip install debugpy\n")


@pytest.mark.parametrize("way", ["fast", "module"])
def test_the_runtime_says_itself_what_is_wrong(
    way: str, write_function: WriteFunction, tmp_path: Path
) -> None:
    folder = write_function(FUNCTION)
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['debugpy'] = None\n")
    for value, words in (
        ("nonsense", "the variable CALORIC_DEBUG: 'nonsense' is not of the form HOST:PORT or PORT"),
        (
            "127.0.0.1:5678",
            f"debugpy is not installed for {sys.executable}: {sys.executable} -m pip install debugpy",
        ),
    ):
        run = subprocess.run(
            [*COMMANDS[way], "app.handler"],
            cwd=folder,
            env=environment("127.0.0.1:1", CALORIC_DEBUG=value, PYTHONPATH=str(tmp_path)),
            capture_output=True,
            text=True,
        )
        assert (run.returncode, run.stderr) == (1, f"caloric: {words}\n")


# ---- --only-api -----------------------------------------------------------------------------------------------------


def invoke_url(command: Command) -> str:
    return command.wait_for("listening on http").rpartition(" ")[2]


def post(url: str, event: object) -> Any:
    with urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(event).encode()), timeout=PATIENCE
    ) as answer:
        return json.loads(answer.read())


def in_background(url: str, event: object) -> Any:
    """Invoke, and return a function that waits for the answer."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(post(url, event)))
    thread.start()

    def answer() -> Any:
        thread.join(PATIENCE)
        return answers[0]

    return answer


def pasted(command: Command) -> dict[str, str]:
    """The environment of a shell into which the printed lines were pasted."""
    command.wait_for("start the runtime with these variables")
    assert command.process.stdout is not None
    lines: list[str] = []
    while "LAMBDA_RUNTIME_DIR" not in (lines or [""])[-1]:
        lines.append(command.process.stdout.readline())
    return shell("".join(lines))


def shell(text: str) -> dict[str, str]:
    run = subprocess.run(
        ["sh", "-c", f"{text}\nenv -0"], env=environment(""), check=True, capture_output=True, text=True
    )
    return dict(line.split("=", 1) for line in run.stdout.split("\0") if line)


ONLY_API = ["emulate", "--only-api", "--port", "0", "--runtime-api-address", "127.0.0.1:0"]


@contextlib.contextmanager
def by_hand(way: str, variables: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    # awslambdaric takes the handler from the command line only.
    arguments = [] if way != "awslambdaric" else [variables["_HANDLER"]]
    process = subprocess.Popen([*COMMANDS[way], *arguments], cwd=folder, env=variables)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@any_way
def test_a_runtime_started_by_hand(way: str, write_function: WriteFunction) -> None:
    folder = write_function(FUNCTION)
    with running(*ONLY_API, "app.handler", folder=folder) as command:
        variables = pasted(command)
        assert variables["_HANDLER"] == "app.handler"
        url = invoke_url(command)
        for number in (1, 2):
            with by_hand(way, variables, folder):
                answer, remaining = post(url, {"n": number})
                assert answer == 6 * number
                assert 800_000 < remaining <= 900_000
        # Nobody is there: it waits for the next one.
        last = in_background(url, {"n": 3})
        with by_hand(way, variables, folder):
            assert last()[0] == 18
        assert "Init Duration" not in command.wait_for("REPORT", 3)


def test_a_runtime_that_died_at_work_has_failed_when_the_next_one_comes(
    write_function: WriteFunction,
) -> None:
    folder = write_function(
        "import os\ndef handler(event, context):\n    return os._exit(1) if event == 'die' else event\n"
    )
    with running(*ONLY_API, "app.handler", folder=folder) as command:
        variables, url = pasted(command), invoke_url(command)
        with by_hand("module", variables, folder) as first:
            died = in_background(url, "die")
            assert first.wait(PATIENCE) == 1
        with by_hand("module", variables, folder):
            assert died()["errorType"] == "Runtime.ExitError"
            assert post(url, "again") == "again"


def test_the_env_file_holds_what_is_printed(write_function: WriteFunction, tmp_path: Path) -> None:
    folder = write_function(FUNCTION)
    path = tmp_path / "lambda.env"
    arguments = [*ONLY_API, "--env-file", str(path), "--env", "GREETING=it's me; $HOME", "app.handler"]
    with running(*arguments, folder=folder, _X_AMZN_TRACE_ID="Root=1") as command:
        variables = pasted(command)
        assert variables["GREETING"] == "it's me; $HOME"
        assert "_X_AMZN_TRACE_ID" not in variables
        written = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())
        assert {name: variables[name] for name in written} == written
        assert "TMPDIR" not in written
        for name in ("AWS_LAMBDA_RUNTIME_API", "_HANDLER", "AWS_LAMBDA_FUNCTION_NAME"):
            assert name in written


def test_a_time_limit_that_was_asked_for_holds(write_function: WriteFunction) -> None:
    folder = write_function("import threading\ndef handler(event, context): threading.Event().wait()\n")
    with running(*ONLY_API, "--timeout", "1", "app.handler", folder=folder) as command:
        variables, url = pasted(command), invoke_url(command)
        with by_hand("module", variables, folder):
            assert post(url, {})["errorType"] == "Sandbox.Timedout"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only-api", "--", "python", "-m", "caloric"], "--only-api starts no command"),
        (["--only-api", "--debug", "app.handler"], "--only-api and --debug exclude each other"),
        (["--only-api", "--concurrency", "2"], "--only-api and --concurrency exclude each other"),
        (["--only-api", "--max-concurrency", "2"], "--only-api and --max-concurrency exclude each other"),
        (["--only-api", "--extension", CALORIC], "--only-api and --extension exclude each other"),
        (["--env-file", "x", "--", "true"], "--env-file goes with --only-api"),
        (["--only-api", "--runtime-api-address", "127.0.0.1:{taken}"], "--runtime-api-address HOST:PORT"),
        (
            [
                "--only-api",
                "--runtime-api-address",
                "127.0.0.1:0",
                "--env-file",
                "/nowhere/env",
                "--port",
                "0",
            ],
            "the file '/nowhere/env' cannot be written: No such file or directory",
        ),
        (
            [
                *["--only-api", "--runtime-api-address", "127.0.0.1:0", "--port", "0"],
                *["--env", "A=b\nc", "--env-file", os.devnull],
            ],
            "the variable A has a line end in it",
        ),
    ],
)
def test_what_only_api_cannot_do_is_said(arguments: list[str], words: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run(
            [CALORIC, "emulate", *[argument.replace("{taken}", str(port)) for argument in arguments]],
            cwd=tmp_path,
            env=environment(""),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert (run.returncode, run.stdout) == (2, ""), shlex.join(arguments)
    assert words in run.stderr
    assert run.stderr.count("\n") == 1
