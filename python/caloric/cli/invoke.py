"""`caloric invoke`: one execution environment, one or a few invocations.

Imports neither asyncio nor a CLI library: either would cost more than everything else this command does.
"""

from __future__ import annotations

import os
import sys

from caloric.cli import UserMistake
from caloric.cli.event import check_json, read_event
from caloric.cli.function import Function
from caloric.cli.options import (
    FAST_WAY_IN,
    PUBLISHED_VERSION,
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
    tenant_id,
    whole_number,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from caloric._rust import InvokeResult, InvokeStream
    from caloric.local.layers import MergedLayers

_EPILOG = """\
The result is all that is on stdout. What the function writes, and Lambda's START, END and REPORT lines, go to
stderr. Exit code 0; 1 when the function failed (its error is the result); 2 when something is wrong with the
command.

  caloric invoke app.handler --event '{"name": "world"}'
  caloric invoke app.handler --event @event.json --repeat 3
  echo '{}' | caloric invoke app.handler --event - --json
  caloric invoke app.handler --runtime 'python -m awslambdaric app.handler'

breakpoint() in the handler opens the debugger when this runs in a terminal; the time limit waits for it. --debug waits
for the debugger of an IDE.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code: 0, or 1 when an invocation failed."""
    parser = Parser(
        "invoke",
        "Run a handler on this machine: a cold start, then one or more invocations.",
        _EPILOG,
        usage="caloric invoke HANDLER [--event JSON|@FILE|-] [options]",
    )
    parser.add_argument("handler", metavar="HANDLER", help="module.function, for example app.handler")
    parser.add_argument(
        "--event",
        metavar="JSON|@FILE|-",
        default="{}",
        help="the event: JSON text, a file after @, or - for standard input (default: {})",
    )
    parser.add_argument(
        "--repeat",
        metavar="N",
        type=whole_number(1, 1_000_000, "times"),
        default=1,
        help="invoke so many times in the same environment: the first is a cold start, the others are warm; with "
        "--concurrency or --max-concurrency several of them run at once, and are printed as they finish",
    )
    parser.add_argument(
        "--client-context", metavar="JSON", help="what the handler finds in context.client_context"
    )
    parser.add_argument(
        "--tenant-id",
        metavar="ID",
        type=tenant_id,
        help="what the handler finds in context.tenant_id: the tenant of a function with tenant isolation",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document per invocation: result, error, logs, and the time of every phase",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="print a streamed response piece by piece, as it comes, and nothing behind it",
    )
    parser.add_argument(
        "--runtime", metavar="CMD", help="another runtime's command line, in place of Caloric; any language"
    )
    add_snapstart_option(parser)
    add_concurrency_option(parser, "with --repeat")
    add_max_concurrency_option(parser)
    add_extension_option(parser)
    add_function_options(parser, timeout_s=3, memory_mb=128)
    add_debug_option(parser, "the function")
    if "--debug" in argv:
        from caloric.cli.debug import with_own_value

        argv = with_own_value(argv)
    options = parser.parse_args(argv)
    _check_handler(options)
    check_not_both(options)
    if options.stream and (options.json or options.concurrency > 1 or options.max_concurrency is not None):
        raise UserMistake(
            "--stream prints one response as it comes: it does not go with --json, --concurrency and "
            "--max-concurrency"
        )
    event = read_event(options.event)
    if options.client_context is not None:
        check_json(options.client_context.encode(), "the client context")
    layers = merged_layers(options)
    extensions = external_extensions(options, layers)
    function = _function(options, layers, extensions, argv)
    _end_cleanly_on_sigterm()
    failed = False
    for result in _results(function, event, options):
        if result.error_type == "Runtime.InvalidEntrypoint":
            raise UserMistake(_error_message(result))
        if result.error_type == "Runtime.OutOfMemory":
            _say(f"the function used more than its {options.memory} MB; --memory MB gives it more")
        failed = failed or result.function_error is not None
        # Of a stream that is all there is to print, but for the error with which it ended.
        if result.payload or not options.stream:
            _print(result, as_json=options.json, extended=bool(extensions))
    return 1 if failed else 0


def _results(function: Function, event: bytes, options: Namespace) -> Iterator[InvokeResult]:
    """Run the invocations, and yield each when it is finished."""
    travels_along = {"client_context": options.client_context, "tenant_id": options.tenant_id}
    environments = min(options.concurrency, options.repeat)
    if environments > 1:
        from caloric.local.pool import SupervisedPool

        def report(error: Exception) -> None:
            _say(f"no further environment can be made: {error}")

        with SupervisedPool(function.start_environment, limit=environments, report=report) as pool:
            yield from _overlapping(
                lambda done: pool.submit(event, done, **travels_along), environments, options.repeat
            )
        return
    with function.start_environment() as process:
        environment = process.environment
        if options.max_concurrency is not None:
            yield from _overlapping(
                lambda done: environment.submit(event, done, **travels_along),
                options.max_concurrency,
                options.repeat,
            )
            return
        for _ in range(options.repeat):
            if options.stream:
                yield _streamed(environment.invoke_with_response_stream(event, **travels_along))
            else:
                yield environment.invoke(event, **travels_along)


def _streamed(stream: InvokeStream) -> InvokeResult:
    """Print the pieces as they come, and return the result."""
    out = sys.stdout.buffer
    for piece in stream:
        out.write(piece)
        out.flush()
    return stream.result()


def _overlapping(
    submit: Callable[[Callable[[InvokeResult], object]], object], at_once: int, count: int
) -> Iterator[InvokeResult]:
    """Submit `count` invocations, so that `at_once` are under way, and yield them as they finish."""
    # The C module: `queue` brings more than this command otherwise has.
    from _queue import SimpleQueue

    finished: SimpleQueue[InvokeResult] = SimpleQueue()
    submitted = 0
    for number in range(count):
        while submitted < min(count, number + at_once):
            submit(finished.put)
            submitted += 1
        yield finished.get()


def _end_cleanly_on_sigterm() -> None:
    """Take the function's process along when this one is told to end."""
    # The signal module itself would import enum, a twentieth of this command's time.
    import _signal  # type: ignore[import-not-found]

    def stop(_number: int, _frame: object) -> None:
        raise SystemExit(128 + 15)

    _signal.signal(15, stop)


def _check_handler(options: Namespace) -> None:
    handler = options.handler
    # Another runtime may name its handlers as it likes.
    if options.runtime is None and "." not in handler:
        raise UserMistake(
            f"the handler {handler!r} has no dot: name module and function, for example {handler or 'app'}.handler"
        )


def _command(options: Namespace) -> list[str]:
    if options.runtime is None:
        return [*FAST_WAY_IN, options.handler]
    import shlex

    try:
        command = shlex.split(options.runtime)
    except ValueError as error:
        raise UserMistake(f"--runtime {options.runtime!r} is no command line: {error}") from None
    if not command:
        raise UserMistake("--runtime is empty: name the program to start")
    return command


def _function(
    options: Namespace, layers: MergedLayers | None, extensions: dict[str, str] | None, argv: Sequence[str]
) -> Function:
    """Return the function. In a terminal its process shares it with us, for the debugger's sake.

    Where there are extensions or several environments its output goes through the environment's pipe, so that
    extensions can subscribe to it, and lines stay whole.
    """
    user = dict(options.env)
    several = options.concurrency > 1
    debug: dict[str, Any] = {}
    if options.debug is not None:
        from caloric.cli.debug import check_debugpy, debug_variables, patient_settings

        if options.runtime is None:
            check_debugpy()
        user.update(debug_variables(options))
        # Who waits for the debugger says so in the log.
        debug = {**patient_settings(argv, options.timeout), "log_fd": 2}
    alone = not options.json and not several and options.debug is None
    terminal = options.event != "-" and alone and os.isatty(0) and os.isatty(2)
    if terminal and options.runtime is None:
        user.setdefault("PYTHONBREAKPOINT", os.environ.get("PYTHONBREAKPOINT", _DEBUGGER))
    return Function(
        _command(options),
        handler=options.handler,
        layers=layers,
        extensions=extensions,
        user=user,
        knows_layers=options.runtime is None,
        settings={
            "region": region(),
            "account_id": account_id(),
            "timeout_ms": options.timeout * 1000,
            "memory_size_mb": options.memory,
            "function_version": PUBLISHED_VERSION if options.snapstart else "$LATEST",
            "snap_start": options.snapstart,
            "max_concurrency": options.max_concurrency,
            "log_fd": -1 if options.json else 2,
            "whole_lines": several,
            "keep_log": options.json,
            "freeze": not options.no_freeze,
            "json_logs": {**os.environ, **user}.get("AWS_LAMBDA_LOG_FORMAT") == "JSON",
            **debug,
        },
        process={
            "stdin": 0 if terminal else None,
            "output_fd": None if options.json or extensions or several else 2,
            "own_process_group": not terminal,
        },
    )


def _say(message: str) -> None:
    sys.stderr.write(f"caloric invoke: {message}\n")
    sys.stderr.flush()


_DEBUGGER = "caloric.local.debugger.set_trace"


def _print(result: InvokeResult, *, as_json: bool, extended: bool) -> None:
    payload = _document(result, extended=extended) if as_json else result.payload
    out = sys.stdout.buffer
    out.write(payload if payload.endswith(b"\n") else payload + b"\n")
    out.flush()


def _document(result: InvokeResult, *, extended: bool) -> bytes:
    from caloric._rust import encode_json

    value, encoding = _value(result)
    failed = result.function_error is not None
    return encode_json(
        {
            "requestId": result.request_id,
            "status": result.status,
            "result": None if failed else value,
            "error": value if failed else None,
            **({"resultEncoding": encoding} if encoding else {}),
            "contentType": result.content_type,
            "logs": result.log.decode(errors="replace"),
            **({"extensionLogs": result.extension_log.decode(errors="replace")} if extended else {}),
            "initDurationMs": result.init_duration_ms,
            "restoreDurationMs": result.restore_duration_ms,
            "durationMs": result.duration_ms,
            "billedDurationMs": result.billed_duration_ms,
            "responseLatencyMs": result.response_latency_ms,
            "maxMemoryUsedMB": result.max_memory_used_mb,
            "phasesMs": dict(result.phases),
        }
    )


def _value(result: InvokeResult) -> tuple[object, str]:
    """What the function returned, as a member of the document, and how it is encoded if it is no JSON."""
    from caloric._rust import decode_json

    try:
        return decode_json(result.payload), ""
    except ValueError:
        pass
    try:
        return result.payload.decode(), "text"
    except UnicodeDecodeError:
        from base64 import b64encode

        return b64encode(result.payload).decode(), "base64"


def _error_message(result: InvokeResult) -> str:
    from caloric._rust import decode_json

    document: Any = decode_json(result.payload)
    return str(document["errorMessage"])
