"""What lies where in a data directory, and how commands find the service that runs on it.

Commands import this module: it imports next to nothing. Store, code and the lock that keeps a second service out are in
`caloric.local.state`.
"""

from __future__ import annotations

import json
import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DEFAULT_FOLDER", "DEFAULT_PORT", "Layout", "ServiceFile"]

DEFAULT_FOLDER = ".caloric"
"""The data directory where none is named, in the current folder."""


DEFAULT_PORT = 9001
"""Where the service listens unless it is told otherwise."""


class Layout:
    """The places in the data directory `folder`, besides those of `caloric.local.state`. Making one touches nothing."""

    def __init__(self, folder: str | os.PathLike[str] = DEFAULT_FOLDER) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.logs = self.folder / "logs"
        """Log streams, in a folder for each log group."""
        self.layers = self.folder / "layers"
        """Layers merged to what functions have as `/opt`; made again where it is missing."""
        self.runtimes = self.folder / "runtimes"
        """Caloric for other Python versions than the service's own."""
        self.socket = self.folder / "api.sock"
        """Where the API listens for the front, while the service runs."""
        self.service = self.folder / "service.json"
        """What `ServiceFile` announces."""

    def make(self) -> None:
        """Make the folder where it is missing: its owner's alone, since variables and code are nobody else's business,
        and left out of version control. Raises `OSError`.
        """
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True)
            (self.folder / ".gitignore").write_text("*\n", encoding="ascii")


class ServiceFile:
    """Announces a service in `service.json`: its URL, its process, and whatever else commands should know.

    The service keeps the file locked. The kernel takes the lock back whatever becomes of the service, so that the file
    of a killed one is not believed.
    """

    def __init__(self, layout: Layout) -> None:
        self._path = layout.service
        self._descriptor = -1

    def announce(self, **service: object) -> None:
        """Write the file. Only a service that has the data directory for itself may call this. Raises `OSError`."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Who looks at the file that was left behind has it for an instant.
        flock(self._descriptor, LOCK_EX)
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, json.dumps({**service, "pid": os.getpid()}).encode() + b"\n")

    def withdraw(self) -> None:
        """Remove the file again. Idempotent."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def running(self) -> dict[str, Any] | None:
        """Return what the service that runs on this directory has announced, `None` where there is none."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            flock(descriptor, LOCK_SH | LOCK_NB)
        except BlockingIOError:
            document = json.loads(os.read(descriptor, 1 << 16) or b"null")
        except OSError:
            return None
        else:
            return None
        finally:
            os.close(descriptor)
        return document if isinstance(document, dict) else None
