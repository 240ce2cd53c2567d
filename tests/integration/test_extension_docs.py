"""The examples of docs/extension-sdk.md and of the example's README are run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from tests.runtimes import environment as variables_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import WriteFunction

ROOT = Path(__file__).parents[2]
SCRIPTS = sysconfig.get_path("scripts")
GUIDE = (ROOT / "docs/extension-sdk.md").read_text(encoding="utf-8")
README = (ROOT / "examples/telemetry_shipper/README.md").read_text(encoding="utf-8")

HANDLER = """
    def handler(event, context):
        print("hello from", context.aws_request_id)
        return context.aws_request_id
"""


def blocks(page: str, language: str) -> list[str]:
    """Return the page's code blocks of one language."""
    parts = re.split(r"^```(\w*)\n", page, flags=re.MULTILINE)
    # Text, then by turns a fence with what follows it: every other fence ends a block.
    return [parts[at + 1] for at in range(1, len(parts), 4) if parts[at] == language]


def console(page: str) -> list[list[str]]:
    """Return the commands of each block that shows some."""
    shown = [re.findall(r"^\$ (.*)$", block, re.MULTILINE) for block in blocks(page, "")]
    return [commands for commands in shown if commands]


def run(
    commands: list[str], folder: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    env = {**variables_for(""), **(variables or {})}
    del env["AWS_LAMBDA_RUNTIME_API"]
    env["PATH"] = os.pathsep.join((SCRIPTS, env["PATH"]))
    script = "set -e\n" + "\n".join(commands)
    return subprocess.run(
        ["sh", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=50
    )


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def check(done: subprocess.CompletedProcess[str]) -> None:
    """The first example saw the invocation, its log and its end."""
    assert done.returncode == 0, done.stderr
    request_id = json.loads(done.stdout)
    said = [line for line in done.stderr.splitlines() if line.startswith("[my-extension] ")]
    assert re.match(rf"\[my-extension\] invocation {request_id} has \d+ ms", said[0])
    assert f"[my-extension] function hello from {request_id}" in said
    assert any(line.startswith("[my-extension] platform.report {") for line in said)
    assert said[-1] == "[my-extension] the end: spindown"


def test_the_first_example(write_function: WriteFunction) -> None:
    folder = write_function(HANDLER)
    (program,) = blocks(GUIDE, "python")
    (folder / "my-extension").write_text(program, encoding="utf-8")
    commands, _ = console(GUIDE)
    check(run(commands, folder))


def test_the_layer(write_function: WriteFunction) -> None:
    folder = write_function(HANDLER)
    (program,) = blocks(GUIDE, "python")
    (wrapper,) = blocks(GUIDE, "sh")
    layer = folder / "my-layer"
    executable(layer / "extensions/my-extension", wrapper)
    executable(layer / "my-extension/main.py", program.replace("Extension()", 'Extension("my-extension")'))
    # In place of what pip would install: the interpreter of the tests has it.
    executable(layer / "python/nothing.py", "")
    _, commands = console(GUIDE)
    check(run(commands, folder))


def test_the_readme_of_the_shipper(tmp_path: Path) -> None:
    (commands,) = console(README)
    script = [command.replace("/tmp/telemetry.jsonl", str(tmp_path / "telemetry")) for command in commands]
    assert script != commands
    done = run(script, ROOT)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if '"platform.report"' in line]) == 3


def test_the_table_of_callbacks_is_complete() -> None:
    from caloric.extension import Extension

    decorators = {name for name in vars(Extension) if name.startswith("on_")}
    assert set(re.findall(r"^\| `@extension\.(\w+)", GUIDE, re.MULTILINE)) == decorators
