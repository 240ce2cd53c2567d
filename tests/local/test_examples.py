"""The examples of the local Lambda: the tutorial as it is typed, and the figures of cold starts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import caloric
from tests.local.cli.commands import SCRIPTS, Started, variables

if TYPE_CHECKING:
    from caloric.local.local_lambda import LocalLambda

ROOT = Path(__file__).parents[2]
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
JSON = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(300)
def test_the_tutorial_of_layers_works_as_it_is_typed(tmp_path: Path) -> None:
    folder = tmp_path / "layers"
    shutil.copytree(ROOT / "examples/layers", folder)
    text = (folder / "README.md").read_text(encoding="utf-8")
    commands = SHELL.findall(text)
    # A Python that has no packages of its own: those of the tests have requests among them.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    program = [
        str(tmp_path / "bare/bin/python"),
        "-c",
        "from caloric.cli import main; raise SystemExit(main())",
    ]
    packages = [str(Path(caloric.__file__).parents[1]), sysconfig.get_path("purelib")]
    with Started(tmp_path, extra={"PYTHONPATH": ":".join(packages)}, program=program) as service:
        # What differs from what a reader types: where the service listens, and that mistakes end it.
        typed = "\n".join(commands).replace("http://127.0.0.1:9001", service.url)
        run = subprocess.run(
            ["bash", "-e"],
            input=typed,
            cwd=folder,
            env=variables({"PATH": f"{SCRIPTS}:/usr/bin:/bin", "AWS_PAGER": ""}),
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    # The two answers that it shows, in their order, and nothing is left but what was there.
    answers = [json.loads(block) for block in JSON.findall(text)]
    assert len(answers) == 2
    printed = [json.loads(line) for line in re.findall(r'^\{".*\}$', run.stdout, re.MULTILINE)]
    for answer in answers:
        assert answer in printed, run.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "lambda_function.py"]


def figures(local_lambda: LocalLambda, *arguments: str) -> str:
    """Run the program against the service and return what it prints."""
    program = str(ROOT / "examples/cold-start/figures.py")
    run = subprocess.run(
        [sys.executable, program, "--endpoint-url", local_lambda.url, *arguments],
        env=variables(),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_figures_of_cold_starts_are_what_the_page_says(local_lambda: LocalLambda) -> None:
    found = json.loads(figures(local_lambda, "--repeat", "3", "--json"))
    assert found["cold_starts"] == 3
    assert found["cold"]["init"] > found["cold_light"]["init"]
    assert found["cold"]["total"] > found["warm"]
    assert found["after_ping"]["cold_starts"] == 0
    # One environment was warm. Who comes late may still get it.
    assert 1 <= found["after_ping"]["burst_cold_starts"] <= 3
    assert found["provisioned"]["cold_starts"] == 0
    assert found["provisioned"]["burst_cold_starts"] == 0


def test_the_table_of_cold_starts_is_printed(local_lambda: LocalLambda) -> None:
    table = figures(local_lambda, "--repeat", "1")
    for row in ("init: runtime and imports", "kept warm by a ping", "provisioned concurrency of 4"):
        assert row in table
