"""Every example of docs/testing.md runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "testing.md"
# A block begins with its file's name. Those without a language are for people.
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"# ([\w./]+)\n")


class Section(NamedTuple):
    """A part of the page with its files."""

    title: str
    files: dict[str, str]


def sections() -> list[Section]:
    """Return the parts of the page that have examples. Each has the first one's app.py, unless it has its own."""
    found: list[Section] = []
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        files: dict[str, str] = dict(found[0].files) if found else {}
        files.pop("test_app.py", None)
        blocks = [(language, text) for language, text in BLOCK.findall(part) if language]
        for _language, text in blocks:
            name = NAME.match(text)
            assert name, f"an example without a file's name in {part.splitlines()[0]}: {text}"
            files[name[1]] = text[name.end() :]
        if blocks:
            found.append(Section(part.splitlines()[0], files))
    return found


SECTIONS = sections()


@pytest.mark.parametrize("section", SECTIONS, ids=[section.title for section in SECTIONS])
def test_examples_run(section: Section, pytester: pytest.Pytester) -> None:
    for name, text in section.files.items():
        path = pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    tests = sum(text.count("\ndef test_") + text.startswith("def test_") for text in section.files.values())
    scripts = [name for name in section.files if name == "script.py"]
    assert tests or scripts
    for script in scripts:
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
        assert done.stdout == "1\n"
    if tests:
        result = pytester.runpytest_inprocess("-p", "no:ddtrace", "-p", "no:benchmark")
        parametrised = sum(text.count("parametrize(") for text in section.files.values())
        result.assert_outcomes(passed=tests + parametrised)


def test_the_page_names_what_there_is() -> None:
    from caloric.testing import InvocationResult, InvocationStream, LambdaFunction, events

    text = PAGE.read_text(encoding="utf-8")
    for name in events.__all__:
        assert name in text, name
    for name in vars(LambdaFunction):
        assert name.startswith("_") or name in text or name in ("environment", "pid", "close"), name
    for name in [*vars(InvocationResult), *vars(InvocationStream)]:
        assert name.startswith("_") or name in text, name


def test_the_readmes_example_runs(pytester: pytest.Pytester) -> None:
    text = PAGE.parent.parent.joinpath("README.md").read_text(encoding="utf-8")
    blocks = [block for language, block in BLOCK.findall(text) if language == "python"]
    (app,) = (block for block in blocks if block.startswith("# app.py\n"))
    (test,) = (block for block in blocks if block.startswith("def test_"))
    pytester.makepyfile(app=app, test_app=test)
    pytester.runpytest_inprocess("-p", "no:ddtrace", "-p", "no:benchmark").assert_outcomes(passed=1)
