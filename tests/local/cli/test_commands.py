"""`caloric local` beside a running service: deploy, invoke, logs, status, stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.local.cli.commands import CALORIC, Started, alive, caloric, variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = """
import os

def handler(event, context):
    print("got", event)
    if event.get("fail"):
        raise ValueError("as asked")
    return {"answer": 1, "event": event, "variable": os.environ.get("COLOUR"), "memory": context.memory_limit_in_mb}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a function, in the folder that commands are run in."""
    path = tmp_path / "hello"
    path.mkdir()
    (path / "app.py").write_text(SOURCE, encoding="utf-8")
    return path


@pytest.fixture
def service(folder: Path) -> Iterator[Started]:
    """Return a running service, without functions."""
    with Started(folder.parent) as started:
        yield started


def ok(run: subprocess.CompletedProcess[str]) -> str:
    """Return the standard output of a command that has to succeed."""
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_folder_is_deployed_and_invoked_and_only_the_result_is_on_stdout(service: Started) -> None:
    deployed = service.caloric("deploy", "hello")
    assert ok(deployed) == ""
    assert "created hello (python3." in deployed.stderr
    assert "try: caloric local invoke hello\n" in deployed.stderr
    invoked = service.caloric("invoke", "hello", "--event", '{"n": 1}')
    assert json.loads(ok(invoked)) == {"answer": 1, "event": {"n": 1}, "variable": None, "memory": "128"}
    assert invoked.stderr == ""


def test_deploying_again_changes_what_is_given_and_keeps_the_rest(service: Started) -> None:
    ok(service.caloric("deploy", "hello", "--memory", "256", "--env", "COLOUR=red"))
    again = service.caloric("deploy", "hello", "--timeout", "9")
    assert ok(again) == ""
    assert "updated hello" in again.stderr
    answer = json.loads(ok(service.caloric("invoke", "hello")))
    assert (answer["variable"], answer["memory"]) == ("red", "256")
    ok(service.caloric("deploy", "hello", "--env", "COLOUR=blue"))
    answer = json.loads(ok(service.caloric("invoke", "hello")))
    assert (answer["variable"], answer["memory"]) == ("blue", "256")


def test_a_zip_file_is_uploaded(service: Started, folder: Path) -> None:
    with zipfile.ZipFile(folder.parent / "packed.zip", "w") as archive:
        archive.write(folder / "app.py", "app.py")
    ok(service.caloric("deploy", "packed.zip", "--handler", "app.handler"))
    (folder / "app.py").unlink()
    assert json.loads(ok(service.caloric("invoke", "packed")))["answer"] == 1


def test_what_is_no_zip_file_is_refused_in_the_words_of_the_service(service: Started, folder: Path) -> None:
    (folder.parent / "text.zip").write_text("text", encoding="utf-8")
    run = service.caloric("deploy", "text.zip", "--handler", "app.handler")
    assert run.returncode == 2
    assert run.stderr.startswith("caloric local: Could not unzip uploaded file.")
    assert run.stderr.endswith("(InvalidParameterValueException)\n")


def test_a_folder_without_a_handler_is_a_mistake_that_names_the_option(
    service: Started, folder: Path
) -> None:
    (folder / "app.py").write_text("def something_else(): pass\n", encoding="utf-8")
    run = service.caloric("deploy", "hello")
    assert run.returncode == 2
    assert "no handler was found in " in run.stderr
    assert "name it with --handler MODULE.FUNCTION" in run.stderr


def test_a_bootstrap_in_the_folder_is_run_whatever_it_is_written_in(service: Started, folder: Path) -> None:
    bootstrap = folder / "bootstrap"
    bootstrap.write_text(
        "#!/bin/sh\n"
        "api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation\n"
        "while true; do\n"
        '  id=$(curl -s -D - -o /dev/null "$api/next" | sed -n "s/\\r//;s/^lambda-runtime-aws-request-id: //Ip")\n'
        '  curl -s -X POST -d "\\"from a shell\\"" "$api/$id/response" >/dev/null\n'
        "done\n",
        encoding="utf-8",
    )
    bootstrap.chmod(0o755)
    deployed = service.caloric("deploy", "hello")
    assert ok(deployed) == ""
    assert "created hello (provided.al2023, bootstrap)" in deployed.stderr
    assert ok(service.caloric("invoke", "hello")) == '"from a shell"\n'


def test_a_function_that_fails_is_exit_code_one_with_its_error_as_the_result(service: Started) -> None:
    ok(service.caloric("deploy", "hello"))
    run = service.caloric("invoke", "hello", "--event", '{"fail": true}')
    assert run.returncode == 1
    error = json.loads(run.stdout)
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "as asked")


def test_the_event_may_come_from_a_file_or_standard_input_and_the_log_is_told_on_stderr(
    service: Started, folder: Path
) -> None:
    ok(service.caloric("deploy", "hello"))
    (folder.parent / "event.json").write_text('{"from": "file"}', encoding="utf-8")
    from_file = service.caloric("invoke", "hello", "--event", "@event.json", "--log-tail")
    assert json.loads(ok(from_file))["event"] == {"from": "file"}
    assert "got {'from': 'file'}\n" in from_file.stderr
    assert "REPORT RequestId: " in from_file.stderr
    from_stdin = service.caloric("invoke", "hello", "--event", "-", stdin='{"from": "stdin"}')
    assert json.loads(ok(from_stdin))["event"] == {"from": "stdin"}


def test_what_the_service_does_not_know_is_a_mistake(service: Started) -> None:
    for arguments in (["invoke", "nobody"], ["logs", "nobody"]):
        run = service.caloric(*arguments)
        assert (run.returncode, run.stdout) == (2, "")
        assert run.stderr.startswith(
            "caloric local: Function not found: arn:aws:lambda:us-east-1:012345678912:"
        )
        assert run.stderr.endswith("(ResourceNotFoundException)\n")


def test_a_saved_change_is_what_an_invocation_300_ms_later_runs(service: Started, folder: Path) -> None:
    ok(service.caloric("deploy", "hello"))
    assert json.loads(ok(service.caloric("invoke", "hello")))["answer"] == 1
    for number in range(2, 5):
        (folder / "app.py").write_text(SOURCE.replace('"answer": 1', f'"answer": {number}'), encoding="utf-8")
        time.sleep(0.3)
        assert json.loads(ok(service.caloric("invoke", "hello")))["answer"] == number


def test_an_event_is_accepted_and_runs(service: Started) -> None:
    ok(service.caloric("deploy", "hello"))
    run = service.caloric("invoke", "hello", "--async", "--event", '{"async": 1}')
    assert ok(run) == ""
    assert run.stderr.startswith("caloric local invoke: accepted as ")
    wait_until(lambda: "got {'async': 1}" in service.caloric("logs", "hello").stdout, "the event to run")


def test_a_stream_is_printed_as_it_comes_and_its_error_told(service: Started, folder: Path) -> None:
    (folder / "app.py").write_text(
        "import time\n"
        "def handler(event, context):\n"
        "    yield 'first '\n"
        "    if event.get('fail'): raise ValueError('midway')\n"
        "    yield 'second'\n",
        encoding="utf-8",
    )
    ok(service.caloric("deploy", "hello"))
    run = service.caloric("invoke", "hello", "--stream", "--log-tail")
    assert ok(run) == "first second"
    assert "REPORT RequestId: " in run.stderr
    failed = service.caloric("invoke", "hello", "--stream", "--event", '{"fail": true}')
    assert failed.returncode == 1
    assert failed.stdout == "first "
    assert "the function failed: " in failed.stderr


def test_a_version_or_alias_is_invoked_by_its_qualifier(service: Started, folder: Path) -> None:
    ok(service.caloric("deploy", "hello"))
    run = service.caloric("invoke", "hello", "--qualifier", "7")
    assert run.returncode == 2
    assert ":function:hello:7 (ResourceNotFoundException)\n" in run.stderr


def test_status_shows_functions_environments_and_starts(service: Started) -> None:
    ok(service.caloric("deploy", "hello"))
    before = json.loads(ok(service.caloric("status", "--json")))
    (function,) = before["functions"]
    assert (function["function"], function["version"]) == ("hello", "$LATEST")
    assert function["environments"] == {
        "init": 0,
        "busy": 0,
        "idle": 0,
        "frozen": 0,
        "provisioned": 0,
        "draining": 0,
    }
    assert (function["coldStarts"], function["warmStarts"], function["memoryMB"]) == (0, 0, 0)
    for _ in range(3):
        ok(service.caloric("invoke", "hello"))

    def settled() -> bool:
        (function,) = json.loads(ok(service.caloric("status", "--json")))["functions"]
        environments = function["environments"]
        return (environments["idle"], environments["frozen"]) == (1, 1) and function["memoryMB"] > 0

    wait_until(settled, "the environment to be idle and frozen")
    (function,) = json.loads(ok(service.caloric("status", "--json")))["functions"]
    assert (function["coldStarts"], function["warmStarts"]) == (1, 2)
    text = ok(service.caloric("status"))
    assert service.url in text
    (row,) = [line for line in text.splitlines() if line.startswith("hello ")]
    assert row.split()[:8] == ["hello", "$LATEST", "0", "0", "1", "1", "1", "2"]


def test_logs_end_with_the_latest_and_follow_what_comes_over_a_restart(folder: Path) -> None:
    with Started(folder.parent) as service:
        ok(service.caloric("deploy", "hello"))
        ok(service.caloric("invoke", "hello", "--event", '{"number": 1}'))
        text = ok(service.caloric("logs", "hello"))
        assert "got {'number': 1}\n" in text
        assert text.splitlines()[-1].startswith("REPORT RequestId: ")
        assert len(ok(service.caloric("logs", "-n", "2", "hello")).splitlines()) == 2
        follower = subprocess.Popen(
            [CALORIC, "local", "logs", "-f", "hello"],
            cwd=folder.parent,
            env=variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert follower.stdout is not None
        assert follower.stderr is not None

        def read_until(text: str) -> None:
            assert follower.stdout is not None
            while text not in follower.stdout.readline():
                assert follower.poll() is None

        read_until("got {'number': 1}")
        ok(service.caloric("invoke", "hello", "--event", '{"number": 2}'))
        read_until("got {'number': 2}")
    # Without a service the logs are there all the same.
    assert "got {'number': 2}\n" in ok(caloric("logs", "hello", cwd=folder.parent))
    with Started(folder.parent) as service:
        ok(service.caloric("invoke", "hello", "--event", '{"number": 3}'))
        read_until("got {'number': 3}")
    follower.send_signal(signal.SIGINT)
    assert follower.wait(20) == 0
    assert follower.stderr.read() == ""
    follower.stdout.close()
    follower.stderr.close()


def test_logs_into_a_pipe_that_is_closed_end_quietly(service: Started) -> None:
    ok(service.caloric("deploy", "hello"))
    for _ in range(3):
        ok(service.caloric("invoke", "hello"))
    run = subprocess.run(
        ["sh", "-c", f"{CALORIC} local logs -f hello | head -n 1"],
        cwd=service.folder,
        env=variables(),
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert run.stdout.count("\n") == 1
    assert run.stderr == ""


def test_stop_ends_the_service_and_what_it_started_and_the_next_start_has_everything(folder: Path) -> None:
    with Started(folder.parent) as service:
        ok(service.caloric("deploy", "hello", "--env", "COLOUR=green"))
        ok(service.caloric("invoke", "hello"))
        below = service.descendants()
        assert below
        stopped = service.caloric("stop")
        assert ok(stopped) == f"stopped the local Lambda on {folder.parent / '.caloric'}\n"
        assert service.wait() == 0
        assert not [pid for pid in below if alive(pid)]
        assert service.errors() == ""
        assert not {"service.json", "api.sock"} & set(os.listdir(folder.parent / ".caloric"))
    with Started(folder.parent) as service:
        assert json.loads(ok(service.caloric("invoke", "hello")))["variable"] == "green"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["INT", "TERM", "HUP"])
def test_signals_end_it_in_order(number: signal.Signals, folder: Path) -> None:
    with Started(folder.parent) as service:
        ok(service.caloric("deploy", "hello"))
        ok(service.caloric("invoke", "hello"))
        below = service.descendants()
        service.kill(number)
        assert service.wait() == 0
        assert not [pid for pid in below if alive(pid)]
        assert service.errors() == ""


def test_a_second_ctrl_c_does_not_wait(folder: Path) -> None:
    (folder / "app.py").write_text(
        "import signal, time\n"
        "from caloric import lifecycle\n"
        "@lifecycle.on_shutdown\n"
        "def slow():\n"
        "    print('shutting down', flush=True)\n"
        "    time.sleep(60)\n"
        "def handler(event, context): return 1\n",
        encoding="utf-8",
    )
    with Started(folder.parent) as service:
        ok(service.caloric("deploy", "hello"))
        ok(service.caloric("invoke", "hello"))
        below = service.descendants()
        service.kill(signal.SIGINT)
        assert service.process.stdout is not None
        while "stopping" not in service.process.stdout.readline():
            pass
        service.kill(signal.SIGINT)
        assert service.wait() in (0, 130)
        wait_until(lambda: not [pid for pid in below if alive(pid)], "its processes to end")


def test_killed_it_leaves_nothing_running_and_the_next_one_starts(folder: Path) -> None:
    with Started(folder.parent) as service:
        ok(service.caloric("deploy", "hello"))
        ok(service.caloric("invoke", "hello"))
        below = service.descendants()
        assert below
        service.kill(signal.SIGKILL)
        service.wait()
        wait_until(lambda: not [pid for pid in below if alive(pid)], "its processes to end")
    run = caloric("status", "--data", ".caloric", cwd=folder.parent)
    assert run.returncode == 2
    assert "start one with caloric local start" in run.stderr
    with Started(folder.parent) as service:
        assert json.loads(ok(service.caloric("invoke", "hello")))["answer"] == 1


def test_a_second_service_on_a_data_directory_is_refused(service: Started) -> None:
    run = service.caloric("start", "--port", "0")
    assert run.returncode == 2
    assert run.stderr.startswith("caloric local: ")
    assert f"process {service.process.pid}" in run.stderr
    assert run.stderr.count("\n") == 1
    assert json.loads(ok(service.caloric("status", "--json")))["pid"] == service.process.pid


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = caloric("start", "--port", str(port), cwd=tmp_path)
    assert run.returncode == 2
    assert f"127.0.0.1:{port}" in run.stderr
    assert "choose another with --port" in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_long_path_of_the_data_directory_does_not_matter(folder: Path) -> None:
    data = folder.parent / ("d" * 100) / ("d" * 100)
    with Started(folder.parent, "--data", str(data)) as service:
        ok(service.caloric("deploy", "hello", "--data", str(data)))
        assert json.loads(ok(service.caloric("invoke", "hello", "--data", str(data))))["answer"] == 1


def test_a_service_that_wants_signatures_takes_the_commands_that_have_the_credentials(folder: Path) -> None:
    credentials = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret"}
    with Started(folder.parent, "--require-auth", extra=credentials):
        refused = caloric("deploy", "hello", cwd=folder.parent)
        assert refused.returncode == 2
        assert "AWS_ACCESS_KEY_ID" in refused.stderr
        wrong = {**credentials, "AWS_SECRET_ACCESS_KEY": "wrong"}
        refused = caloric("deploy", "hello", cwd=folder.parent, extra=wrong)
        assert refused.returncode == 2
        assert "(InvalidSignatureException)" in refused.stderr
        ok(caloric("deploy", "hello", cwd=folder.parent, extra=credentials))
        run = caloric("invoke", "hello", "--event", '{"a": "ü"}', cwd=folder.parent, extra=credentials)
        assert json.loads(ok(run))["event"] == {"a": "ü"}
        ok(caloric("status", cwd=folder.parent))
        ok(caloric("stop", cwd=folder.parent))
