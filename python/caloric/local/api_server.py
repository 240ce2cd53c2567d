"""Serves the API to the front: an ASGI application on a Unix socket, from a thread of its own.

uvicorn, Starlette and the application itself are imported there, when somebody asks for the API or when it has been
quiet for a moment: an invocation of a function that is there needs none of them, and should have the processor for
itself. Who asks before they are ready waits in the socket's queue.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp
    from uvicorn import Server

__all__ = ["ApiServer", "reachable_path"]

_BACKLOG = 1024

_QUIET_S = 0.5
"""So long the API waits for its first request before it makes itself ready without one."""


def reachable_path(path: Path, folder: int) -> str:
    """Return a name for the socket at `path` that is short enough for one, whatever the data directory is called.

    `folder` is an open descriptor of its folder, and the name good in this process only, while it is open.
    """
    return f"/proc/self/fd/{folder}/{path.name}"


class ApiServer:
    """The thread. `make_application` is called on it once, when there is a request or after `quiet_s`.

    Listens when it is made, and answers when the application has been. Where that fails, `report` is told why, and the
    socket is closed. Raises `OSError` when the socket cannot be made.
    """

    def __init__(
        self,
        path: Path,
        make_application: Callable[[], ASGIApp],
        report: Callable[[BaseException], None],
        *,
        quiet_s: float = _QUIET_S,
    ) -> None:
        self._folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.path = reachable_path(path, self._folder)
            """By which this process reaches the socket."""
            self._socket.bind(self.path)
            path.chmod(0o600)
            self._socket.listen(_BACKLOG)
        except BaseException:
            self._socket.close()
            os.close(self._folder)
            raise
        self._make_application = make_application
        self._report = report
        self._quiet_s = quiet_s
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._server: Server | None = None
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._report(error)
        finally:
            self._socket.close()

    def _serve(self) -> None:
        awaited: list[socket.socket | int] = [self._socket, self._wake]
        select.select(awaited, [], [], self._quiet_s)
        if self._closing:
            return

        import uvicorn

        config = uvicorn.Config(
            self._make_application(),
            lifespan="on",
            ws="none",
            loop="asyncio",
            log_config=None,
            access_log=False,
            # The front has its own; what a client says of itself is not believed.
            proxy_headers=False,
            server_header=False,
            # The front keeps connections as long as it likes.
            timeout_keep_alive=3600,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        if not self._closing:
            self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Finish the requests that are being answered, for a second at most, and end the thread."""
        self._closing = True
        os.eventfd_write(self._wake, 1)
        if self._server is not None:
            self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5)
        else:
            self._socket.close()
        os.close(self._wake)
        os.close(self._folder)
