"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# A time limit per example would test how busy the machine is. In CI the examples are the same each time, so that a
# change is judged by what it changes; on a developer's machine they are new ones.
settings.register_profile(
    "caloric",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("caloric")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Leave the names of the tests that failed, those in which pytest itself died included, to `tools/pytest`."""
    if path := os.environ.get("FAILED_TESTS"):
        reports = [report for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, [])]
        names = sorted({report.nodeid for report in reports})
        Path(path).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


# What the runtime, the endpoint and boto3 read. A test that needs one of them sets it.
PREFIXES = ("AWS_", "_AWS_", "LAMBDA_", "_LAMBDA_", "CALORIC_")
NAMES = ("_HANDLER", "_X_AMZN_TRACE_ID")


@pytest.fixture(autouse=True)
def clean_environ() -> Iterator[None]:
    """Hide the machine's own AWS settings from the test, and the test's settings from the next one."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(PREFIXES) or name in NAMES:
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def handlers() -> Path:
    """Return the folder of the sample handlers."""
    return Path(__file__).parent / "handlers"


class WriteFunction(Protocol):
    """The type of the `write_function` fixture."""

    def __call__(self, source: str, name: str = "app.py") -> Path: ...


@pytest.fixture
def write_function(tmp_path: Path) -> WriteFunction:
    """Return a function that writes a handler file, dedented, and returns its folder: a task root."""

    def write(source: str, name: str = "app.py") -> Path:
        root = tmp_path / "task"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source), encoding="utf-8")
        return root

    return write


class MakeExtension(Protocol):
    """The type of the `make_extension` fixture."""

    def __call__(self, name: str, mode: str) -> Path: ...


@pytest.fixture
def make_extension(tmp_path: Path) -> MakeExtension:
    """Return a function that writes the executable of an extension, see `extension_program`, and returns its path."""

    program = Path(__file__).parent / "integration" / "extension_program.py"

    def make(name: str, mode: str) -> Path:
        path = tmp_path / "extensions" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -S "{program}" "$0" {mode} "$#"\n', encoding="utf-8"
        )
        path.chmod(0o755)
        return path

    return make
