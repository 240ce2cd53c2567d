"""Whose turn it is on a stream that several threads write to. Imported when two of them meet, not before.

`print("a", "b")` is four writes, each of them sent at once. A thread that finds another one in the middle of a line
waits until the line has ended, and then has its turn: first come, first served, for a thread that prints without a
pause would otherwise never let go. It does not wait for a line that nobody is about to end, such as a progress dot.
"""

import sys
from _thread import allocate_lock
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from caloric.runtime import Unbuffered

# How often a waiting thread looks whether the other one is still in its call, and how long it puts up with that:
# print() may be waiting for us, in the __str__ of what it prints. In seconds.
_LOOK = 0.005
_PATIENCE = 0.25


def wait_for_turn(stream: "Unbuffered") -> None:
    """Return when the calling thread may begin a line on `stream`, whose `line` lock is then held in its name."""
    turn = allocate_lock()
    turn.acquire()
    stream.queue.append(turn)
    seen = None
    deadline = 0.0
    # Either the line's writer hands its lock over, or it let go just before we queued up.
    while not stream.line.acquire(False):
        now = monotonic()
        current = (stream.writer, stream.position)
        if current != seen:
            seen = current
            deadline = now + _PATIENCE
        if now > deadline or not _is_writing(*current) or turn.acquire(timeout=_LOOK):
            break
    try:
        stream.queue.remove(turn)
    except ValueError:
        # Handed over.
        pass


def _is_writing(writer: int, position: "tuple[int, int] | None") -> bool:
    """Whether the thread is in the call in which it wrote the beginning of its line.

    `position` tells which one: the caller's frame, and how far that had come; None while nothing was written yet.
    """
    if not writer:
        # It has just begun, or has just ended.
        return True
    frame = sys._current_frames().get(writer)
    if position is None:
        # None: a thread that is gone, or that this process, a fork, does not have.
        return frame is not None
    while frame is not None:
        if (id(frame), frame.f_lasti) == position:
            return True
        frame = frame.f_back
    return False
