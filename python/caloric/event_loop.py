"""Signals for event loops: handlers that user code registered with `loop.add_signal_handler` while the runtime waits
for the next invocation and the loop does not run.
"""

from __future__ import annotations

import asyncio
import select
import sys


def run_signal_handlers(interrupted: bool) -> None:
    """Let the main thread's event loop, if there is an idle one, run what a signal queued in it.

    `interrupted` says that a signal has just come. Otherwise the loop is left alone unless one waits in it, taken by
    another thread perhaps: what else it has to do is for the next invocation.
    """
    loop = _idle_loop()
    if loop is None or not (interrupted or _signal_waits(loop)):
        return
    # The first turn reads which signals came and queues their handlers; the second one runs them, and stops.
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()


def _signal_waits(loop: asyncio.AbstractEventLoop) -> bool:
    # asyncio's own loops are told of signals through a socket pair; another loop's way is not known.
    socket = getattr(loop, "_ssock", None)
    return socket is not None and bool(select.select([socket], [], [], 0)[0])


def _idle_loop() -> asyncio.AbstractEventLoop | None:
    # Asked of the policy's own memory: get_event_loop() would make a loop, or warn, where there is none.
    if sys.version_info >= (3, 14):
        policy = asyncio.events._get_event_loop_policy()
    else:
        policy = asyncio.get_event_loop_policy()
    loop = getattr(getattr(policy, "_local", None), "_loop", None)
    if loop is None or loop.is_closed() or loop.is_running():
        return None
    return loop  # type: ignore[no-any-return]
