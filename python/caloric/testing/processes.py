"""What the processes of an environment do, as the kernel tells it: whether they are frozen, what they have used.

A thread's time on a processor is exact to the nanosecond in `/proc/<pid>/task/<tid>/schedstat`; it does not change
while the thread waits or is stopped. Comparing it at two moments therefore needs no tolerance.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ProcessInfo", "assert_frozen", "assert_no_background_work", "processes"]

# Stopped, stopped by a debugger, ended and not yet reaped.
_AT_REST = frozenset("TtZX")
# As a bit among the pending signals in /proc/<pid>/status.
_SIGSTOP = 1 << signal.SIGSTOP - 1
_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 10.0
_LOOK_AGAIN_S = 0.002


@dataclass(frozen=True)
class ProcessInfo:
    """A process of an environment at one moment."""

    pid: int
    command: str
    """Its command line, or the program's name in brackets where it has none."""
    state: str
    """The kernel's letter: `R` running, `S` waiting, `T` stopped, which is how a process looks that signals freeze."""
    cpu_time_s: float
    """Seconds on a processor so far, those of threads that have ended included, in steps of mostly 10 ms."""
    frozen: bool = False
    """Whether it stands still with its control group, in whatever state it was."""

    @property
    def at_rest(self) -> bool:
        """Whether it does nothing before somebody lets it: frozen, stopped, or ended and not yet reaped."""
        return self.frozen or self.state in _AT_REST


@dataclass(frozen=True)
class _Moment:
    """A process, with the time on a processor of each thread."""

    info: ProcessInfo
    threads: dict[int, str]
    """By thread id: its counters, to be compared and nothing else."""
    states: dict[int, str]
    """By thread id: its state."""
    stops: bool
    """It was told to stop, and does so before it runs any code of its own again."""

    @property
    def is_stopped(self) -> bool:
        """Whether it is frozen, or all threads are stopped, or stop as soon as the kernel lets go of them.

        That matters: who starts a program with vfork is not let go of before the program runs, which it does not if it
        was stopped, too.
        """
        if self.info.frozen:
            return True
        return all(state in _AT_REST or (state == "D" and self.stops) for state in self.states.values())


def processes(pids: Sequence[int]) -> list[ProcessInfo]:
    """Return what those of `pids` do that are there."""
    return [moment.info for pid in pids if (moment := _look(pid)) is not None]


@contextmanager
def assert_frozen(find: Callable[[], list[int]]) -> Iterator[None]:
    """Check that all processes stand still when the block begins and none of them runs until it ends.

    `find` returns the processes' pids. They are waited for to stand still, for ten seconds at most.

    Raises `AssertionError`.
    """
    before = _settled(find, lambda moment: moment.is_stopped)
    awake = [_describe(moment.info) for moment in before.values() if not moment.is_stopped]
    if awake:
        raise AssertionError("not frozen: " + ", ".join(awake))
    yield
    after = _all(find())
    problems = [f"{_describe(after[pid].info)} was started" for pid in after.keys() - before.keys()]
    for pid, moment in before.items():
        now = after.get(pid)
        if now is None:
            problems.append(f"{_describe(moment.info)} has ended")
        elif not now.is_stopped:
            problems.append(f"{_describe(now.info)} goes on")
        elif _that_stood(now.threads, moment) != _that_stood(moment.threads, moment):
            problems.append(f"{_describe(now.info)} has run")
    if problems:
        raise AssertionError("work while the environment was to be frozen: " + "; ".join(problems))


@contextmanager
def assert_no_background_work(find: Callable[[], list[int]], runtime: int | None) -> Iterator[None]:
    """Check that nothing runs from the beginning of the block until its end.

    `find` returns the processes' pids, `runtime` is the one that serves invocations: its first thread is given the time
    to come to rest.

    Raises `AssertionError` that names the threads that have run.
    """
    if runtime is not None:
        _come_to_rest(runtime)
    before = _all(find())
    yield
    after = _all(find())
    problems = [f"{_describe(after[pid].info)} was started" for pid in after.keys() - before.keys()]
    for pid, moment in before.items():
        now = after.get(pid)
        if now is None:
            problems.append(f"{_describe(moment.info)} went on to its end")
            continue
        for thread in moment.threads.keys() | now.threads.keys():
            if moment.threads.get(thread) != now.threads.get(thread):
                problems.append(
                    f"thread {thread} ({_thread_name(pid, thread)}) of {_describe(now.info)} has run"
                )
    if problems:
        raise AssertionError(
            "work between invocations, which stands still on AWS until the next one: " + "; ".join(problems)
        )


def _that_stood(threads: dict[int, str], before: _Moment) -> dict[int, str]:
    """Leave out those that the kernel held before and may have stopped meanwhile, which takes time, too."""
    if before.info.frozen:
        return threads
    return {thread: counters for thread, counters in threads.items() if before.states.get(thread) != "D"}


def _come_to_rest(pid: int) -> None:
    """Wait until the first thread of a process waits for something, up to ten seconds. Other threads do not matter."""
    deadline = time.monotonic() + _PATIENCE_S
    last: str | None = None
    while (moment := _look(pid)) is not None and time.monotonic() < deadline:
        waits = moment.info.state in "SD" or moment.info.at_rest
        now = moment.threads.get(pid) if waits and _has_left(pid, pid) else None
        if now is not None and now == last:
            return
        last = now
        time.sleep(_LOOK_AGAIN_S)


