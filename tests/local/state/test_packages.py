"""Zip files unpacked once, whole, and not to be written to."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from caloric.local.archives import ArchiveError
from caloric.local.state.blobs import Blobs
from caloric.local.state.packages import Packages
from tests.local.service.recording import zipped

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def packages(tmp_path: Path, blobs: Blobs) -> Packages:
    return Packages(tmp_path / "packages", blobs)


def test_a_package_is_unpacked_once(packages: Packages, blobs: Blobs) -> None:
    digest = blobs.add(zipped({"a/b.py": "b"}))
    folder = packages.unpack(digest)
    assert folder == packages.path(digest)
    inode = folder.stat().st_ino
    blobs.path(digest).unlink()
    assert packages.unpack(digest).stat().st_ino == inode
    assert (folder / "a/b.py").read_text() == "b"
    for path in (folder, folder / "a", folder / "a/b.py"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o222


def test_threads_unpack_it_once(packages: Packages, blobs: Blobs) -> None:
    digest = blobs.add(zipped({f"f{number}": "x" * number for number in range(200)}))
    inodes: set[int] = set()
    threads = [
        threading.Thread(target=lambda: inodes.add(packages.unpack(digest).stat().st_ino)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inodes) == 1


def test_what_cannot_be_unpacked_leaves_nothing(packages: Packages, blobs: Blobs, tmp_path: Path) -> None:
    damaged = bytearray(zipped({"a": "a", "b": os.urandom(3000)}))
    damaged[1500] ^= 0xFF
    for content in (b"no zip", bytes(damaged), zipped({"../x": ""})):
        digest = blobs.add(content)
        with pytest.raises(ArchiveError):
            packages.unpack(digest)
    with pytest.raises(ArchiveError, match="cannot be read: No such file"):
        packages.unpack("0" * 64)
    assert list((tmp_path / "packages").iterdir()) == []


def test_packages_that_nothing_runs_in_are_removed(packages: Packages, blobs: Blobs, tmp_path: Path) -> None:
    first, second = (packages.unpack(blobs.add(zipped({name: "", "d/e/f": ""}))) for name in "ab")
    assert packages.collect({second.name}) == 1
    assert not first.exists()
    assert (second / "d/e/f").is_file()


def test_what_a_killed_process_left_is_removed(packages: Packages, blobs: Blobs, tmp_path: Path) -> None:
    half = tmp_path / "packages" / ".new-x"
    (half / "a").mkdir(parents=True)
    (half / "a/b").write_text("")
    (half / "a/link").symlink_to(tmp_path)
    half.joinpath("a").chmod(0o555)
    Packages(tmp_path / "packages", blobs)
    assert not half.exists()
    assert tmp_path.exists()
