"""The `caloric` command. Each subcommand is a module of this package, imported when it is called."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["UserMistake", "main"]

_COMMANDS = {
    "invoke": "run a handler once, or a few times, and print its result",
    "emulate": "serve a runtime over HTTP, as AWS's runtime interface emulator does",
    "run": "be the runtime: what a container image or a layer starts",
    "local": "Lambda on this machine, behind AWS's own API: start, deploy, invoke, logs, status, stop",
}


class UserMistake(Exception):  # noqa: N818
    """What the user asked for cannot be done; the message is one sentence that says why. Exit code 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's own) and return the exit code.

    0: done. 1: the function failed. 2: a mistake of the user's, with one sentence on stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if name in ("-V", "--version"):
        from caloric._rust import __version__

        sys.stdout.write(f"caloric {__version__}\n")
        return 0
    try:
        if name not in _COMMANDS:
            what = f"there is no command {name!r}" if name else "name a command"
            raise UserMistake(f"{what}; choose from {', '.join(_COMMANDS)}, or see caloric --help")
        module = __import__(f"caloric.cli.{name}", fromlist=["main"])
        code: int = module.main(arguments[1:])
        return code
    except UserMistake as mistake:
        where = f"caloric {name}" if name in _COMMANDS else "caloric"
        sys.stderr.write(f"{where}: {mistake}\n")
        return 2
    except KeyboardInterrupt:
        # The shell's convention for a program that Ctrl-C ended.
        return 130


def _help() -> str:
    lines = "\n".join(f"  {name:<9}{summary}" for name, summary in _COMMANDS.items())
    return f"""usage: caloric COMMAND ...

Run Python on AWS Lambda, and Lambda on this machine.

{lines}

caloric COMMAND --help tells more. To try a handler in app.py:

  caloric invoke app.handler --event '{{"name": "world"}}'
"""
