"""`caloric emulate`: any runtime behind the invoke path of AWS's emulator."""

from __future__ import annotations

import os
import signal
import sys

from caloric.cli import UserMistake, aws_emulator
from caloric.cli.debug import debug_variables, given, patient_settings
from caloric.cli.function import Function
from caloric.cli.only_api import (
    RUNTIME_API,
    add_only_api_options,
    changes,
    check_only_api,
    shell_lines,
    write_env_file,
)
from caloric.cli.options import (
    MAX_CONCURRENCY,
    MEMORY_MB,
    PUBLISHED_VERSION,
    TIMEOUT_S,
    Parser,
    account_id,
    add_concurrency_option,
    add_debug_option,
    add_extension_option,
    add_function_options,
    add_max_concurrency_option,
    add_snapstart_option,
    check_not_both,
    external_extensions,
    merged_layers,
    region,
    whole_number,
)
from caloric.cli.reload import check_reload, fresh_code_variables, reload_on_change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import Any

    from caloric._rust import EnvironmentPool, ExecutionEnvironment, HttpFront
    from caloric.local.process import RuntimeProcess

_EPILOG = """\
The runtime is started at the first invocation, and anew after a timeout or a crash. Invocations run one at a time,
in the order in which they came; with --concurrency N up to N at a time, each in an environment of its own. With
--max-concurrency N the runtime is started at once.

  caloric emulate -- python -m caloric app.handler
  curl http://127.0.0.1:8080/2015-03-31/functions/function/invocations -d '{}'

--http makes it a function URL: http://127.0.0.1:8080/ is for a browser, and every path is the function's.

--reload watches the folder with the code (LAMBDA_TASK_ROOT, or the current one): invocations that come after a save
run the new code in a new environment, those that run finish in the old one.

--only-api starts no runtime: it prints the variables for one that an IDE or you start, and waits for it.

With boto3: client("lambda", endpoint_url="http://127.0.0.1:8080"), and any function name.

As for AWS's emulator, AWS_LAMBDA_FUNCTION_NAME, _VERSION, _TIMEOUT, _MEMORY_SIZE, _HANDLER, AWS_LAMBDA_LOG_GROUP_NAME,
_STREAM_NAME and AWS_LAMBDA_MAX_CONCURRENCY set the defaults, and without CMD a bootstrap in /var/task, /opt or
/var/runtime is run.
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
        help="where to listen (default: 8080; 0 takes a free one)",
    )
    parser.add_argument("--host", help="0.0.0.0 to be reached from outside a container (default: 127.0.0.1)")
    add_function_options(
        parser,
        timeout_s=aws_emulator.default("AWS_LAMBDA_FUNCTION_TIMEOUT", 300, TIMEOUT_S),
        memory_mb=aws_emulator.default("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 3008, MEMORY_MB),
    )
    add_snapstart_option(parser)
    add_concurrency_option(parser, "an invocation that finds none waits")
    # AWS's emulator is switched by the variable.
    managed = aws_emulator.default("AWS_LAMBDA_MAX_CONCURRENCY", None, MAX_CONCURRENCY)
    add_max_concurrency_option(parser, managed)
    add_extension_option(parser)
    aws_emulator.add_aws_options(parser)
    add_debug_option(parser, "Caloric's runtime")
    add_only_api_options(parser)
    parser.add_argument(
        "--http",
        action="store_true",
        help="every path is the function's: HTTP requests become events, results responses, as with a function URL",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="with --http: the response leaves while it is made (invoke mode RESPONSE_STREAM)",
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="when the code was saved, run it: what comes then gets new environments (needs caloric[local])",
    )
    own, command = aws_emulator.split(parser, argv)
    if "--only-api" in own and "--" not in argv:
        # There is no command whose options could follow.
        own, command = [*own, *command[1:]], command[:1]
    options = parser.parse_args(own)
    check_not_both(options)
    check_only_api(options, command)
    if options.stream and not options.http:
        raise UserMistake("--stream goes with --http; the invoke path streams to who asks for it")
    if options.reload:
        check_reload(options)
    host, port = _address(options)
    function = _function(options, command, own)
    if options.only_api:
        return _serve_by_hand(function, options, host, port)

    from caloric.local.pool import SupervisedPool

    quiet = aws_emulator.is_quiet(options.log_level)

    def report(error: Exception) -> None:
        _say(f"no further environment can be made: {error}")

    supervised = SupervisedPool(function.start_environment, limit=options.concurrency, report=report)
    with supervised as pool:
        watch = None
        if options.reload:

            def remake() -> Callable[[], RuntimeProcess]:
                return _function(options, command, own).start_environment

            watch = reload_on_change(supervised, function.task_root, remake, _say, quiet=quiet)
        try:
            with _front(pool, host, port, options) as front:
                if not quiet:
                    _say(f"listening on {_url(front, options)}")
                _wait_for_signal()
                if not quiet:
                    _say("stopping")
        finally:
            if watch is not None:
                watch.close()
    return 0


def _serve_by_hand(function: Function, options: Namespace, host: str, port: int) -> int:
    """Serve a runtime that somebody else starts, until SIGINT or SIGTERM, and return 0."""
    environment, variables = function.serve_by_hand()
    with environment, _front(environment, host, port, options) as front:
        told, missing = changes(variables)
        if options.env_file is not None:
            write_env_file(options.env_file, told)
        _say(f"listening on {_url(front, options)}")
        _say("start the runtime with these variables; another may come when it has gone")
        sys.stdout.write(shell_lines(told, missing))
        sys.stdout.flush()
        _wait_for_signal()
        _say("stopping")
    return 0


def _front(
    environment: ExecutionEnvironment | EnvironmentPool, host: str, port: int, options: Namespace
) -> HttpFront:
    from caloric._rust import HttpFront

    invoke_mode = None
    if options.http:
        invoke_mode = "RESPONSE_STREAM" if options.stream else "BUFFERED"
    try:
        return HttpFront(environment, host=host, port=port, invoke_mode=invoke_mode)
    except OSError as error:
        raise UserMistake(f"{error.strerror or error}; choose another with --port") from None


def _url(front: HttpFront, options: Namespace) -> str:
    path = "" if options.http else "2015-03-31/functions/function/invocations"
    return f"http://{front.address}/{path}"


def _function(options: Namespace, command: list[str], own: Sequence[str]) -> Function:
    cwd = None
    if not command and not options.only_api:
        command = [aws_emulator.find_bootstrap()]
        cwd = aws_emulator.TASK_ROOT if os.path.isdir(aws_emulator.TASK_ROOT) else None
    handler = aws_emulator.handler(command)
    if options.only_api and command:
        handler = command[0]
    layers = merged_layers(options)
    # What layers are unpacked to stands in for /opt.
    by_itself = layers is None and not options.only_api
    installed = aws_emulator.installed_extensions() if by_itself else []
    disabled = by_itself and aws_emulator.disables_extensions()
    extensions = None if disabled else external_extensions(options, layers, installed)
    user = dict(options.env)
    if options.reload:
        user = {**fresh_code_variables(), **user}
    log_format = user.get("AWS_LAMBDA_LOG_FORMAT", os.environ.get("AWS_LAMBDA_LOG_FORMAT"))
    version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
    host, port = options.runtime_api_address or (RUNTIME_API if options.only_api else ("127.0.0.1", 0))
    if options.runtime_api_address is not None and options.concurrency > 1:
        raise UserMistake(
            "--runtime-api-address and --concurrency exclude each other: each environment has a Runtime API of its own"
        )
    patient: dict[str, Any] = {}
    if options.debug is not None:
        user.update(debug_variables(options))
        patient = patient_settings(own, options.timeout)
    elif options.only_api:
        # Who names a time limit wants to see it.
        patient = {**patient_settings(own, options.timeout), "limits": given(own, "--timeout")}
    return Function(
        command,
        handler=handler,
        layers=layers,
        extensions=extensions,
        user=user,
        reserved={} if options.snapstart else aws_emulator.log_names(),
        # Any runtime may be behind the command, also one that does not know where our layers are.
        knows_layers=False,
        task_root=os.environ.get("LAMBDA_TASK_ROOT") or cwd,
        settings={
            "function_name": os.environ.get("AWS_LAMBDA_FUNCTION_NAME") or "test_function",
            "function_version": version or (PUBLISHED_VERSION if options.snapstart else "$LATEST"),
            "region": region(),
            "account_id": account_id(),
            "timeout_ms": options.timeout * 1000,
            "memory_size_mb": options.memory,
            "snap_start": options.snapstart,
            "max_concurrency": options.max_concurrency,
            "host": host,
            "port": port,
            "log_fd": 2,
            # The old environment may write while the new one does.
            "whole_lines": options.concurrency > 1 or options.reload,
            "freeze": not options.no_freeze,
            "json_logs": log_format == "JSON",
            **patient,
        },
        process={"cwd": cwd},
        shares_layers=not options.reload,
    )


def _address(options: Namespace) -> tuple[str, int]:
    """Return where to listen."""
    whole = options.runtime_interface_emulator_address
    if whole is None:
        return options.host or "127.0.0.1", 8080 if options.port is None else options.port
    if options.host is not None or options.port is not None:
        raise UserMistake(
            "--runtime-interface-emulator-address names host and port; leave out --host and --port"
        )
    host, port = whole
    return str(host), int(port)


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
        pass
