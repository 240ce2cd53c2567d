"""What the service asks of a watch that `caloric emulate --reload` does not: see tests/emulator/test_reload.py."""

from __future__ import annotations

import os
import time
from queue import Queue
from typing import TYPE_CHECKING

import pytest

from caloric.local.code_watch import CodeWatch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "app.py").write_text("one")
    long_ago = time.time() - 1000
    os.utime(folder / "app.py", (long_ago, long_ago))
    return folder


def paths(changes: Queue[list[str]], expected: str) -> set[str]:
    """What is told until the path that is expected is there."""
    found: set[str] = set()
    while expected not in found:
        found.update(changes.get(timeout=20))
    return found


def test_a_save_while_the_watch_is_set_up_is_told(root: Path) -> None:
    changes: Queue[list[str]] = Queue()
    with CodeWatch(str(root), changes.put, wait=False):
        # As if it had come between the constructor and the first look of the system.
        later = time.time_ns()
        os.utime(root / "app.py", ns=(later, later))
        assert paths(changes, "app.py") == {"app.py"}


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    changes: Queue[list[str]] = Queue()
    root = tmp_path / "later"
    with CodeWatch(str(root), changes.put, wait=False):
        root.mkdir()
        paths(changes, ".")
        (root / "app.py").write_text("")
        paths(changes, "app.py")
    with pytest.raises(OSError, match="cannot be watched"):
        CodeWatch(str(tmp_path / "never"), changes.put)


def test_a_folder_that_goes_is_told_once_and_watched_when_it_is_back(root: Path) -> None:
    changes: Queue[list[str]] = Queue()
    gone: Queue[bool] = Queue()
    with CodeWatch(str(root), changes.put, gone=lambda: gone.put(True), wait=False):
        # From here on the system tells of changes.
        (root / "app.py").write_text("two")
        paths(changes, "app.py")
        root.rename(root.with_name("away"))
        assert gone.get(timeout=20)
        root.with_name("away").rename(root)
        paths(changes, ".")
        (root / "app.py").write_text("three")
        paths(changes, "app.py")
    assert gone.empty()
