"""Code and layers as files that are named by their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

__all__ = ["Blobs"]


class Blobs:
    """Files in `folder`, each named by the SHA-256 of its content in hexadecimal digits. Safe for threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def add(self, content: bytes) -> str:
        """Keep `content`, and return its digest. It is on the disk then, whole."""
        digest = hashlib.sha256(content).hexdigest()
        if not self.path(digest).exists():
            descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".new-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path(digest))
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return digest

    def path(self, digest: str) -> Path:
        """Return where the file with this digest is, or would be."""
        return self._folder / digest
