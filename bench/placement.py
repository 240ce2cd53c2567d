"""On which CPUs the two sides of a cycle run.

Left alone, the kernel puts a runtime and its endpoint on one CPU or on two as it likes, sometimes from one
round to the next, and a cycle costs several times more on two: each message wakes up an idle CPU. So both
are measured, each on purpose.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALLOWED = sorted(os.sched_getaffinity(0))
ENDPOINT_CPU = _ALLOWED[0]
# Numbers far apart are two cores rather than two threads of one, where there are more than two.
RUNTIME_CPU = _ALLOWED[-1]


def pin(pid: int, cpu: int) -> None:
    """Keep all threads of a process on one CPU; threads they start later stay there too."""
    _set_affinity(pid, {cpu})


@contextmanager
def endpoint_on(cpu: int) -> Iterator[None]:
    """Keep this process, which serves the Runtime API, on one CPU meanwhile."""
    before = os.sched_getaffinity(0)
    _set_affinity(os.getpid(), {cpu})
    try:
        yield
    finally:
        _set_affinity(os.getpid(), before)


def _set_affinity(pid: int, cpus: set[int]) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):  # a thread that has ended meanwhile
            os.sched_setaffinity(int(thread), cpus)
