"""Wait until a debugger is attached to this process: what CALORIC_DEBUG asks for, on a developer's machine."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["DEFAULT_ADDRESS", "HOW_TO_INSTALL", "parse_address", "wait_for_debugger"]

DEFAULT_ADDRESS = ("127.0.0.1", 5678)
"""Where debuggers look first."""

HOW_TO_INSTALL = "debugpy is not installed for {python}: {python} -m pip install debugpy"


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `[HOST:]PORT`; empty is the default. Raises `ValueError` for what is neither."""
    host, colon, port = text.rpartition(":")
    if not text:
        return DEFAULT_ADDRESS
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536) or (colon and not host):
        raise ValueError(f"{text!r} is not of the form HOST:PORT or PORT")
    return host or DEFAULT_ADDRESS[0], int(port)


def wait_for_debugger() -> None:
    """Listen where CALORIC_DEBUG says, and return when a debugger is attached and has set its breakpoints.

    Says on stderr where that is. Raises `SystemExit` with 1, and says why, where the variable is no address, debugpy is
    not installed, or the address cannot be listened on.
    """
    try:
        host, port = parse_address(os.environ["CALORIC_DEBUG"])
    except ValueError as error:
        _fail(f"the variable CALORIC_DEBUG: {error}")
    # It warns, in the function's log, that breakpoints in the frozen modules of the standard library may be missed.
    quiet = "PYDEVD_DISABLE_FILE_VALIDATION"
    set_here = quiet not in os.environ
    os.environ.setdefault(quiet, "1")
    try:
        import debugpy
    except ImportError:
        _fail(HOW_TO_INSTALL.format(python=sys.executable))
    listening: Any = debugpy
    try:
        listening.listen((host, port))
    except RuntimeError as error:
        _fail(f"cannot wait for a debugger on {host}:{port}: {error}")
    if set_here:
        del os.environ[quiet]
    _say(f"waiting for a debugger to attach to {host}:{port}")
    listening.wait_for_client()
    _say("a debugger is attached")


def _say(message: str) -> None:
    sys.stderr.write(f"caloric: {message}\n")
    sys.stderr.flush()


def _fail(message: str) -> NoReturn:
    _say(message)
    raise SystemExit(1)
