"""`caloric run`: the runtime itself."""

from __future__ import annotations

import os
import sys

from caloric.cli import UserMistake
from caloric.cli.options import Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Serve the handler that `argv` names; returns only by `SystemExit`."""
    parser = Parser(
        "run",
        "Serve a handler as the runtime of a Lambda function, as python -m caloric does. Lambda, caloric emulate\n"
        "and other emulators start it with AWS_LAMBDA_RUNTIME_API set.",
        "To run a function on this machine: caloric invoke app.handler",
    )
    parser.add_argument("handler", help="module.function, for example app.handler")
    handler: str = parser.parse_args(argv).handler
    if not os.environ.get("AWS_LAMBDA_RUNTIME_API"):
        raise UserMistake(
            "AWS_LAMBDA_RUNTIME_API is not set: this command is for Lambda and emulators; "
            f"on this machine use caloric invoke {handler}"
        )
    # As under python -m: the function's folder, in place of the one that holds this command.
    sys.path[0] = os.getcwd()
    sys.argv = ["caloric", handler]
    from caloric.runtime import run

    run(handler)
