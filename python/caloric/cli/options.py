"""Options that several commands share, with AWS's ranges."""

from __future__ import annotations

import argparse
import os
import sys

from caloric.cli import UserMistake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from caloric.local.layers import MergedLayers

FAST_WAY_IN = [sys.executable, "-S", os.path.join(os.path.dirname(os.path.dirname(__file__)), "bootstrap.py")]
"""The command that runs a handler on Caloric: the handler's name is appended."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage lines around it."""

    def __init__(self, command: str, description: str, epilog: str, usage: str | None = None) -> None:
        super().__init__(
            prog=f"caloric {command}",
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise `UserMistake` in place of argparse's own exit."""
        raise UserMistake(f"{message} (see {self.prog} --help)")


def whole_number(low: int, high: int, unit: str) -> Callable[[str], int]:
    """Return a converter for a whole number in AWS's range."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is out of range: {low} to {high} {unit}")
        return value

    return convert


TIMEOUT_S = whole_number(1, 900, "seconds")
"""Converts a function's time limit."""

MEMORY_MB = whole_number(128, 10240, "MB")
"""Converts a function's memory."""


def variable(text: str) -> tuple[str, str]:
    """Convert `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{name!r} contains a NUL character")
    return name, value


def tenant_id(text: str) -> str:
    """Convert a tenant's id, which has AWS's length and characters (spec lambda-service 1.1)."""
    if not 1 <= len(text) <= 256 or not _TENANT_ID_CHARACTERS.issuperset(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no tenant id: 1 to 256 ASCII letters, digits, blanks and any of ._:/=+-@"
        )
    return text


_TENANT_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/=+-@ ")


def add_function_options(parser: argparse.ArgumentParser, *, timeout_s: int, memory_mb: int) -> None:
    """Add what configures a function, with these defaults."""
    group = parser.add_argument_group("the function")
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=TIMEOUT_S,
        default=timeout_s,
        help="its time limit, 1 to 900 (default: %(default)s)",
    )
    group.add_argument(
        "--memory",
        metavar="MB",
        type=MEMORY_MB,
        default=memory_mb,
        help="its memory, 128 to 10240; what uses more is killed (default: %(default)s)",
    )
    group.add_argument(
        "--env",
        metavar="NAME=VALUE",
        type=variable,
        action="append",
        default=[],
        help="an environment variable; may be given several times",
    )
    group.add_argument(
        "--layer",
        metavar="PATH",
        action="append",
        default=[],
        help="a layer, a folder or a zip file, in place of /opt; up to five, of which later ones win",
    )
    group.add_argument(
        "--no-freeze",
        action="store_true",
        help="let its processes run on between invocations; as on AWS they stand still by default",
    )


MAX_CONCURRENCY = whole_number(1, 1600, "invocations at once")
"""Converts the bound of Managed Instances. AWS documents defaults, not a limit; this is 16 for each of 100 vCPUs."""


def add_max_concurrency_option(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    """Add the option that has the function run as on Lambda Managed Instances."""
    parser.add_argument(
        "--max-concurrency",
        metavar="N",
        type=MAX_CONCURRENCY,
        default=default,
        help="run as on Lambda Managed Instances: one environment that serves up to N invocations at once, in N worker "
        "processes for Python (AWS_LAMBDA_MAX_CONCURRENCY)",
    )


CONCURRENCY = whole_number(1, 1000, "environments")
"""Converts the number of environments; 1000 is what an AWS account has at first."""


def add_concurrency_option(parser: argparse.ArgumentParser, more: str) -> None:
    """Add the option that has the function run in several environments; `more` ends its help."""
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=CONCURRENCY,
        default=1,
        help=f"up to N environments, each with a process of its own, started when all others are busy; {more}",
    )


def check_not_both(options: argparse.Namespace) -> None:
    """Raise `UserMistake` for what Managed Instances do not have: SnapStart, and a second one here."""
    if options.concurrency > 1 and options.max_concurrency is not None:
        raise UserMistake(
            "--concurrency and --max-concurrency (AWS_LAMBDA_MAX_CONCURRENCY) exclude each other: the one is several "
            "environments that run an invocation each, the other one environment that runs several"
        )
    if options.snapstart and options.max_concurrency is not None:
        raise UserMistake(
            "--snapstart and --max-concurrency exclude each other: Managed Instances have no snapshots"
        )


def add_debug_option(parser: argparse.ArgumentParser, runtime: str) -> None:
    """Add the option that has the function wait for a debugger; `runtime` says which runtimes do."""
    parser.add_argument(
        "--debug",
        metavar="HOST:PORT",
        nargs="?",
        const="",
        help=f"have {runtime} wait for a debugger before it imports the handler (debugpy; default: 127.0.0.1:5678); "
        "limits of time and memory are not enforced, and nothing is frozen",
    )


def add_snapstart_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that has the function snapshotted."""
    parser.add_argument(
        "--snapstart",
        action="store_true",
        help="as a published version with SnapStart: hooks run, and the first invocation restores the function",
    )


def add_extension_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that names external extensions."""
    parser.add_argument(
        "--extension",
        metavar="PATH",
        action="append",
        default=[],
        help="an executable to start as an external extension, as from /opt/extensions; may be given several times",
    )


def check_extensions(paths: Sequence[str]) -> dict[str, str]:
    """Return the path of each extension by its name, which is the file's.

    Raises `UserMistake` for a file that is not there or cannot be executed, for two of one name, and for too many.
    """
    extensions: dict[str, str] = {}
    for path in paths:
        name = os.path.basename(path)
        if not os.path.exists(path):
            raise UserMistake(f"the extension {path!r} does not exist")
        if os.path.isdir(path):
            raise UserMistake(f"the extension {path!r} is a folder: name the executable in it")
        if not os.access(path, os.X_OK):
            raise UserMistake(f"the extension {path!r} is not executable (chmod +x {path})")
        if name in extensions:
            raise UserMistake(f"two extensions are called {name!r}: an extension's name is its file's")
        extensions[name] = os.path.abspath(path)
    return _not_too_many(extensions)


def _not_too_many(extensions: dict[str, str]) -> dict[str, str]:
    if len(extensions) > _MAX_EXTENSIONS:
        raise UserMistake(f"{len(extensions)} extensions are too many: Lambda allows {_MAX_EXTENSIONS}")
    return extensions


_MAX_EXTENSIONS = 10

PUBLISHED_VERSION = "1"
"""The version of a function with SnapStart, which Lambda has for published versions only."""


def merged_layers(options: argparse.Namespace) -> MergedLayers | None:
    """Return the function's layers, looked at and not unpacked yet.

    Raises `UserMistake` for a layer that cannot be used.
    """
    if not options.layer:
        return None
    from caloric.local.layers import LayerError, MergedLayers

    try:
        return MergedLayers(options.layer)
    except LayerError as error:
        raise UserMistake(str(error)) from None


def external_extensions(
    options: argparse.Namespace, layers: MergedLayers | None, installed: Sequence[str] = ()
) -> dict[str, str] | None:
    """Return the path of each extension by its name, those in the layers by their path in `/opt`.

    None where a layer switches extensions off. `installed` are those that the machine's own `/opt` has.

    Raises `UserMistake` as `check_extensions` does.
    """
    if layers is not None and layers.disables_extensions():
        return None
    extensions = check_extensions([*options.extension, *installed])
    for name, executable in (layers.extensions() if layers is not None else {}).items():
        if name in extensions:
            raise UserMistake(f"two extensions are called {name!r}: an extension's name is its file's")
        if not executable:
            raise UserMistake(f"the extension {name!r} of a layer is not executable")
        extensions[name] = os.path.join("extensions", name)
    return _not_too_many(extensions)


_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def region() -> str:
    """Return the function's region: this machine's as the SDKs find it in the environment, else us-east-1.

    Raises `UserMistake` for what cannot be a region.
    """
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if value := os.environ.get(name, ""):
            if not _NAME_CHARACTERS.issuperset(value):
                raise UserMistake(f"the variable {name}: {value!r} is no region")
            return value
    return "us-east-1"


def account_id() -> str:
    """Return the function's account from AWS_ACCOUNT_ID, else the one that AWS's emulator makes up.

    Raises `UserMistake` for what is no account id.
    """
    value = os.environ.get("AWS_ACCOUNT_ID", "") or "012345678912"
    if not (len(value) == 12 and value.isascii() and value.isdigit()):
        raise UserMistake(f"the variable AWS_ACCOUNT_ID: {value!r} is not 12 digits")
    return value


def check_program(command: Sequence[str], search_path: str | None = None) -> None:
    """Raise `UserMistake` when the program of `command` cannot be found, by default on this process's PATH, or run."""
    from caloric.local.process import CannotStartError, find_program

    try:
        find_program(command[0], search_path or os.environ.get("PATH", os.defpath))
    except CannotStartError as error:
        raise UserMistake(str(error)) from None
