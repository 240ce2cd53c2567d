"""`caloric local status`: what the service has and does."""

from __future__ import annotations

import json
import sys

from caloric.cli.local.connection import Connection, add_connection_options
from caloric.cli.options import Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_EPILOG = """\
A row for each version that can be invoked. An environment is one of: init, it starts; busy, it runs an invocation;
idle, it waits for one, of which so many are frozen. A cold start is an invocation that was its environment's first, a
warm one any other. Memory is that of all processes of the version's environments now.

  caloric local status
  caloric local status --json | jq '.functions[].coldStarts'
"""

_NUMBERS = ("init", "busy", "idle", "frozen", "cold", "warm", "throttled", "memory MB")


def main(argv: Sequence[str]) -> int:
    """Run the command and return 0."""
    parser = Parser(
        "local status",
        "Show the local Lambda's functions and their environments.",
        _EPILOG,
        usage="caloric local status [--json] [options]",
    )
    parser.add_argument("--json", action="store_true", help="print everything as one JSON document")
    add_connection_options(parser)
    options = parser.parse_args(argv)
    status = Connection(options).call("GET", "/_caloric/status", timeout_s=30)
    if options.json:
        sys.stdout.write(json.dumps(status, indent=2) + "\n")
        return 0
    sys.stdout.write(_head(status))
    rows = [_row(function) for function in status["functions"]]
    if rows:
        _print_table(["function", "version", *_NUMBERS], rows)
    for function in status["functions"]:
        if function["lastFailure"]:
            sys.stdout.write(f"{function['function']} ({function['version']}): {function['lastFailure']}\n")
    if not rows:
        sys.stdout.write("no functions yet: caloric local deploy FOLDER makes one\n")
    return 0


def _head(status: dict[str, Any]) -> str:
    concurrency = status["concurrency"]
    seconds = int(status["uptimeSeconds"])
    return (
        f"{status['url']}  {status['region']}  account {status['account']}  process {status['pid']}  "
        f"up {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}  {status['memoryMB']} MB\n"
        f"{status['data']}\n"
        f"running {concurrency['running']} of {concurrency['limit']} invocations at once, "
        f"{concurrency['reserved']} reserved\n"
    )


def _row(function: dict[str, Any]) -> list[str]:
    environments = function["environments"]
    numbers = [
        *(environments[name] for name in ("init", "busy", "idle", "frozen")),
        *(function[name] for name in ("coldStarts", "warmStarts", "throttled", "memoryMB")),
    ]
    return [function["function"], function["version"], *map(str, numbers)]


def _print_table(titles: list[str], rows: list[list[str]]) -> None:
    """Print a table: with rich in a terminal, where it is installed, and as plain columns elsewhere."""
    if sys.stdout.isatty():
        try:
            from rich.box import SIMPLE
            from rich.console import Console
            from rich.table import Table
        except ImportError:
            pass
        else:
            table = Table(box=SIMPLE)
            for title in titles:
                table.add_column(title, justify="right" if title in _NUMBERS else "left", overflow="fold")
            for row in rows:
                table.add_row(*row)
            Console().print(table)
            return
    widths = [max(len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    for line in [titles, *rows]:
        cells = [
            cell.rjust(width) if title in _NUMBERS else cell.ljust(width)
            for cell, width, title in zip(line, widths, titles, strict=True)
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
