"""AWS's emulator in its mode for Managed Instances, as far as a test can start it.

In that mode it ignores the command it is given and runs `/var/runtime/bootstrap`, as user 993 of group 990. So it gets
namespaces of its own: a /var that holds the bootstrap, and a user 993 that is the one who runs the tests, and may read
what the test and its interpreter consist of. Making those takes root.

Run as a program, this file sets them up and becomes the emulator that its arguments name.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

USER, GROUP = 993, 990
# Root inside is an outer user who owns nothing; it has its capabilities over what belongs to the mapped users.
ROOT_INSIDE = 1
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000


def variables(command: Sequence[str], folder: Path) -> dict[str, str]:
    """Return what the bootstrap needs in its environment to run `command` in `folder`."""
    return {"TEST_COMMAND": shlex.join(command), "TEST_FOLDER": os.fspath(folder)}


def emulator(program: Path) -> list[str]:
    """Return the command line that starts the emulator, without options."""
    return [sys.executable, "-I", "-S", __file__, os.fspath(program)]


@cache
def can_be_started() -> bool:
    """Whether this machine lets us make the namespaces."""
    return subprocess.run(emulator(Path("/bin/true")), capture_output=True, check=False).returncode == 0


def enter_namespaces() -> None:
    """Go on as root in new namespaces of users and mounts. Raises `OSError` where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    ready, written = os.pipe(), os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        # A process outside writes the maps: only there is the right to map several users.
        os.read(ready[0], 1)
        try:
            for kind, inside in (("uid", USER), ("gid", GROUP)):
                Path(f"/proc/{parent}/{kind}_map").write_text(
                    f"{inside} 0 1\n0 {ROOT_INSIDE} 1\n", encoding="ascii"
                )
            os.write(written[1], b".")
        finally:
            os._exit(0)
    os.close(written[1])
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(ready[1], b".")
    os.wait()
    if not os.read(written[0], 1):
        raise OSError("the users cannot be mapped")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    if libc.mount(b"tmpfs", b"/var", b"tmpfs", 0, b"mode=755") != 0:
        raise OSError(ctypes.get_errno(), "mount")


def main(program: str, arguments: list[str]) -> None:
    """Become the emulator."""
    enter_namespaces()
    Path("/var/task").mkdir()
    bootstrap = Path("/var/runtime/bootstrap")
    bootstrap.parent.mkdir()
    # The emulator's own task root is /var/task.
    script = 'cd "$TEST_FOLDER" && export LAMBDA_TASK_ROOT="$TEST_FOLDER" && eval "exec $TEST_COMMAND"'
    bootstrap.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    bootstrap.chmod(0o755)
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
