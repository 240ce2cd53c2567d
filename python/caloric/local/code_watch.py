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

from caloric.local.state import STATE_FILE

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
# Nanoseconds: files' times are those of a clock that ticks every few milliseconds, and are behind by as much.
_CLOCK_TICK_NS = 20_000_000

# A folder that holds one of them is a virtual environment, or a data directory of the local Lambda, whose logs grow
# with every invocation of the function beside it.
_NOT_CODE = ("pyvenv.cfg", STATE_FILE)

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

    Bytecode, version control, tools' caches, virtual environments, the local Lambda's data and editors' temporary files
    do not.
    """
    relative = os.path.relpath(path, root)
    # The kind of change is not looked at.
    if not _not_ignored(Change.modified, relative):
        return False
    folder = root
    for name in relative.split(os.sep):
        folder = os.path.join(folder, name)
        if any(os.path.exists(os.path.join(folder, mark)) for mark in _NOT_CODE):
            return False
    return True


class CodeWatch:
    """Calls `changed` when files below the folder `root` were saved, added or removed, from a thread of its own.

    Saves that follow each other within 100 ms are one change, which is told about 150 ms after the last of them.
    `changed` gets their paths, sorted, relative to `root`; files that are gone are named only if nothing else changed,
    since editors and formatters write others and rename them. A folder that is removed and made again, as builds do
    it, is watched further, and counts as changed; `gone`, if given, is called when it is removed.

    It watches when the constructor returns, which raises `OSError` if that is not possible. With `wait=False` it
    returns at once: a folder that is not there is waited for, and what was saved since then counts all the same.
    Leaving its context ends it.
    """

    def __init__(
        self,
        root: str,
        changed: Callable[[list[str]], object],
        *,
        gone: Callable[[], object] | None = None,
        wait: bool = True,
    ) -> None:
        self.root = os.path.realpath(root)
        """The folder."""
        self._changed = changed
        self._gone = gone
        self._patient = not wait
        self._expected = os.path.isdir(self.root)
        self._since_ns = time.time_ns() - _CLOCK_TICK_NS
        self._stop = threading.Event()
        self._watching = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="code watch", daemon=True)
        self._thread.start()
        if not wait:
            return
        self._watching.wait(_START_LIMIT)
        if self._failure is not None:
            raise OSError(f"the folder {root} cannot be watched: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            # One that comes only now has changed.
            self._watch_folder(set() if self._expected else {self.root})
        except Exception as error:
            self._failure = error
            self._watching.set()
            if not self._patient:
                return
        there = self._failure is None
        # Here only when the folder went away, or has not come yet.
        while not self._stop.wait(_QUIET / 1000):
            if os.path.isdir(self.root):
                there = True
                with suppress(Exception):
                    self._watch_folder({self.root})
            elif there and self._gone is not None:
                there = False
                self._gone()

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
            if not self._watching.is_set():
                self._watching.set()
                if self._patient:
                    pending.update(self._saved_since())
            if changes and not pending:
                since = time.monotonic()
            pending.update(path for _, path in changes)
            if _identity(self.root) != identity:
                return
            if pending and (not changes or time.monotonic() - since > _LONGEST_BURST):
                told = {path for path in pending if os.path.lexists(path)} or pending
                pending = set()
                self._changed(sorted(os.path.relpath(path, self.root) for path in told))

    def _saved_since(self) -> list[str]:
        """Return what was saved while the watch was set up, before the system told of it."""
        found = []
        for parent, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if is_code(os.path.join(parent, name), self.root)]
            for path in (os.path.join(parent, name) for name in files):
                with suppress(OSError):
                    if os.stat(path).st_mtime_ns > self._since_ns and is_code(path, self.root):
                        found.append(path)
        return found

    def _counts(self, _change: Change, path: str) -> bool:
        return is_code(path, self.root)

    def close(self) -> None:
        """Watch no more. A call that is under way is waited for, unless this is called from it. Idempotent."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
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
