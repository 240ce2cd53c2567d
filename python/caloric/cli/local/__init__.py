"""`caloric local`: the local Lambda service and what one does with it. A module for each subcommand."""

from __future__ import annotations

import sys

from caloric.cli import UserMistake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = {
    "start": "serve Lambda on this machine until Ctrl-C",
    "deploy": "make or update a function from a folder, whose changes take effect when they are saved",
    "invoke": "invoke a function and print its result",
    "logs": "show what a function has written, and follow it",
    "status": "show functions, environments, cold and warm starts, and memory",
    "stop": "end the service",
    "runtime": "add Caloric for another Python version",
}


def main(argv: Sequence[str]) -> int:
    """Run the subcommand and return its exit code."""
    name = argv[0] if argv else ""
    if name in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if name not in _COMMANDS:
        what = f"there is no command {name!r}" if name else "name a command"
        raise UserMistake(f"{what}; choose from {', '.join(_COMMANDS)}, or see caloric local --help")
    module = __import__(f"caloric.cli.local.{name}", fromlist=["main"])
    code: int = module.main(argv[1:])
    return code


def _help() -> str:
    lines = "\n".join(f"  {name:<9}{summary}" for name, summary in _COMMANDS.items())
    return f"""usage: caloric local COMMAND ...

Lambda on this machine: functions, versions, layers and environments behind AWS's own API, without Docker or an account.

{lines}

caloric local COMMAND --help tells more. To serve the function in the folder hello:

  caloric local start
  caloric local deploy hello
  caloric local invoke hello --event '{{"name": "world"}}'

and in any program: boto3.client("lambda", endpoint_url="http://127.0.0.1:9001")
"""
