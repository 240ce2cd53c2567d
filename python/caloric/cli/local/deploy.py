"""`caloric local deploy`: a function from a folder, served in place, or from a zip file."""

from __future__ import annotations

import os
import re
import sys
import time
from base64 import b64encode
from pathlib import Path

from caloric.cli import UserMistake
from caloric.cli.local.connection import Connection, Refused, add_connection_options, function_path
from caloric.cli.options import MEMORY_MB, TIMEOUT_S, Parser, variable, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Any

_EPILOG = """\
A folder is served where it is: a change that is saved is what the next invocation runs, while those that run already
finish on the old code. A zip file is uploaded, as with AWS. What the function is called, and its handler, are found in
the folder where they are not named: hello/app.py with def handler(...) is the function hello with app.handler.

  caloric local deploy hello
  caloric local deploy src/orders --name orders --handler main.handle --memory 512 --env TABLE=orders
  caloric local deploy build/orders.zip --name orders --handler main.handle --runtime python3.12
  caloric local deploy agent --runtime provided.al2023

Deploying again changes what is given and keeps everything else.
"""

_HANDLERS = (
    ("lambda_function", "lambda_handler"),
    ("app", "handler"),
    ("app", "lambda_handler"),
    ("main", "handler"),
    ("main", "lambda_handler"),
    ("handler", "handler"),
    ("index", "handler"),
)
"""Where a handler is looked for, in this order: AWS's console, SAM's and other tools' templates."""

_READY_S = 60.0


def main(argv: Sequence[str]) -> int:
    """Run the command and return 0 when the function can be invoked."""
    parser = Parser(
        "local deploy",
        "Make a function of the local Lambda from a folder or a zip file, or change it.",
        _EPILOG,
        usage="caloric local deploy PATH [options]",
    )
    parser.add_argument("path", metavar="PATH", help="the folder, which is served in place, or a zip file")
    parser.add_argument("--name", help="the function's name (default: the folder's)")
    parser.add_argument(
        "--handler", metavar="MODULE.FUNCTION", help="the handler (default: looked for in the folder)"
    )
    parser.add_argument(
        "--runtime",
        metavar="RUNTIME",
        help=f"such as python3.12 or provided.al2023 (default: provided.al2023 with a bootstrap, else {_python()})",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=TIMEOUT_S, help="its time limit, 1 to 900 (at first: 3)"
    )
    parser.add_argument(
        "--memory", metavar="MB", type=MEMORY_MB, help="its memory, 128 to 10240 (at first: 128)"
    )
    parser.add_argument(
        "--ephemeral-storage",
        metavar="MB",
        type=whole_number(512, 10240, "MB"),
        help="room for temporary files, 512 to 10240 (at first: 512)",
    )
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        type=variable,
        action="append",
        help="an environment variable; may be given several times; together they replace those it had",
    )
    parser.add_argument(
        "--layer",
        metavar="ARN",
        action="append",
        help="a layer version; may be given up to five times; together they replace those it had",
    )
    parser.add_argument("--role", metavar="ARN", help="the execution role, which is kept and not used")
    add_connection_options(parser)
    options = parser.parse_args(argv)
    path = Path(os.path.abspath(options.path))
    name = options.name or path.name.removesuffix(".zip")
    if not re.fullmatch("[a-zA-Z0-9-_]{1,64}", name):
        raise UserMistake(
            f"{name!r} is no function name (1 to 64 letters, digits, - and _): give one with --name"
        )
    code = _code(path)
    connection = Connection(options)
    began = time.monotonic()
    created = _deploy(connection, name, path, code, options)
    function = _wait_until_ready(connection, name)
    _say(
        f"{'created' if created else 'updated'} {name} ({function['Runtime']}, {function['Handler']}) in "
        f"{time.monotonic() - began:.1f} s{', served in place' if path.is_dir() else ''}; "
        f"try: caloric local invoke {name}"
    )
    return 0


