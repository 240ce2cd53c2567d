"""What counts as a change of a function's code, and how soon it is told."""

from __future__ import annotations

import os
import threading
import time
from queue import Empty, Queue
from typing import TYPE_CHECKING

import pytest

from caloric.local.watch import CodeWatch, is_code

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    # In a folder whose name is ignored inside of one.
    folder = tmp_path / ".venv" / "project"
    folder.mkdir(parents=True)
    (folder / "app.py").write_text("one")
    return folder


@pytest.fixture
def told(root: Path) -> Iterator[Queue[list[str]]]:
    changes: Queue[list[str]] = Queue()
    with CodeWatch(root, changes.put):
        # From here on the system tells of changes, and not what was found when the watch was set up.
        (root / "first.py").write_text("")
        while "first.py" not in changes.get(timeout=10):
            pass
        yield changes


def paths(changes: Queue[list[str]], expected: set[str]) -> set[str]:
    """What is told until all that is expected is there."""
    found: set[str] = set()
    while not expected <= found:
        found.update(changes.get(timeout=10))
    return found


@pytest.mark.parametrize(
    "path",
    [
        "__pycache__/app.cpython-312.pyc",
        "app.pyc",
        ".git/index",
        ".venv/lib/x.py",
        "node_modules/x/index.js",
        ".app.py.swp",
        ".app.py.swx",
        "4913",
        "app.py~",
        "#app.py#",
        ".#app.py",
        "app.py___jb_tmp___",
        "app.py.tmp",
    ],
)
def test_what_is_not_code_does_not_count(root: Path, path: str) -> None:
    assert not is_code(str(root / path), str(root))


@pytest.mark.parametrize("path", ["app.py", "package/data.json", "bootstrap", ".env", "templates/a.html"])
def test_all_else_counts(root: Path, path: str) -> None:
    assert is_code(str(root / path), str(root))


def test_a_virtual_environment_of_any_name_does_not_count(root: Path) -> None:
    (root / "env" / "lib").mkdir(parents=True)
    (root / "env" / "pyvenv.cfg").write_text("")
    assert not is_code(str(root / "env" / "lib" / "x.py"), str(root))


def test_a_save_is_told(root: Path, told: Queue[list[str]]) -> None:
    (root / "app.py").write_text("two")
    assert paths(told, {"app.py"}) == {"app.py"}


def test_a_burst_is_told_in_few_calls(root: Path, told: Queue[list[str]]) -> None:
    names = {f"module_{number}.py" for number in range(300)}
    for name in names:
        (root / name).write_text("")
    calls = 0
    found: set[str] = set()
    while not names <= found:
        found.update(told.get(timeout=10))
        calls += 1
    assert calls < 100, "one call for each file is no debouncing"


def test_what_is_ignored_is_not_told(root: Path, told: Queue[list[str]]) -> None:
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "app.pyc").write_text("")
    (root / "app.py~").write_text("")
    (root / "app.py").write_text("three")
    found = paths(told, {"app.py"})
    # The folder is new, what is in it does not count.
    assert found == {"app.py"}


def test_a_save_while_the_watch_is_set_up_is_told(root: Path) -> None:
    changes: Queue[list[str]] = Queue()
    with CodeWatch(root, changes.put):
        later = time.time_ns() + 1_000_000
        os.utime(root / "app.py", ns=(later, later))
        assert "app.py" in paths(changes, {"app.py"})


def test_a_folder_that_goes_and_comes_back_is_told_twice_and_watched_further(
    root: Path, told: Queue[list[str]]
) -> None:
    away = root.with_name("away")
    root.rename(away)
    assert "." in paths(told, {"."})
    away.rename(root)
    assert "." in paths(told, {"."})
    (root / "app.py").write_text("back")
    assert "app.py" in paths(told, {"app.py"})


def test_another_folder_in_its_place_is_watched(root: Path, told: Queue[list[str]]) -> None:
    new = root.with_name("new")
    new.mkdir()
    (new / "app.py").write_text("new")
    root.rename(root.with_name("old"))
    new.rename(root)
    assert "." in paths(told, {"."})
    (root / "other.py").write_text("")
    assert "other.py" in paths(told, {"other.py"})


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    changes: Queue[list[str]] = Queue()
    root = tmp_path / "later"
    with CodeWatch(root, changes.put):
        root.mkdir()
        assert paths(changes, {"."})


def test_an_error_of_the_callback_does_not_end_the_watch(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: Queue[list[str]] = Queue()
    errors: Queue[type[BaseException]] = Queue()
    monkeypatch.setattr(threading, "excepthook", lambda arguments: errors.put(arguments.exc_type))

    def changed(found: list[str]) -> None:
        changes.put(found)
        raise LookupError("no such function")

    with CodeWatch(root, changed):
        (root / "one.py").write_text("")
        paths(changes, {"one.py"})
        assert errors.get(timeout=10) is LookupError
        (root / "two.py").write_text("")
        assert "two.py" in paths(changes, {"two.py"})


def test_nothing_is_told_after_close(root: Path) -> None:
    changes: Queue[list[str]] = Queue()
    watch = CodeWatch(root, changes.put)
    watch.close()
    watch.close()
    (root / "app.py").write_text("late")
    with pytest.raises(Empty):
        changes.get(timeout=0.3)
    assert not any(thread.name.startswith(f"watch {root}") for thread in threading.enumerate())
