"""A program in a file system of its own, as in a container: /var and /opt are what a folder has for them.

Run as a program, this file goes into new namespaces, fills /var and /opt from its first argument, and becomes the
program that the others name.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
PLACES = ("/var", "/opt")


def inside(folder: Path) -> list[str]:
    """Return what stands before a command line that is to run in the image that `folder` describes."""
    return [sys.executable, "-I", "-S", __file__, os.fspath(folder)]


@cache
def can_be_made() -> bool:
    """Whether this machine lets us make the namespaces."""
    command = [*inside(Path("/nonexistent")), "/bin/true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def enter_namespaces() -> None:
    """Go on with mounts of our own. Raises `OSError` where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWNS) != 0:
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1\n", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1\n", encoding="ascii")
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), "mount /")
    for place in PLACES:
        if libc.mount(b"tmpfs", place.encode(), b"tmpfs", 0, b"mode=755") != 0:
            raise OSError(ctypes.get_errno(), f"mount {place}")


def main(folder: str, command: list[str]) -> None:
    """Become the command."""
    enter_namespaces()
    for place in PLACES:
        if os.path.isdir(folder + place):
            shutil.copytree(folder + place, place, dirs_exist_ok=True)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