def _deploy(connection: Connection, name: str, path: Path, code: dict[str, Any], options: Namespace) -> bool:
    """Create or update the function, and return whether it is new."""
    try:
        present = connection.call("GET", function_path(name, "/configuration"))
    except Refused as refused:
        if refused.status != 404:
            raise
        present = None
    configuration = _configuration(options)
    if present is None:
        runtime = options.runtime or _default_runtime(path)
        status = connection.call("GET", "/_caloric/status")
        role = f"arn:aws:iam::{status['account']}:role/caloric-local"
        document = {
            "FunctionName": name,
            "Role": role,
            "Runtime": runtime,
            "Handler": options.handler or _find_handler(path, runtime),
            "Code": code,
            **configuration,
        }
        connection.call("POST", "/2015-03-31/functions", document)
        return True
    connection.call("PUT", function_path(name, "/code"), code)
    if configuration:
        _wait_until_ready(connection, name)
        connection.call("PUT", function_path(name, "/configuration"), configuration)
    return False


def _configuration(options: Namespace) -> dict[str, Any]:
    """Return what is given, as members of the API."""
    given = {
        "Role": options.role,
        "Runtime": options.runtime,
        "Handler": options.handler,
        "Timeout": options.timeout,
        "MemorySize": options.memory,
        "EphemeralStorage": None
        if options.ephemeral_storage is None
        else {"Size": options.ephemeral_storage},
        "Environment": None if options.env is None else {"Variables": dict(options.env)},
        "Layers": options.layer,
    }
    return {name: value for name, value in given.items() if value is not None}


def _code(path: Path) -> dict[str, Any]:
    if path.is_dir():
        # The bucket that is none (`caloric.local.service.code`): the folder is served in place.
        return {"S3Bucket": "hot-reload", "S3Key": str(path)}
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserMistake(f"{str(path)!r} cannot be read: {error.strerror}") from None
    return {"ZipFile": b64encode(content).decode()}


def _python() -> str:
    return f"python{sys.version_info[0]}.{sys.version_info[1]}"


def _default_runtime(path: Path) -> str:
    bootstrap = path / "bootstrap"
    return "provided.al2023" if bootstrap.is_file() and os.access(bootstrap, os.X_OK) else _python()


def _find_handler(path: Path, runtime: str) -> str:
    if runtime.startswith("provided"):
        return "bootstrap"
    if path.is_dir():
        for module, function in _HANDLERS:
            try:
                source = (path / f"{module}.py").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if re.search(rf"^((async\s+)?def\s+{function}\s*\(|{function}\s*=)", source, re.MULTILINE):
                return f"{module}.{function}"
    raise UserMistake(f"no handler was found in {str(path)!r}: name it with --handler MODULE.FUNCTION")


def _wait_until_ready(connection: Connection, name: str) -> dict[str, Any]:
    """Wait for the function to become active, or its update to end, and return its configuration."""
    began = time.monotonic()
    told = False
    while True:
        function = connection.call("GET", function_path(name, "/configuration"))
        state, update = function.get("State", "Active"), function.get("LastUpdateStatus", "Successful")
        if state == "Failed" or update == "Failed":
            reason = (
                function.get("LastUpdateStatusReason") or function.get("StateReason") or "no reason is given"
            )
            raise UserMistake(f"{name} cannot be served: {reason}")
        if state != "Pending" and update != "InProgress":
            return function
        waited = time.monotonic() - began
        if waited > _READY_S:
            raise UserMistake(
                f"{name} is still not ready after {_READY_S:.0f} seconds: see caloric local logs {name}"
            )
        if waited > 1 and not told:
            _say(f"waiting for {name} to be ready")
            told = True
        time.sleep(0.01)


def _say(message: str) -> None:
    sys.stderr.write(f"caloric local deploy: {message}\n")
    sys.stderr.flush()
