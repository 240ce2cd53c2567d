"""One service per data directory."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from caloric.local.state.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DirectoryLock"]


class DirectoryLock:
    """Keeps every other process out of `folder` until `release`, or until this one ends in whatever way.

    Raises `StateError`, naming the process, when there is another one.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StateError(f"{folder} cannot be used: {error.strerror}: {error.filename}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            process = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise StateError(
                f"{folder} is used by another local Lambda service"
                f"{f' (process {process})' if process else ''}: stop it, or use another data directory"
            ) from None
        except OSError as error:
            os.close(self._descriptor)
            raise StateError(f"{folder} cannot be locked: {error.strerror}") from None

    def release(self) -> None:
        """Let others in. The file stays: removing it could let two in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
