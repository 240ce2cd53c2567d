"""Several invocations at once in threads of one process: Managed Instances with a plain handler, where
`CALORIC_CONCURRENCY=thread` asks for it or the interpreter has no GIL (spec runtime-api 6).

Each thread has a connection of its own and does what the one thread does elsewhere; the main thread is there for
signals.
Imported only there.
"""

from __future__ import annotations

import os
import signal
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from caloric import concurrency
from caloric._rust import wait_readable
from caloric.answers import answer
from caloric.context import time
from caloric.error_report import report_fault
from caloric.errors import RuntimeApiError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from caloric._rust import RuntimeClient

__all__ = ["serve"]

# How often the main thread looks whether the last invocations are through, in seconds.
_LOOK_S = 0.02


def serve(client: RuntimeClient, handler: Callable[[Any, Any], Any], count: int) -> NoReturn:
    """Serve up to `count` invocations at once until the process ends: when the Runtime API is gone for all of them,
    when a handler raised what is no `Exception` (`SystemExit`) and the other invocations are through, and by what a
    signal handler raises.
    """
    concurrency.begin(client)
    try:
        _Threads(client, handler, count).run()
    except BaseException as error:
        concurrency.leave(error)


class _Threads:
    """The threads, and what has become of them."""

    def __init__(self, client: RuntimeClient, handler: Callable[[Any, Any], Any], count: int) -> None:
        self._handler = handler
        self._clients = [client.sibling() for _ in range(count)]
        self._serving = set(self._clients)
        self._ended: SimpleQueue[tuple[RuntimeClient, BaseException | None]] = SimpleQueue()
        # Counts what is in the queue.
        self._has_ended = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        self._ending = False

    def run(self) -> NoReturn:
        # Signals are the main thread's: one that met another thread would wake nobody.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for number, client in enumerate(self._clients, 1):
                threading.Thread(
                    target=self._work, args=(client,), name=f"invocations-{number}", daemon=True
                ).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        while True:
            wait_readable(self._has_ended)
            os.eventfd_read(self._has_ended)
            client, error = self._ended.get_nowait()
            self._serving.discard(client)
            if error is not None and not (isinstance(error, RuntimeApiError) and self._serving):
                break
        self._end()
        raise error

    def _end(self) -> None:
        """Take no more invocations, and wait until those that run are through, or their time is up."""
        self._stop()
        until_ms = max(self._deadlines(), default=0)
        while self._deadlines() and time() * 1000 < until_ms:
            try:
                self._serving.discard(self._ended.get(timeout=_LOOK_S)[0])
            except Empty:
                pass

    def _stop(self) -> None:
        self._ending = True
        for client in self._clients:
            # So that `run` returns when the handler does.
            client.hand_over()
        self._clients[0].stop()

    def _deadlines(self) -> list[int]:
        """Those of the invocations that run."""
        deadlines = (client.deadline_ms for client in self._serving)
        return [deadline for deadline in deadlines if deadline is not None]

    def _work(self, client: RuntimeClient) -> None:
        try:
            while not self._ending:
                unanswered = client.run(self._handler)
                answer(client, *unanswered)
                # A large result must not stay in memory while the environment idles.
                del unanswered
        except RuntimeApiError as error:
            self._tell(client, error)
        except BaseException as error:
            # Before the caller has the answer, and comes again.
            self._stop()
            _answer_last(client, error)
            self._tell(client, error)
        else:
            self._tell(client, None)

    def _tell(self, client: RuntimeClient, error: BaseException | None) -> None:
        self._ended.put((client, error))
        os.eventfd_write(self._has_ended, 1)


def _answer_last(client: RuntimeClient, error: BaseException) -> None:
    """Answer the invocation whose handler ends the process, since its caller would wait for the others."""
    request_id = client.aws_request_id
    if request_id is None or client.deadline_ms is None:
        return
    report = report_fault("Runtime.ExitError", f"the handler has ended its process: {error!r}", request_id)
    try:
        client.post_invocation_error(
            request_id, report.body, report.error_type, report.xray_cause, client.invocation_id
        )
    except RuntimeApiError:
        # The process ends anyway.
        pass
