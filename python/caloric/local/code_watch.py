"""Watch a function's code: what was saved, told once for a burst of saves.

It needs watchfiles (the `local` extra). Where file system events do not arrive, as on some mounts,
WATCHFILES_FORCE_POLLING=true has it look for itself.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from watchfiles import Change, DefaultFilter, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["CodeWatch", "is_code"]

# Milliseconds. A save is seen after one step or two, and told when nothing else came for QUIET: well below the 300 ms
# after which an invocation is promised the new code.
_STEP = 25
_QUIET = 100
# Seconds. Who saves without a pause is told from time to time.
_LONGEST_BURST = 2.0
_START_LIMIT = 30.0

_not_ignored = DefaultFilter(
    ignore_dirs=(*DefaultFilter.ignore_dirs, ".ruff_cache", ".nox", ".vscode", ".aws-sam"),
    # Vim's test whether it may write and its swap files beyond .swp, Emacs's and PyCharm's, and what is to be renamed.
    ignore_entity_patterns=(
        *DefaultFilter.ignore_entity_patterns,
        r"^4913$",
        r"^\..*\.sw[a-z]{1,2}$",
        r"^#.*#$",
        r"___jb_[a-z]+___$",
        r"\.(tmp|temp|bak|orig|rej|part|crswap)$",
        r"^\.~lock\.",
    ),
)


def is_code(path: str, root: str) -> bool:
    """Whether a change of `path`, which lies below `root`, may change what the function does.

    Bytecode, version control, tools' caches, virtual environments and editors' temporary files do not.
    """
    relative = os.path.relpath(path, root)
    # The kind of change is not looked at.
    if not _not_ignored(Change.modified, relative):
        return False
    folder = root
    for name in relative.split(os.sep):
        folder = os.path.join(folder, name)
        if os.path.exists(os.path.join(folder, "pyvenv.cfg")):
            return False
    return True


class CodeWatch:
    """Calls `changed` when files below the folder `root` were saved, added or removed, from a thread of its own.

    Saves that follow each other within 100 ms are one change, which is told about 150 ms after the last of them.
    `changed` gets their paths, sorted, relative to `root`; files that are gone are named only if nothing else changed,
    since editors and formatters write others and rename them. A folder that is removed and made again, as builds do
    it, is watched further, and counts as changed.

    It watches when the constructor returns, which raises `OSError` if that is not possible. Leaving its context ends
    it.
    """

    def __init__(self, root: str, changed: Callable[[list[str]], object]) -> None:
        self.root = os.path.realpath(root)
        """The folder."""
        self._changed = changed
        self._stop = threading.Event()
        self._watching = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="code watch", daemon=True)
        self._thread.start()
        self._watching.wait(_START_LIMIT)
        if self._failure is not None:
            raise OSError(f"the folder {root} cannot be watched: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            self._watch_folder(set())
        except Exception as error:
            self._failure = error
            self._watching.set()
            return
        # Here only when the folder went away.
        while not self._stop.wait(_QUIET / 1000):
            if os.path.isdir(self.root):
                with suppress(Exception):
                    self._watch_folder({self.root})

    def _watch_folder(self, pending: set[str]) -> None:
        """Watch until the end, or until the folder is another one. `pending` has changed before."""
        identity = _identity(self.root)
        since = time.monotonic()
        for changes in watch(
            self.root,
            watch_filter=self._counts,
            step=_STEP,
            debounce=_QUIET,
            stop_event=self._stop,
            rust_timeout=_QUIET,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            self._watching.set()
            if changes and not pending:
                since = time.monotonic()
            pending.update(path for _, path in changes)
            if _identity(self.root) != identity:
                return
            if pending and (not changes or time.monotonic() - since > _LONGEST_BURST):
                told = {path for path in pending if os.path.lexists(path)} or pending
                pending = set()
                self._changed(sorted(os.path.relpath(path, self.root) for path in told))

    def _counts(self, _change: Change, path: str) -> bool:
        return is_code(path, self.root)

    def close(self) -> None:
        """Watch no more. A call that is under way is waited for. Idempotent."""
        self._stop.set()
        self._thread.join(10)

    def __enter__(self) -> CodeWatch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
