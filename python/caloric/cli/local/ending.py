"""How the service is told to end: Ctrl-C, SIGTERM, a closed terminal, `caloric local stop`."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_FORCES = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """Takes the signals over for the main thread, as a context manager.

    The first one lets `wait` return. A second SIGINT or SIGTERM ends the process at once: no Python code has to come to
    an end for it, and what the service started is killed by the reapers. Where SIGHUP was ignored (nohup), it stays so.
    """

    def __init__(self) -> None:
        self._began = False
        self._force: Callable[[], object] = lambda: None
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        # What is written here is seen by `wait` even if it comes just before it.
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __enter__(self) -> Ending:
        for number in (*_FORCES, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_force(self, act: Callable[[], object]) -> None:
        """Have `act` called before the process ends at once. It must be quick."""
        self._force = act

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._began and number in _FORCES:
            try:
                self._force()
            finally:
                os._exit(128 + number)
        self.begin()

    def begin(self) -> None:
        """End, as if a signal had come. For any thread."""
        self._began = True
        os.write(self._write, b".")

    def wait(self) -> None:
        """Return when the process is to end."""
        import select

        while not self._began:
            select.select([self._read], [], [])

    def finish(self, act: Callable[[], object]) -> None:
        """Run what ends the service, on a thread, so that a signal is heard meanwhile. Raises what `act` raises."""
        import threading

        failed: list[BaseException] = []

        def run() -> None:
            try:
                act()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, name="end", daemon=True)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
