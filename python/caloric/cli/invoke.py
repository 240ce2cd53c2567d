"""`caloric invoke`: one execution environment, one or a few invocations.

Imports neither asyncio nor a CLI library: either would cost more than everything else this command does.
"""

from __future__ import annotations

import os
import sys

from caloric.cli import UserMistake
from caloric.cli.options import (
    FAST_WAY_IN,
    PUBLISHED_VERSION,
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
    tenant_id,
    whole_number,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence
    from typing import Any

    from caloric._rust import ExecutionEnvironment, InvokeResult
    from caloric.local.layers import MergedLayers

_LATER = {
    "--stream": "response streaming",
    "--concurrency": "several execution environments at once (--max-concurrency is for one on Managed Instances)",
}

_EPILOG = """\
The result is all that is on stdout. What the function writes, and Lambda's START, END and REPORT lines, go to
stderr. Exit code 0; 1 when the function failed (its error is the result); 2 when something is wrong with the
command.

  caloric invoke app.handler --event '{"name": "world"}'
  caloric invoke app.handler --event @event.json --repeat 3
  echo '{}' | caloric invoke app.handler --event - --json
  caloric invoke app.handler --runtime 'python -m awslambdaric app.handler'

breakpoint() in the handler opens the debugger when this runs in a terminal; the time limit waits for it.
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
        "--max-concurrency up to N of them run at once, and are printed as they finish",
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
        "--runtime", metavar="CMD", help="another runtime's command line, in place of Caloric; any language"
    )
    add_snapstart_option(parser)
    add_max_concurrency_option(parser)
    add_extension_option(parser)
    add_function_options(parser, timeout_s=3, memory_mb=128)
    add_later(parser, _LATER)
    options = parser.parse_args(argv)
    _check_handler(options)
    check_not_both(options)
    event = _read_event(options.event)
    if options.client_context is not None:
        _check_json(options.client_context.encode(), "the client context")
    command = _command(options)
    layers = merged_layers(options)
    extensions = external_extensions(options, layers)
    failed = False
    _end_cleanly_on_sigterm()
    from caloric._rust import ExecutionEnvironment

    environment = ExecutionEnvironment(
        timeout_ms=options.timeout * 1000,
        memory_size_mb=options.memory,
        function_version=PUBLISHED_VERSION if options.snapstart else "$LATEST",
        snap_start=options.snapstart,
        max_concurrency=options.max_concurrency,
        log_fd=-1 if options.json else 2,
        keep_log=options.json,
        freeze=not options.no_freeze,
        handler=options.handler,
        json_logs=dict(options.env).get("AWS_LAMBDA_LOG_FORMAT") == "JSON",
        extensions=list(extensions),
    )
    with environment, _processes(environment, command, layers, extensions, options):
        for result in _results(environment, event, options):
            if result.error_type == "Runtime.InvalidEntrypoint":
                raise UserMistake(_error_message(result))
            if result.error_type == "Runtime.OutOfMemory":
                _say(f"the function used more than its {options.memory} MB; --memory MB gives it more")
            failed = failed or result.function_error is not None
            _print(result, as_json=options.json, extended=bool(extensions))
    return 1 if failed else 0


def _results(environment: ExecutionEnvironment, event: bytes, options: Namespace) -> Iterator[InvokeResult]:
    """Run the invocations, and yield each when it is finished."""
    travels_along = {"client_context": options.client_context, "tenant_id": options.tenant_id}
    if options.max_concurrency is None:
        for _ in range(options.repeat):
            yield environment.invoke(event, **travels_along)
        return
    # The C module: `queue` brings more than this command otherwise has.
    from _queue import SimpleQueue

    finished: SimpleQueue[InvokeResult] = SimpleQueue()
    submitted = 0
    for number in range(options.repeat):
        while submitted < min(options.repeat, number + options.max_concurrency):
            environment.submit(event, finished.put, **travels_along)
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


def _processes(
    environment: ExecutionEnvironment,
    command: list[str],
    layers: MergedLayers | None,
    extensions: dict[str, str],
    options: Namespace,
) -> Any:
    """Return the supervised runtime process. In a terminal it shares it with us, for the debugger's sake.

    Where there are extensions its output goes through the environment's pipe, so that they can subscribe to it.
    """
    from caloric.local.process import supervise

    user = dict(options.env)
    terminal = options.event != "-" and not options.json and os.isatty(0) and os.isatty(2)
    if terminal and options.runtime is None:
        user.setdefault("PYTHONBREAKPOINT", os.environ.get("PYTHONBREAKPOINT", _DEBUGGER))
    own = options.runtime is None
    variables = function_variables(environment, layers, handler=options.handler, user=user, knows_layers=own)
    check_program(command, variables.get("PATH"))
    launch(environment, extensions, variables)
    return supervise(
        environment,
        command,
        variables,
        stdin=0 if terminal else None,
        output_fd=None if options.json or extensions else 2,
        own_process_group=not terminal,
    )


def _say(message: str) -> None:
    sys.stderr.write(f"caloric invoke: {message}\n")
    sys.stderr.flush()


_DEBUGGER = "caloric.local.debugger.set_trace"


def _read_event(source: str) -> bytes:
    """Return the event's bytes. Raises `UserMistake` when there are none, or they are no JSON."""
    if source == "-":
        event, name = sys.stdin.buffer.read(), "the event on standard input"
    elif source.startswith("@"):
        name = f"the event in {source[1:]}"
        try:
            with open(source[1:], "rb") as file:
                event = file.read()
        except OSError as error:
            raise UserMistake(f"the event file {source[1:]!r} cannot be read: {error.strerror}") from None
    else:
        event, name = source.encode(errors="surrogateescape"), "the event"
    _check_json(event, name)
    return event


def _check_json(text: bytes, name: str) -> None:
    from caloric._rust import decode_json

    try:
        decode_json(text)
    except ValueError as error:
        line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
        reason = getattr(error, "msg", error)
        where = "" if line is None else f" at line {line}, column {column}"
        raise UserMistake(f"{name} is not JSON: {reason}{where}") from None


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
