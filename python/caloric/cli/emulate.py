"""`caloric emulate`: any runtime behind the invoke path of AWS's emulator."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentTypeError

from caloric.cli import UserMistake
from caloric.cli.options import (
    CONCURRENCY,
    MEMORY_MB,
    PUBLISHED_VERSION,
    TIMEOUT_S,
    Parser,
    add_extension_option,
    add_function_options,
    add_later,
    add_max_concurrency_option,
    add_snapstart_option,
    check_not_both,
    check_program,
    external_extensions,
    function_variables,
    launch,
    merged_layers,
    whole_number,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import TypeVar

    _T = TypeVar("_T", int, None)

_LATER = {
    "--stream": "response streaming",
    "--http": "function URLs",
    "--concurrency": "several execution environments at once (--max-concurrency is for one on Managed Instances)",
}

_EPILOG = """\
The runtime is started at the first invocation, and anew after a timeout or a crash. Invocations run one at a time,
in the order in which they came; with --max-concurrency N the runtime is started at once, and runs up to N at a time.

  caloric emulate -- python -m caloric app.handler
  curl http://127.0.0.1:8080/2015-03-31/functions/function/invocations -d '{}'

With boto3: client("lambda", endpoint_url="http://127.0.0.1:8080"), and any function name.

As for AWS's emulator, AWS_LAMBDA_FUNCTION_NAME, _TIMEOUT, _MEMORY_SIZE and AWS_LAMBDA_MAX_CONCURRENCY set the
defaults.
"""


def main(argv: Sequence[str]) -> int:
    """Serve until SIGINT or SIGTERM, and return 0."""
    parser = Parser(
        "emulate",
        "Serve a Lambda runtime, in any language, over HTTP: the invoke path of AWS's runtime interface emulator.",
        _EPILOG,
        usage="caloric emulate [--port PORT] [options] -- CMD ...",
    )
    parser.add_argument(
        "--port",
        type=whole_number(0, 65535, "(0 takes a free one)"),
        default=8080,
        help="where to listen (default: %(default)s; 0 takes a free one)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="0.0.0.0 to be reached from outside a container (default: %(default)s)",
    )
    parser.add_argument("command", metavar="CMD", nargs="*", help="the runtime's command line, after --")
    add_function_options(
        parser,
        timeout_s=_default("AWS_LAMBDA_FUNCTION_TIMEOUT", 300, TIMEOUT_S),
        memory_mb=_default("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 3008, MEMORY_MB),
    )
    # The second is what AWS's emulator calls it.
    add_snapstart_option(parser, "--enable-init-caching")
    # AWS's emulator is switched by the variable.
    add_max_concurrency_option(parser, _default("AWS_LAMBDA_MAX_CONCURRENCY", None, CONCURRENCY))
    add_extension_option(parser)
    add_later(parser, _LATER)
    # Everything after -- is the command's, options included.
    own, dashes, command = _split(argv)
    options = parser.parse_args(own)
    command = [*options.command, *command] if dashes else options.command
    check_not_both(options)
    if not command:
        raise UserMistake(
            "name the runtime's command after --, for example: -- python -m caloric app.handler"
        )
    layers = merged_layers(options)
    extensions = external_extensions(options, layers)

    from caloric._rust import ExecutionEnvironment, HttpFront
    from caloric.local.process import supervise

    environment = ExecutionEnvironment(
        function_name=os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "test_function"),
        timeout_ms=options.timeout * 1000,
        memory_size_mb=options.memory,
        function_version=PUBLISHED_VERSION if options.snapstart else "$LATEST",
        snap_start=options.snapstart,
        max_concurrency=options.max_concurrency,
        log_fd=2,
        freeze=not options.no_freeze,
        handler=_handler(command),
        json_logs=dict(options.env).get("AWS_LAMBDA_LOG_FORMAT") == "JSON",
        extensions=list(extensions),
    )
    # Any runtime may be behind the command, also one that does not know where our layers are.
    variables = function_variables(
        environment, layers, handler=_handler(command), user=dict(options.env), knows_layers=False
    )
    check_program(command, variables.get("PATH"))
    launch(environment, extensions, variables)
    with environment, supervise(environment, command, variables):
        try:
            front = HttpFront(environment, host=options.host, port=options.port)
        except OSError as error:
            raise UserMistake(f"{error.strerror or error}; choose another with --port") from None
        with front:
            _say(f"listening on http://{front.address}/2015-03-31/functions/function/invocations")
            _wait_for_signal()
    return 0


def _default(name: str, otherwise: _T, convert: Callable[[str], int]) -> int | _T:
    """A default from AWS's emulator's variables; one that the option would not take is the user's mistake."""
    text = os.environ.get(name, "")
    if not text:
        return otherwise
    try:
        return convert(text)
    except ArgumentTypeError as error:
        raise UserMistake(f"the variable {name}: {error}") from None


def _split(argv: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    arguments = list(argv)
    if "--" not in arguments:
        return arguments, False, []
    at = arguments.index("--")
    return arguments[:at], True, arguments[at + 1 :]


def _handler(command: Sequence[str]) -> str:
    """The handler's name, found as AWS's emulator finds it (spec runtime-api 1.10)."""
    given = os.environ.get("AWS_LAMBDA_FUNCTION_HANDLER") or os.environ.get("_HANDLER")
    return given or (command[-1] if len(command) > 1 else "")


def _say(message: str) -> None:
    sys.stderr.write(f"caloric emulate: {message}\n")
    sys.stderr.flush()


def _wait_for_signal() -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        _say("stopping")
