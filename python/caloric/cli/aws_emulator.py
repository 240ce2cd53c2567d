"""What AWS's emulator takes from its command line, its environment and the file system (docs/emulate.md)."""

from __future__ import annotations

import argparse
import os

from caloric.cli import UserMistake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    _T = TypeVar("_T", int, None)

_QUIET = ("panic", "fatal", "error", "warn", "warning")
_LOG_LEVELS = (*_QUIET, "info", "debug", "trace")


def add_aws_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of AWS's emulator, under its names."""
    group = parser.add_argument_group("as with AWS's emulator, before CMD or after it")
    group.add_argument(
        "--runtime-interface-emulator-address",
        metavar="HOST:PORT",
        type=address,
        help="where to listen, in one option; no host is all of them, as in :8080",
    )
    group.add_argument(
        "--runtime-api-address",
        metavar="HOST:PORT",
        type=address,
        help="where the Runtime API listens (default: a free port of 127.0.0.1)",
    )
    group.add_argument(
        "--enable-init-caching", dest="snapstart", action="store_true", help="the same as --snapstart"
    )
    group.add_argument(
        "--log-level",
        type=_log_level,
        help="error or warn: say nothing about listening and stopping (LOG_LEVEL)",
    )


def address(text: str) -> tuple[str, int]:
    """Convert `HOST:PORT`; a host with colons stands in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "[" in host or "]" in host:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form HOST:PORT; IPv6 is [HOST]:PORT")
    return host or "0.0.0.0", int(port)


def _log_level(text: str) -> str:
    level = text.lower()
    if level not in _LOG_LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is no log level: {', '.join(_LOG_LEVELS)}")
    return level


def is_quiet(option: str | None) -> bool:
    """Whether the log level, from the option or from LOG_LEVEL, leaves out what is merely informative.

    A variable that is no level is the function's own affair.
    """
    return (option or os.environ.get("LOG_LEVEL", "").lower()) in _QUIET


def split(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that are ours, and the command.

    The command is what follows `--`. Without that it begins with the first argument that is neither an option nor an
    option's value, as with AWS's emulator, whose own options may also stand behind it.
    """
    own: list[str] = []
    arguments = list(argv)
    while arguments:
        argument = arguments.pop(0)
        if argument == "--":
            return own, arguments
        if not argument.startswith("-"):
            arguments.insert(0, argument)
            break
        own += _with_value(parser, argument, arguments)
    command: list[str] = []
    while arguments:
        argument = arguments.pop(0)
        if argument == "--":
            command += [argument, *arguments]
            break
        if argument.partition("=")[0] in _ANYWHERE:
            own += _with_value(parser, argument, arguments)
        else:
            command.append(argument)
    return own, command


_ANYWHERE = frozenset(
    (
        "--runtime-interface-emulator-address",
        "--runtime-api-address",
        "--enable-init-caching",
        "--log-level",
    )
)


def _with_value(parser: argparse.ArgumentParser, option: str, arguments: list[str]) -> list[str]:
    """Return the option, and its value if it has one that stands apart; that is taken from `arguments`."""
    if option == "--debug":
        from caloric.cli.debug import join_value

        return [join_value(arguments)]
    action = parser._option_string_actions.get(option)
    takes_value = action is not None and action.nargs != 0
    return [option, arguments.pop(0)] if takes_value and arguments else [option]


def default(name: str, otherwise: _T, convert: Callable[[str], int]) -> int | _T:
    """Return the number in the variable `name`, or `otherwise`; one that `convert` does not take is a `UserMistake`."""
    text = os.environ.get(name, "")
    if not text:
        return otherwise
    try:
        return convert(text)
    except argparse.ArgumentTypeError as error:
        raise UserMistake(f"the variable {name}: {error}") from None


def handler(command: Sequence[str]) -> str:
    """Return the handler's name, found as AWS's emulator finds it (spec runtime-api 1.10)."""
    given = os.environ.get("AWS_LAMBDA_FUNCTION_HANDLER") or os.environ.get("_HANDLER")
    return given or (command[-1] if len(command) > 1 else "")


def log_names() -> dict[str, str]:
    """Return the log group and stream that were set from outside; AWS's emulator hands those on."""
    names = ("AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


BOOTSTRAPS = ("/var/task/bootstrap", "/opt/bootstrap", "/var/runtime/bootstrap")
"""What is run where no command is given: the first that is there."""

TASK_ROOT = "/var/task"
"""The working directory of a bootstrap."""


def find_bootstrap() -> str:
    """Return the first of `BOOTSTRAPS` that is there. Raises `UserMistake` if none is."""
    for path in BOOTSTRAPS:
        if os.path.isfile(path):
            return path
    raise UserMistake(
        "name the runtime's command after --, for example: -- python -m caloric app.handler "
        f"(there is no {', '.join(BOOTSTRAPS)} either)"
    )


OPT = "/opt"
"""Where layers are, on AWS and in images."""

EXTENSIONS = f"{OPT}/extensions"
"""Where external extensions are."""


def disables_extensions() -> bool:
    """Return whether `OPT` has the file that switches extensions off."""
    from caloric.local.extensions import DISABLES_EXTENSIONS

    return os.path.exists(os.path.join(OPT, DISABLES_EXTENSIONS))


def installed_extensions() -> list[str]:
    """Return the paths of the extensions in `EXTENSIONS`, in the order in which they start."""
    try:
        names = sorted(os.listdir(EXTENSIONS))
    except OSError:
        return []
    paths = [os.path.join(EXTENSIONS, name) for name in names]
    return [path for path in paths if not os.path.isdir(path)]
