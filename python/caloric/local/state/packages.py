"""Code and layers unpacked, each once, into a folder that is named by the zip file's digest."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from caloric.local.archives import MergedArchives

if TYPE_CHECKING:
    from collections.abc import Collection

    from caloric.local.state.blobs import Blobs

__all__ = ["Packages"]

_NEW = ".new-"


class Packages:
    """Folders in `folder` with what is in the zip files of `blobs`. Safe for threads.

    Nothing in them may be written to by anyone but root, as `/var/task` and `/opt` are read-only in AWS.
    """

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._blobs = blobs
        self._unpacking = threading.Lock()
        # Of a process that was killed while it unpacked.
        for path in folder.glob(f"{_NEW}*"):
            _remove(path)

    def path(self, digest: str) -> Path:
        """Return where the folder of this digest is, or would be."""
        return self._folder / digest

    def digests(self) -> set[str]:
        """Return the digests of what is unpacked."""
        return {name for name in os.listdir(self._folder) if not name.startswith(_NEW)}

    def unpack(self, digest: str) -> Path:
        """Return the folder with what is in the zip file of this digest, and unpack it where that was not done before.

        Another process never sees half of it.

        Raises:
            ArchiveError: when the file is not there, damaged, or has what would lead outside the folder.
            OSError: when the folder cannot be written.
        """
        path = self.path(digest)
        if path.is_dir():
            return path
        # One at a time: two would read and write the same disk, and may be the same package.
        with self._unpacking:
            if path.is_dir():
                return path
            temporary = Path(tempfile.mkdtemp(dir=self._folder, prefix=_NEW))
            try:
                MergedArchives([str(self._blobs.path(digest))]).unpack(str(temporary))
                _protect(temporary)
                os.rename(temporary, path)
            except BaseException:
                _remove(temporary)
                raise
        return path

    def collect(self, referenced: Collection[str]) -> int:
        """Remove what is not in `referenced`, and return how many folders that were.

        Only when nothing runs in them: at the start of the service.
        """
        removed = 0
        for path in self._folder.iterdir():
            if path.name not in referenced:
                # Renamed first, so that half of it is never taken for the whole.
                doomed = self._folder / f"{_NEW}{path.name}"
                os.rename(path, doomed)
                _remove(doomed)
                removed += 1
        return removed


def _protect(folder: Path) -> None:
    """Take the permission to write from the folder and everything in it, and give everyone that to read."""
    for parent, folders, files in os.walk(folder):
        for name in files + folders:
            path = os.path.join(parent, name)
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                execute = 0o111 if stat.S_ISDIR(mode) else mode & 0o111
                os.chmod(path, 0o444 | execute)
    os.chmod(folder, 0o555)


def _remove(folder: Path) -> None:
    """Remove a folder whose folders may not be written to."""
    for parent, folders, _ in os.walk(folder):
        os.chmod(parent, 0o755)
        for name in folders:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755)
    shutil.rmtree(folder)
