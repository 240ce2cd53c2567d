"""`caloric emulate --only-api`: the Runtime API for a runtime that somebody else starts (docs/debugging.md)."""

from __future__ import annotations

import os

from caloric.cli import UserMistake

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

RUNTIME_API = ("127.0.0.1", 9001)
"""Where the Runtime API is unless another place is named: AWS's emulator's, so that what an IDE was told stays true."""

# The folder goes with the environment, and the shell or IDE that has these variables stays.
_NOT_TOLD = frozenset(("TMPDIR",))


def add_only_api_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--only-api",
        action="store_true",
        help="start no runtime: print the variables for one that is started by hand, in an IDE say, and wait for it; "
        "CMD is the handler's name then. The Runtime API is at 127.0.0.1:9001",
    )
    parser.add_argument(
        "--env-file", metavar="PATH", help="with --only-api, write the variables into this file, too"
    )


def check_only_api(options: argparse.Namespace, command: list[str]) -> None:
    """Raise `UserMistake` for what cannot be had of a runtime that is started by hand."""
    if not options.only_api:
        if options.env_file is not None:
            raise UserMistake("--env-file goes with --only-api")
        return
    if len(command) > 1:
        raise UserMistake(
            "--only-api starts no command: name no more than the handler, for example app.handler"
        )
    if options.debug is not None:
        raise UserMistake("--only-api and --debug exclude each other: start the runtime in the debugger")
    if options.extension:
        raise UserMistake("--only-api and --extension exclude each other in this version")
    if options.max_concurrency is not None or options.concurrency > 1:
        other = "--max-concurrency" if options.max_concurrency is not None else "--concurrency"
        raise UserMistake(f"--only-api and {other} exclude each other in this version")


def changes(variables: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return which variables a process that is started from here must have besides those it has, and which it must not.

    `variables` is the whole environment of a function's process.
    """
    told = {
        name: value
        for name, value in variables.items()
        if os.environ.get(name) != value and name not in _NOT_TOLD
    }
    first = [name for name in ("AWS_LAMBDA_RUNTIME_API", "_HANDLER") if name in told]
    return {name: told[name] for name in [*first, *told]}, [
        name for name in os.environ if name not in variables
    ]


def shell_lines(told: Mapping[str, str], missing: list[str]) -> str:
    """Return them as a shell takes them."""
    import shlex

    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in told.items()]
    return "".join([*lines, *(f"unset {name}\n" for name in missing)])


def write_env_file(path: str, told: Mapping[str, str]) -> None:
    """Write them as `NAME=VALUE`, a line each, which is what IDEs and containers read.

    Raises `UserMistake` for a file that cannot be written, and for a value with a line end.
    """
    for name, value in told.items():
        if "\n" in value:
            raise UserMistake(f"the variable {name} has a line end in it, which --env-file cannot hold")
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{name}={value}\n" for name, value in told.items())
    except OSError as error:
        raise UserMistake(f"the file {path!r} cannot be written: {error.strerror}") from None
