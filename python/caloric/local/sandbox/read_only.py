"""Folders that functions may read and not write, as far as permissions go."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_read_only", "remove_folder"]

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def make_read_only(folder: Path, *, top: bool = True) -> None:
    """Take the permission to write from all files and folders below `folder`, and from itself unless `top` is false.

    Links are left alone. Who owns the files can undo it, and root is not kept from anything: it stops mistakes. A
    folder that is read-only already is believed to be so all the way down.
    """
    if not _is_writable(folder) and top:
        return
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            _protect(os.path.join(parent, name))
    if top:
        # Last: it says that all is done.
        _protect(str(folder))


def remove_folder(folder: Path) -> None:
    """Remove a folder that was made read-only, with all that is in it. One that is not there is no error."""
    if not os.path.isdir(folder):
        return
    os.chmod(folder, stat.S_IRWXU)
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, stat.S_IRWXU)
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _is_writable(folder: Path) -> bool:
    return bool(os.stat(folder).st_mode & _WRITE)


def _protect(path: str) -> None:
    mode = os.lstat(path).st_mode
    if not stat.S_ISLNK(mode) and mode & _WRITE:
        os.chmod(path, stat.S_IMODE(mode) & ~_WRITE)