def _settled(find: Callable[[], list[int]], rests: Callable[[_Moment], bool]) -> dict[int, _Moment]:
    """Return a look at the processes at which all rest and had not moved since the look before; or the last one.

    The kernel says that a thread waits, or is stopped or frozen, a moment before it has left its processor and its time
    is counted; on a busy machine that moment is long. It is over when `_has_left` says so, and two looks are the same
    after that.
    """
    deadline = time.monotonic() + _PATIENCE_S
    last: dict[int, _Moment] = {}
    while True:
        now = _all(find())
        if all(map(rests, now.values())) and last == now:
            return now
        if time.monotonic() > deadline:
            return now
        left = all(_has_left(pid, thread) for pid, moment in now.items() for thread in moment.threads)
        last = now if left else {}
        time.sleep(_LOOK_AGAIN_S)


def _has_left(pid: int, thread: int) -> bool:
    """Whether a thread is on no processor and waits for none: only then the kernel knows what system call it is in."""
    try:
        return _read(f"/proc/{pid}/task/{thread}/syscall").strip() != "running"
    except OSError:
        # It has ended; or we may not ask, and time has to do.
        return True


def _all(pids: Sequence[int]) -> dict[int, _Moment]:
    return {pid: moment for pid in pids if (moment := _look(pid)) is not None}


def _look(pid: int) -> _Moment | None:
    try:
        name, fields = _stat(f"/proc/{pid}/stat")
        status = _read(f"/proc/{pid}/status")
        command = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
        frozen, freezing = _state_of(group_of(pid))
        threads: dict[int, str] = {}
        states: dict[int, str] = {}
        for thread in map(int, os.listdir(f"/proc/{pid}/task")):
            states[thread], threads[thread] = _thread(f"/proc/{pid}/task/{thread}")
    except (FileNotFoundError, ProcessLookupError):
        return None
    cpu_time_s = (int(fields[11]) + int(fields[12])) / _TICKS
    # The first thread to see the signal takes it, and has the others stop.
    told = freezing or any(
        int(line.split()[1], 16) & _SIGSTOP
        for line in status.splitlines()
        if line.startswith(("SigPnd:", "ShdPnd:"))
    )
    info = ProcessInfo(pid, command or f"[{name}]", fields[0], cpu_time_s, frozen)
    return _Moment(info, threads, states, told or "T" in states.values())


def group_of(pid: int) -> str | None:
    """Return the folder of the control group that an environment has made for the process; None if it is in none.

    Raises `FileNotFoundError` or `ProcessLookupError` for a process that is gone.
    """
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        _number, controllers, path = line.split(":", 2)
        if "/caloric-" in path and (mount := _mount(controllers)) is not None:
            root, point = mount
            return f"{point}/{path.removeprefix(root).lstrip('/')}"
    return None


@cache
def _mount(controllers: str) -> tuple[str, str] | None:
    """What of the hierarchy with these controllers is mounted, and where. The one without any is version 2."""
    for line in _read("/proc/self/mountinfo").splitlines():
        mount, _, system = line.partition(" - ")
        kind, _source, options = system.split(" ", 2)
        if kind == "cgroup2" if not controllers else kind == "cgroup" and controllers in options.split(","):
            _id, _parent, _device, root, point = mount.split(" ")[:5]
            return root, point
    return None


def _state_of(group: str | None) -> tuple[bool, bool]:
    """Return whether a control group is frozen, and whether it is or is to be.

    Version 1 may stay at the second for as long as the kernel holds somebody, as it does in vfork.
    """
    if group is None:
        return False, False
    try:
        frozen = "frozen 1" in _read(f"{group}/cgroup.events").splitlines()
        return frozen, frozen or _read(f"{group}/cgroup.freeze").strip() == "1"
    except FileNotFoundError:
        pass
    try:
        state = _read(f"{group}/freezer.state").strip()
    except FileNotFoundError:
        # Neither version's: the group is gone.
        return False, False
    return state == "FROZEN", state != "THAWED"


def _thread(folder: str) -> tuple[str, str]:
    """Return a thread's state and its counters."""
    _, fields = _stat(f"{folder}/stat")
    try:
        # The first number is its time; the others count waiting.
        return fields[0], _read(f"{folder}/schedstat").split()[0]
    except FileNotFoundError:
        # A kernel that is built without it, or a thread that has just ended.
        return fields[0], f"{fields[11]} {fields[12]}"


def _stat(path: str) -> tuple[str, list[str]]:
    """Return a thread's name and what follows it, from its state on."""
    # The name, in parentheses, may hold anything.
    name, _, rest = _read(path).partition("(")[2].rpartition(")")
    return name, rest.split()


def _thread_name(pid: int, thread: int) -> str:
    try:
        return _read(f"/proc/{pid}/task/{thread}/comm").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "ended"


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _describe(info: ProcessInfo) -> str:
    return f"process {info.pid} ({info.command}, state {info.state})"
