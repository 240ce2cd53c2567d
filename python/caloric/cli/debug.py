"""`--debug`: the function's process waits for a debugger, and nothing hurries (docs/debugging.md)."""

from __future__ import annotations

from caloric.cli import UserMistake
from caloric.local.attach import DEFAULT_ADDRESS, HOW_TO_INSTALL, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

__all__ = ["check_debugpy", "debug_variables", "given", "join_value", "patient_settings", "with_own_value"]

TOLD_TIMEOUT_S = 900
"""The time limit that a function without one is told: Lambda's longest, so that it does not hurry either."""


def with_own_value(argv: Sequence[str]) -> list[str]:
    """Return the arguments with each `--debug` and its value in one: argparse would take the handler for its value."""
    arguments: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        arguments.append(join_value(rest) if argument == "--debug" else argument)
    return arguments


def join_value(rest: list[str]) -> str:
    """Return `--debug` with its value, which is taken from the arguments behind it if it is there."""
    if rest and rest[0]:
        try:
            parse_address(rest[0])
        except ValueError:
            pass
        else:
            return f"--debug={rest.pop(0)}"
    host, port = DEFAULT_ADDRESS
    return f"--debug={host}:{port}"


def debug_variables(options: argparse.Namespace) -> dict[str, str]:
    """Return the variable that has Caloric's runtime wait.

    Raises `UserMistake` for an address where it could not, and for several processes.
    """
    if options.max_concurrency is not None or options.concurrency > 1:
        other = "--max-concurrency" if options.max_concurrency is not None else "--concurrency"
        raise UserMistake(
            f"--debug and {other} exclude each other: one process at a time waits for a debugger"
        )
    try:
        host, port = parse_address(options.debug)
    except ValueError as error:
        raise UserMistake(f"argument --debug: {error}") from None
    import socket

    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        reason = error.strerror or error
        raise UserMistake(
            f"cannot wait for a debugger on {host}:{port}: {reason}; choose another with --debug HOST:PORT"
        ) from None
    return {"CALORIC_DEBUG": f"{host}:{port}"}


def check_debugpy() -> None:
    """Raise `UserMistake` when this interpreter, which is to run the function, has no debugpy."""
    import sys
    from importlib.util import find_spec

    if find_spec("debugpy") is None:
        raise UserMistake(HOW_TO_INSTALL.format(python=sys.executable))


def patient_settings(argv: Sequence[str], timeout_s: int) -> dict[str, Any]:
    """Return the settings of an environment that waits for a person.

    The time limit is only told to the function: `timeout_s` if the command line names it, else the longest there is.
    """
    told = timeout_s if given(argv, "--timeout") else TOLD_TIMEOUT_S
    return {"timeout_ms": told * 1000, "limits": False, "freeze": False}


def given(argv: Sequence[str], option: str) -> bool:
    """Whether the command line names the option."""
    return any(argument.partition("=")[0] == option for argument in argv)
