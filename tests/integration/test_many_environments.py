"""Environments in numbers: a hundred at once in one process, and what they leave behind."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from caloric._rust import ExecutionEnvironment, InvokeResult
from caloric.cli.options import FAST_WAY_IN
from caloric.local.extensions import launch_extensions
from caloric.local.process import function_environment, supervise
from tests.freezers import FREEZERS, groups, is_frozen, skip_unless_usable
from tests.parts import foreign
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import MakeExtension, WriteFunction

# It writes a file, so that the environment has a folder, and leaves a process behind.
FUNCTION = """
    import os, subprocess, tempfile

    def handler(event, context):
        tempfile.mkstemp()
        return [os.getpid(), subprocess.Popen(["sleep", "600"], start_new_session=True).pid]
"""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> set[str]:
    paths = Path("/proc/self/task").glob("*/children")
    return {pid for path in paths for pid in path.read_text(encoding="ascii").split()}


def listening() -> set[str]:
    """The ports that this process listens on."""
    sockets = {os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    found = set()
    for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            found.add(fields[1])
    return found


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty folder for temporary files that is used here, and by all that is started."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    tempfile.tempdir = None


@pytest.mark.parametrize(("freezer", "count"), [("auto", 100), *((freezer, 10) for freezer in FREEZERS)])
def test_many_environments_leave_nothing_behind(
    freezer: str,
    count: int,
    write_function: WriteFunction,
    make_extension: MakeExtension,
    temporary: Path,
    tmp_path: Path,
) -> None:
    skip_unless_usable(freezer)
    folder, journal = str(write_function(FUNCTION)), tmp_path / "journal"
    # Most have an extension in Rust, which takes all telemetry; two hundred interpreters would take 10 s to start.
    observer, slow = foreign("observer"), make_extension("slow", "events")

    def run(count: int) -> None:
        environments, processes = [], []
        for number in range(count):
            extension = slow if number % 10 == 0 else observer
            extensions = {extension.name: str(extension)}
            environment = ExecutionEnvironment(
                timeout_ms=120_000,
                init_timeout_ms=120_000,
                freezer=freezer,
                extensions=list(extensions),
            )
            user = {"JOURNAL": str(journal), "OBSERVER_PORT": str(free_port())}
            variables = function_environment(environment, task_root=folder, user=user)
            launch_extensions(environment, extensions, variables)
            command = [*FAST_WAY_IN, "app.handler"]
            processes.append(supervise(environment, command, variables, cwd=folder))
            environments.append(environment)
        results: list[InvokeResult] = []
        done = threading.Event()

        def finished(result: InvokeResult) -> None:
            results.append(result)
            if len(results) == count:
                done.set()

        for environment in environments:
            environment.submit(b"0", finished)
        assert done.wait(120)
        assert {result.status for result in results} == {"success"}
        pids = [pid for result in results for pid in json.loads(result.payload)]
        assert len(set(pids)) == 2 * count
        wait_until(lambda: all(map(is_frozen, pids)))
        assert len(groups(os.getpid())) == (0 if environments[0].freezer == "signals" else count)
        assert len(listening() - ports) == count
        assert len(list(temporary.iterdir())) == count
        assert all(environment.invoke(b"0").status == "success" for environment in environments)
        closing = [threading.Thread(target=environment.close) for environment in environments]
        for thread in closing:
            thread.start()
        for thread, process in zip(closing, processes, strict=True):
            thread.join()
            assert process.join(10)
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert not groups(os.getpid())
        assert not list(temporary.iterdir())

    ports = listening()
    run(1)
    before, others = descriptors(), children()
    run(count)
    # Connections are closed by the endpoint's thread, a moment later.
    wait_until(lambda: descriptors() <= before)
    wait_until(lambda: listening() <= ports)
    assert children() == others
