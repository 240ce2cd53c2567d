"""What the commands say without a service."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.local.cli.commands import caloric, variables
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ["start", "deploy", "invoke", "logs", "status", "stop", "runtime"]


def test_help_names_every_command_with_an_example(tmp_path: Path) -> None:
    run = caloric("--help", cwd=tmp_path)
    assert run.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command} " in run.stdout
    assert "caloric local deploy hello" in run.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_examples_and_imports_no_service(command: str, tmp_path: Path) -> None:
    program = (
        "import sys, caloric.cli\n"
        "try: caloric.cli.main(['local', sys.argv[1], '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, command],
        cwd=tmp_path,
        env=variables(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert f"\n  caloric local {command} " in run.stdout
    loaded = set(run.stderr.split())
    assert not loaded & {
        "starlette",
        "uvicorn",
        "botocore",
        "boto3",
        "rich",
        "asyncio",
        "sqlite3",
        "watchfiles",
    }
    assert not {name for name in loaded if name.startswith(("caloric.local.service.", "caloric.local.http"))}


@pytest.mark.parametrize(
    "arguments", [["invoke", "hello"], ["status"], ["stop"], ["logs", "hello"], ["deploy", "."]]
)
@pytest.mark.parametrize("where", ["data", "port"])
def test_without_a_service_the_commands_say_how_to_start_one(
    arguments: list[str], where: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context): pass\n", encoding="utf-8")
    place = ["--data", str(tmp_path / "data")] if where == "data" else ["--port", str(free_port())]
    run = caloric(*arguments, *place, cwd=tmp_path)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("caloric local: no local Lambda was found: ")
    assert run.stderr.endswith("start one with caloric local start\n")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a command; choose from start, deploy,"),
        (["begin"], "there is no command 'begin'; choose from"),
        (
            ["start", "--port", "x"],
            "argument --port: 'x' is not a whole number (see caloric local start --help)",
        ),
        (["start", "--account", "12"], "--account '12' is not 12 digits"),
        (["start", "--region", "Mars!"], "--region 'Mars!' is no region"),
        (["start", "--require-auth"], "--require-auth needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (["invoke"], "the following arguments are required: NAME (see caloric local invoke --help)"),
        (["invoke", "f", "--event", "{"], "the event is not JSON: "),
        (["invoke", "f", "--async", "--stream"], "--async waits for no result: it does not go with --stream"),
        (["deploy", "nothing-here"], "nothing-here' cannot be read: No such file or directory"),
        (["deploy", ".", "--name", "a b"], "'a b' is no function name"),
        (["runtime", "add", "three"], "'three' is no Python version: name one such as 3.12"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_two(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    run = caloric(*arguments, cwd=folder)
    assert (run.returncode, run.stdout) == (2, "")
    last = run.stderr.splitlines()[-1]
    assert last.startswith("caloric local: ")
    assert message in last
    assert "Traceback" not in run.stderr
