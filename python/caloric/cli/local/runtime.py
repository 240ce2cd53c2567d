"""`caloric local runtime add`: Caloric for another Python version than the service's own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from caloric.cli import UserMistake
from caloric.cli.options import Parser
from caloric.local.service_file import DEFAULT_FOLDER, Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOG = """\
A function of the runtime python3.12 runs on the Python 3.12 of this machine, and needs Caloric for it. Where that is
installed, or the service itself runs on Python 3.12, nothing need be added.

  caloric local runtime add 3.12
  caloric local runtime add 3.12 dist/caloric-0.1.0-cp312-cp312-linux_x86_64.whl
"""


def main(argv: Sequence[str]) -> int:
    """Run the command and return 0 when the runtime is there."""
    parser = Parser(
        "local runtime",
        "Add Caloric for another Python version to the local Lambda.",
        _EPILOG,
        usage="caloric local runtime add VERSION [WHEEL] [--data DIR]",
    )
    parser.add_argument("action", choices=("add",), metavar="add", help="what to do")
    parser.add_argument("version", metavar="VERSION", help="the Python version, such as 3.12")
    parser.add_argument(
        "wheel",
        metavar="WHEEL",
        nargs="?",
        help="a wheel for it (default: pip looks for one of this release)",
    )
    parser.add_argument(
        "--data", metavar="DIR", default=DEFAULT_FOLDER, help="the data directory (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    if not re.fullmatch(r"3\.\d+", options.version):
        raise UserMistake(f"{options.version!r} is no Python version: name one such as 3.12")

    from caloric.local.environments.runtimes import Runtimes, RuntimeUnavailableError

    directory = Layout(options.data)
    _say(f"installing Caloric for Python {options.version}")
    try:
        target = Runtimes(directory.runtimes).add(
            options.version, None if options.wheel is None else Path(options.wheel)
        )
    except RuntimeUnavailableError as error:
        raise UserMistake(str(error)) from None
    _say(f"functions of python{options.version} find it in {target}")
    return 0


def _say(message: str) -> None:
    sys.stderr.write(f"caloric local runtime: {message}\n")
    sys.stderr.flush()
