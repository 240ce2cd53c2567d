"""What the page on the local Lambda and the README tell to type."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.local.cli.commands import CALORIC, SCRIPTS, Started, variables

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/local-lambda.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": "us-east-1",
    "PATH": f"{SCRIPTS}:/usr/bin:/bin",
}


def typed(text: str, service: Started) -> list[tuple[str, str]]:
    """Run the commands of a block of a terminal, but the start; return what is shown and what was printed."""
    shown = re.split(r"^\$ ", text.replace("http://127.0.0.1:9001", service.url), flags=re.MULTILINE)[1:]
    found = []
    exported = dict(CREDENTIALS)
    for command, _, expected in (part.partition("\n") for part in shown):
        if command == "caloric local start":
            continue
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            exported[name] = value
            continue
        run = subprocess.run(
            ["bash", "-c", command],
            cwd=service.folder,
            env=variables(exported),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert run.returncode == 0, (command, run.stderr)
        found.append((expected, run.stdout))
    return found


def test_the_quick_start_of_the_page_works_as_it_is_typed(tmp_path: Path) -> None:
    (_, function), (_, commands), (_, program), (_, with_cli), *_ = BLOCK.findall(PAGE)
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello/app.py").write_text(function, encoding="utf-8")
    with Started(tmp_path) as service:
        for expected, printed in typed(commands, service):
            # Blanks in JSON are the only difference: the page's are for the reader.
            assert printed.replace(" ", "").strip() == expected.replace(" ", "").strip()
        run = subprocess.run(
            [sys.executable, "-c", program.replace("http://127.0.0.1:9001", service.url)],
            env=variables(CREDENTIALS),
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        )
        assert run.stdout.startswith('b\'{"hello":"Ada"')
        published, listed = typed(with_cli, service)
        assert '"Version": "1"' in published[1]
        assert '"FunctionName": "hello"' in listed[1]


def test_the_commands_of_the_readme_work(tmp_path: Path) -> None:
    (block,) = [text for _, text in BLOCK.findall(README) if "caloric local start" in text]
    shutil.copytree(ROOT / "examples/hello", tmp_path / "examples/hello")
    with Started(tmp_path) as service:
        (_, deployed), (_, invoked), (_, listed) = typed(block, service)
    assert deployed == ""
    assert '"statusCode":200' in invoked
    assert '"FunctionName": "hello"' in listed


def test_the_page_names_every_command_and_option_of_start() -> None:
    for command in ("start", "deploy", "invoke", "logs", "status", "stop", "runtime"):
        assert f"`caloric local {command}" in PAGE
    run = subprocess.run(
        [CALORIC, "local", "start", "--help"],
        env=variables(),
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    for option in set(re.findall(r"^  (--[a-z-]+)", run.stdout, re.MULTILINE)):
        assert option in PAGE, option
