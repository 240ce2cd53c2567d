"""The sandbox that needs nothing installed: processes of this user, under the reaper."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from caloric.local.extensions import launch_extensions
from caloric.local.process import RuntimeProcess
from caloric.local.sandbox import Launch, Limit, Places, Sandboxed
from caloric.local.sandbox.read_only import make_read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from caloric._rust import ExecutionEnvironment

__all__ = ["ProcessSandbox"]

_MB = 1 << 20


class ProcessSandbox:
    """Each environment is a process group of its own under the reaper, which lets nothing outlive it.

    `/tmp` is a folder of the environment's own, told by TMPDIR, kept over a reset and removed at the end.
    """

    name = "process"

    def limits(self) -> Sequence[Limit]:
        """Return what it enforces of Lambda's limits, and what it cannot enforce on this machine."""
        root = os.geteuid() == 0
        return (
            Limit("timeout", True, "All processes of the environment are killed when it has passed."),
            Limit("memory", True, "Looked at every 100 ms: above it all processes are killed."),
            Limit("processes", True, "Nothing that a function starts outlives its environment."),
            Limit("CPU share", False, "A function gets as much CPU as the machine has, whatever its memory."),
            Limit("/tmp size", False, "Files in the environment's own TMPDIR may fill the disk."),
            Limit("/tmp", False, "Only TMPDIR is the environment's own; /tmp by that name is the machine's."),
            Limit(
                "/var/task and /opt",
                False,
                "Code and layers are in the folders that LAMBDA_TASK_ROOT and CALORIC_OPT name, not under these paths.",
            ),
            Limit(
                "read-only code and layers",
                not root,
                "The service runs as root, and so do functions, which may write anywhere."
                if root
                else "Files and folders have no permission to write; code that is served in place is left as it is.",
            ),
            Limit(
                "user", False, "Functions run as the user who runs the service, and see that user's files."
            ),
            Limit("descriptors and processes", False, "The 1024 of each that Lambda allows are not counted."),
        )

    def places(self, code: Path, opt: Path | None, *, writable_code: bool) -> Places:
        """Return the folders as they are, read-only if permissions can do it. Raises `OSError`."""
        if os.geteuid() != 0 and not writable_code:
            make_read_only(code)
        return Places(str(code), None if opt is None else str(opt))

    def start(
        self, environment: ExecutionEnvironment, launch: Launch, on_end: Callable[[Sandboxed], object]
    ) -> Sandboxed:
        """Supply `environment` with its processes from now on. See `Sandbox.start`."""
        if launch.extensions:
            launch_extensions(environment, launch.extensions, launch.variables)
        return _Processes(environment, launch, on_end)


class _Processes(RuntimeProcess):
    """The runtime's supervisor, which stays until the environment has come to its end."""

    def __init__(
        self, environment: ExecutionEnvironment, launch: Launch, on_end: Callable[[Sandboxed], object]
    ) -> None:
        self._on_end = on_end
        super().__init__(environment, launch.command, launch.variables, cwd=launch.places.task_root)

    def _supervise(self) -> None:
        try:
            super()._supervise()
        finally:
            # Somebody else has begun it; here it is waited for.
            self.environment.close()
            self._on_end(self)

    def memory_mb(self) -> float:
        """Return the proportional set size of all processes, in MB."""
        return sum(map(_memory, self.environment.process_ids())) / _MB


def _memory(pid: int) -> int:
    """Return a process's proportional set size in bytes, or its resident set where the kernel does not tell that."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        # It has ended.
        return 0
