"""`caloric local logs`: what a function has written, from the log streams in the data directory.

The streams are read where they lie (`caloric.local.environments.logs`), so a service that is stopped or started again
while they are followed makes no difference.
"""

from __future__ import annotations

import os
import sys

from caloric.cli import UserMistake
from caloric.cli.local.connection import (
    Connection,
    NotRunningError,
    Refused,
    add_connection_options,
    function_path,
)
from caloric.cli.options import Parser, whole_number
from caloric.local.service_file import DEFAULT_FOLDER, Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from caloric.local.environments.logs import LogLine

_EPILOG = """\
Each execution environment has a log stream of its own; lines of several are mixed as they are written. Logs are kept
when the service ends, and can be read then.

  caloric local logs hello
  caloric local logs -f hello
  caloric local logs -n 1000 hello | grep REPORT
"""


def main(argv: Sequence[str]) -> int:
    """Print the logs, with -f until Ctrl-C, and return 0."""
    parser = Parser(
        "local logs",
        "Show the end of a function's log: what it printed, and Lambda's START, END and REPORT lines.",
        _EPILOG,
        usage="caloric local logs [-f] NAME [options]",
    )
    parser.add_argument("name", metavar="NAME", help="the function's name")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is written from now on, until Ctrl-C"
    )
    parser.add_argument(
        "-n",
        "--lines",
        metavar="N",
        type=whole_number(0, 1_000_000, "lines"),
        help="so many of the last lines (default: 100, with -f 10)",
    )
    parser.add_argument(
        "--streams", action="store_true", help="begin each line with the name of its log stream"
    )
    add_connection_options(parser)
    options = parser.parse_args(argv)
    directory, group = _place(options)

    from caloric.local.environments.logs import LogStreams

    streams = LogStreams(directory.logs)
    lines = options.lines if options.lines is not None else 10 if options.follow else 100
    try:
        if options.follow:
            for line in streams.follow(group, options.name, lines=lines, stop=_nobody_reads):
                _print(line, options)
                sys.stdout.flush()
        else:
            for line in streams.tail(group, lines, options.name):
                _print(line, options)
            sys.stdout.flush()
    except KeyboardInterrupt:
        if not options.follow:
            raise
    except BrokenPipeError:
        # Whoever read has enough. Python would complain when it closes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _nobody_reads() -> bool:
    """Whether the other end of a pipe, or the terminal, is closed: without new lines nothing else would tell."""
    import select

    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def _place(options: Namespace) -> tuple[Layout, str]:
    """Return the data directory and the log group of the function.

    Raises `UserMistake` where there is neither such a function nor a log of it.
    """
    group = f"/aws/lambda/{options.name}"
    try:
        connection = Connection(options)
        directory = Layout(connection.call("GET", "/_caloric/status")["data"])
    except NotRunningError as error:
        directory = Layout(options.data or DEFAULT_FOLDER)
        if options.port is not None or not directory.logs.is_dir():
            raise
        if not _has_log(directory, group, options.name):
            raise UserMistake(
                f"there is no log of {options.name!r} in {str(directory.folder)!r}, and {error}"
            ) from None
        return directory, group
    try:
        function = connection.call("GET", function_path(options.name, "/configuration"))
    except Refused as refused:
        # One that was deleted may have left its log.
        if refused.status != 404 or not _has_log(directory, group, options.name):
            raise
        return directory, group
    return directory, str(function.get("LoggingConfig", {}).get("LogGroup") or group)


def _has_log(directory: Layout, group: str, name: str) -> bool:
    from caloric.local.environments.logs import LogStreams

    return bool(LogStreams(directory.logs).streams(group, name))


def _print(line: LogLine, options: Namespace) -> None:
    prefix = f"{line.stream} " if options.streams else ""
    # Bytes: what a function prints need not be in the terminal's encoding.
    sys.stdout.buffer.write(f"{prefix}{line.text}\n".encode())
