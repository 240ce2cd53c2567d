"""Code and layers as files that are named by their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = ["Blobs"]

_NEW = ".new-"
"""How the names of files begin that are being written."""


class Blobs:
    """Files in `folder`, each named by the SHA-256 of its content in hexadecimal digits. Safe for threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._lock = threading.Lock()
        self._used: Counter[str] = Counter()
        """By how many blocks of `adding` each digest is used."""
        self._spared: set[str] | None = None
        """The digests used by any since the collection that is going on began."""
        self._collecting = threading.Lock()
        # Of a process that was killed while it wrote.
        for path in folder.glob(f"{_NEW}*"):
            path.unlink()

    def add(self, content: bytes) -> str:
        """Keep `content`, and return its digest. It is on the disk then, whole.

        Until a document in the store refers to it, `collect` may remove it again: `adding` holds it.
        """
        with self.adding(content) as digest:
            return digest

    @contextmanager
    def adding(self, content: bytes) -> Iterator[str]:
        """Keep `content`, which no `collect` removes inside the block. Write the document that refers to it there."""
        digest = hashlib.sha256(content).hexdigest()
        with self._lock:
            self._used[digest] += 1
            if self._spared is not None:
                self._spared.add(digest)
        try:
            if not self.path(digest).exists():
                self._write(digest, content)
            yield digest
        finally:
            with self._lock:
                self._used[digest] -= 1
                if not self._used[digest]:
                    del self._used[digest]

    def path(self, digest: str) -> Path:
        """Return where the file with this digest is, or would be."""
        return self.folder / digest

    def collect(self, referenced: Callable[[], Collection[str]]) -> int:
        """Remove what is not referred to, and return how many files that were.

        `referenced` is called once, and reads from the store which digests are. What was referred to before by no
        document must come to a document inside a block of `adding` only.
        """
        with self._collecting:
            with self._lock:
                self._spared = set(self._used)
            try:
                found = {path.name for path in self.folder.iterdir() if not path.name.startswith(_NEW)}
                removed = 0
                for digest in found.difference(referenced()):
                    with self._lock:
                        # What a block has used since the beginning may have come to a document after the reading.
                        if digest not in self._spared:
                            self.path(digest).unlink()
                            removed += 1
                return removed
            finally:
                with self._lock:
                    self._spared = None

    def _write(self, digest: str, content: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=_NEW)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path(digest))
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
