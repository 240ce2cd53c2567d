"""The data directory as a whole: what of the service survives a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloric.local.state import STATE_FILE
from caloric.local.state.blobs import Blobs
from caloric.local.state.errors import StateError
from caloric.local.state.lock import DirectoryLock
from caloric.local.state.store import Store

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["DataDirectory"]


class DataDirectory:
    """The documents and the blobs in `folder`, which is made where it is not there.

    ```
    lock         who uses it
    state.db     the documents, with state.db-wal and state.db-shm beside it
    blobs/       zip files by their SHA-256
    packages/    the same unpacked (`service.activation`); made again where it is missing
    ```

    Raises `StateError` when another process uses the folder, and when something in it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"{folder} cannot be used: {error.strerror}") from None
        self._lock = DirectoryLock(folder)
        try:
            self.store = Store(folder / STATE_FILE)
            self.blobs = Blobs(folder / "blobs")
        except OSError as error:
            self.close()
            raise StateError(f"{folder} cannot be used: {error.strerror}: {error.filename}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process use the folder."""
        store: Store | None = getattr(self, "store", None)
        if store is not None:
            store.close()
        self._lock.release()

    def __enter__(self) -> DataDirectory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
