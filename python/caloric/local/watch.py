"""A folder with code that somebody edits: tells what was saved, once for a burst of saves.

Needs watchfiles, of the extra `local`. Where the system tells of no changes, as on some mounts, its variable
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

# Milliseconds. A burst has ended when nothing was saved for `_QUIET`, and is told of after `_LONGEST_BURST` all the
# same: an invocation that comes 300 ms after a save is to run the new code.
_QUIET = 40
_LONGEST_BURST = 160
# So often it is seen whether the folder is still the one that is watched.
_LOOK = 200
# Nanoseconds: files' times come from a clock that ticks every few milliseconds, and are behind by as much.
_CLOCK_TICK = 20_000_000

_not_ignored = DefaultFilter(
    ignore_dirs=(*DefaultFilter.ignore_dirs, ".ruff_cache", ".nox", ".vscode", ".aws-sam", ".caloric"),
    ignore_entity_patterns=(
        *DefaultFilter.ignore_entity_patterns,
        # What vim tries to write where it will save; swap files beyond .swp; Emacs, PyCharm, Kate, GNOME's editor; and
        # what is written to be renamed.
        r"^4913$",
        r"^\..*\.sw[a-z]{1,2}$",
        r"^#.*#$",
        r"___jb_[a-z]+___$",
        r"\.kate-swp$",
        r"^\.goutputstream-",
        r"\.(tmp|temp|bak|orig|rej|part|crswap)$",
    ),
)


def is_code(path: str, root: str) -> bool:
    """Return whether a change of `path`, below the folder `root`, may change what the function does.

    Byte code, version control, the caches of tools, virtual environments and editors' temporary files do not. What
    folders `root` itself lies in does not matter.
    """
    relative = os.path.relpath(path, root)
    if relative == os.curdir:
        return True
    # The kind of change is not looked at.
    if not _not_ignored(Change.modified, relative):
        return False
    folder = root
    for name in relative.split(os.sep)[:-1]:
        folder = os.path.join(folder, name)
        if os.path.exists(os.path.join(folder, "pyvenv.cfg")):
            return False
    return True


class CodeWatch:
    """Calls `changed` from a thread of its own when code in the folder `root` was saved, added or removed.

    It gets the paths, relative to `root` and sorted, of one burst of changes. When the folder itself is removed, comes
    (back), or another one takes its place, it gets `["."]`; a folder that is not there is waited for. What `changed`
    raises goes to `threading.excepthook`, and watching goes on.

    Whatever is saved after the constructor was called counts, even before the system tells of it.
    """

    def __init__(self, root: str | os.PathLike[str], changed: Callable[[list[str]], object]) -> None:
        self.root = os.path.realpath(root)
        """The folder."""
        self._changed = changed
        self._stop = threading.Event()
        self._since_ns = time.time_ns() - _CLOCK_TICK
        self._identity = _identity(self.root)
        self._thread = threading.Thread(target=self._run, name=f"watch {self.root}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._identity is not None:
                # Removed at this moment, or no watches are left: looked at again below.
                with suppress(OSError):
                    self._watch()
            now = _identity(self.root)
            if now != self._identity:
                self._identity = now
                self._since_ns = time.time_ns() - _CLOCK_TICK
                self._tell(["."])
            self._stop.wait(_QUIET / 1000)

    def _watch(self) -> None:
        """Watch until the end, or until the folder is another one."""
        first = True
        for changes in watch(
            self.root,
            watch_filter=lambda _change, path: is_code(path, self.root),
            step=_QUIET,
            debounce=_LONGEST_BURST,
            stop_event=self._stop,
            rust_timeout=_LOOK,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            if _identity(self.root) != self._identity:
                return
            paths = {os.path.relpath(path, self.root) for _, path in changes}
            if first:
                paths.update(self._saved_since())
                first = False
            if paths:
                self._tell(sorted(paths))

    def _saved_since(self) -> list[str]:
        """Return what was saved while the watch was set up."""
        found = []
        for parent, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if is_code(os.path.join(parent, name), self.root)]
            for path in (os.path.join(parent, name) for name in files):
                with suppress(OSError):
                    if os.stat(path).st_mtime_ns > self._since_ns and is_code(path, self.root):
                        found.append(os.path.relpath(path, self.root))
        return found

    def _tell(self, paths: list[str]) -> None:
        try:
            self._changed(paths)
        except Exception as error:
            threading.excepthook(
                threading.ExceptHookArgs(
                    (type(error), error, error.__traceback__, threading.current_thread())
                )
            )

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
    return (status.st_dev, status.st_ino) if os.path.isdir(path) else None
