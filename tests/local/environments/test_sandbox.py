"""What the sandbox says of itself, and what it does to folders."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from caloric.local.sandbox.process import ProcessSandbox
from caloric.local.sandbox.read_only import make_read_only, remove_folder

if TYPE_CHECKING:
    from pathlib import Path


def modes(folder: Path) -> dict[str, int]:
    paths = [folder, *folder.rglob("*")]
    return {path.name: path.lstat().st_mode & 0o777 for path in paths if not path.is_symlink()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package, and beside it a file that a link in it leads to."""
    (tmp_path / "outside").write_text("")
    package = tmp_path / "task"
    (package / "lib").mkdir(parents=True)
    (package / "app.py").write_text("")
    (package / "lib" / "program").write_text("")
    for path, mode in ((package, 0o775), (package / "lib", 0o755), (package / "app.py", 0o664)):
        path.chmod(mode)
    (package / "lib" / "program").chmod(0o755)
    (package / "link").symlink_to(tmp_path / "outside")
    (package / "loop").symlink_to(package)
    return package


def test_it_says_of_each_limit_whether_it_is_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    def enforced() -> set[str]:
        return {limit.name for limit in ProcessSandbox().limits() if limit.enforced}

    limits = ProcessSandbox().limits()
    assert {"CPU share", "/tmp size", "/var/task and /opt"} <= {limit.name for limit in limits} - enforced()
    assert all(limit.how.endswith(".") for limit in limits)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert enforced() == {"timeout", "memory", "processes"}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert enforced() == {"timeout", "memory", "processes", "read-only code and layers"}


def test_nothing_can_be_written_to_in_a_read_only_folder_but_programs_run(folder: Path) -> None:
    before = modes(folder.parent / "outside")
    make_read_only(folder)
    assert modes(folder) == {"task": 0o555, "lib": 0o555, "app.py": 0o444, "program": 0o555}
    assert modes(folder.parent / "outside") == before
    make_read_only(folder)
    remove_folder(folder)
    assert not folder.exists()
    assert (folder.parent / "outside").exists()
    remove_folder(folder)


def test_code_is_made_read_only_where_that_means_something_and_not_in_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = modes(folder)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    places = ProcessSandbox().places(folder, None, writable_code=True)
    assert (places.task_root, places.opt) == (str(folder), None)
    assert modes(folder) == before
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    ProcessSandbox().places(folder, None, writable_code=False)
    assert modes(folder) == before
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ProcessSandbox().places(folder, None, writable_code=False)
    assert modes(folder)["app.py"] == 0o444
