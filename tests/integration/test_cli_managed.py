"""`--max-concurrency` of `caloric invoke` and `caloric emulate`."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtimes import environment

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

# Answers when three invocations run at the same time.
TOGETHER = """
    import os, pathlib, time

    def handler(event, context):
        folder = pathlib.Path(__file__).with_name("running")
        folder.mkdir(exist_ok=True)
        (folder / context.aws_request_id).touch()
        while len(list(folder.iterdir())) < 3:
            time.sleep(0.002)
        return os.getpid()
"""
CALORIC = [str(Path(sysconfig.get_path("scripts")) / "caloric")]


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    env = environment("")
    del env["AWS_LAMBDA_RUNTIME_API"]
    return subprocess.run(
        [*CALORIC, *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        timeout=50,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_invoke_runs_as_many_at_once_and_all_of_them(write_function: WriteFunction) -> None:
    arguments = ["invoke", "app.handler", "--max-concurrency", "3", "--repeat", "7", "--timeout", "30"]
    run = command(*arguments, folder=write_function(TOGETHER))
    assert run.returncode == 0, run.stderr.decode()
    pids = run.stdout.decode().split()
    assert len(pids) == 7
    assert len(set(pids)) == 3
    assert len(re.findall("^REPORT ", run.stderr.decode(), re.MULTILINE)) == 7


def test_a_handler_that_cannot_be_loaded_is_the_answer_to_all(write_function: WriteFunction) -> None:
    arguments = ["invoke", "app.missing", "--max-concurrency", "2", "--repeat", "2"]
    run = command(*arguments, folder=write_function(TOGETHER))
    assert run.returncode == 1
    assert {json.loads(line)["errorType"] for line in run.stdout.splitlines()} == {"Runtime.HandlerNotFound"}


@pytest.mark.parametrize("way", ["option", "variable"])
def test_emulate_serves_several_at_once(way: str, write_function: WriteFunction) -> None:
    option = ["--max-concurrency", "3"] if way == "option" else []
    variables = {"AWS_LAMBDA_MAX_CONCURRENCY": "3"} if way == "variable" else {}
    runtime = [sys.executable, "-m", "caloric", "app.handler"]
    process = subprocess.Popen(
        [*CALORIC, "emulate", "--port", "0", *option, "--", *runtime],
        cwd=write_function(TOGETHER),
        env=environment("", **variables),
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    with process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, b"")
            address = next(
                found[1] for line in lines if (found := re.search(rb"listening on http://([^/]*)/", line))
            )
            pids: list[bytes] = []

            def invoke() -> None:
                connection = http.client.HTTPConnection(address.decode(), timeout=30)
                connection.request("POST", "/2015-03-31/functions/function/invocations", b"{}")
                pids.append(connection.getresponse().read())
                connection.close()

            threads = [threading.Thread(target=invoke) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        finally:
            process.send_signal(signal.SIGTERM)
    assert len(set(pids)) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--max-concurrency", "0"],
            "argument --max-concurrency: 0 is out of range: 1 to 1600 invocations at once",
        ),
        (["--max-concurrency", "many"], "argument --max-concurrency: 'many' is not a whole number"),
        (["--max-concurrency", "2", "--snapstart"], "--snapstart and --max-concurrency exclude each other"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    run = command("invoke", "app.handler", *arguments, folder=tmp_path)
    assert run.returncode == 2
    assert said in run.stderr.decode()
