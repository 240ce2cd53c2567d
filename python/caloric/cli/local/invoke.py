"""`caloric local invoke`: invoke a function of the service, as boto3 and the aws CLI do."""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from http.client import HTTPException

from caloric.cli import UserMistake
from caloric.cli.event import read_event
from caloric.cli.local.connection import Connection, add_connection_options, function_path, refusal
from caloric.cli.options import Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from http.client import HTTPResponse

_EPILOG = """\
The result is all that is on stdout. Exit code 0; 1 when the function failed (its error is the result); 2 when
something is wrong with the command, or the service refused it.

  caloric local invoke hello --event '{"name": "world"}'
  caloric local invoke hello --event @event.json --log-tail
  caloric local invoke hello --qualifier live --stream
  caloric local invoke hello --async
"""


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code: 0, or 1 when the function failed."""
    parser = Parser(
        "local invoke",
        "Invoke a function of the local Lambda.",
        _EPILOG,
        usage="caloric local invoke NAME [--event JSON|@FILE|-] [options]",
    )
    parser.add_argument("name", metavar="NAME", help="the function's name or ARN, with :QUALIFIER or without")
    parser.add_argument(
        "--event",
        metavar="JSON|@FILE|-",
        default="{}",
        help="the event: JSON text, a file after @, or - for standard input (default: {})",
    )
    parser.add_argument(
        "--qualifier", metavar="VERSION|ALIAS", help="the version or alias to invoke (default: $LATEST)"
    )
    parser.add_argument("--log-tail", action="store_true", help="print the last 4 kB of the log on stderr")
    parser.add_argument(
        "--stream", action="store_true", help="print a streamed response piece by piece, as it comes"
    )
    parser.add_argument(
        "--async",
        dest="event_invoke",
        action="store_true",
        help="hand over the event and do not wait for a result (invocation type Event)",
    )
    parser.add_argument(
        "--client-context", metavar="JSON", help="what the handler finds in context.client_context"
    )
    parser.add_argument("--tenant-id", metavar="ID", help="the tenant of a function with tenant isolation")
    add_connection_options(parser)
    options = parser.parse_args(argv)
    if options.event_invoke and (options.stream or options.log_tail):
        raise UserMistake("--async waits for no result: it does not go with --stream and --log-tail")
    event = read_event(options.event)
    connection = Connection(options)
    try:
        with connection.open("POST", _path(options), event, _headers(options)) as answer:
            if answer.status >= 300:
                raise refusal(answer, answer.read())
            if options.event_invoke:
                answer.read()
                _say(f"accepted as {answer.headers.get('x-amzn-RequestId', 'an event')}")
                return 0
            return _print_stream(answer) if options.stream else _print_result(answer)
    except (OSError, HTTPException) as error:
        raise UserMistake(f"the service at {connection.url} broke off: {error}") from None


def _path(options: Namespace) -> str:
    api, operation = (
        ("2021-11-15", "response-streaming-invocations") if options.stream else ("2015-03-31", "invocations")
    )
    path = function_path(options.name, f"/{operation}", api)
    if options.qualifier is None:
        return path
    from urllib.parse import quote

    return f"{path}?Qualifier={quote(options.qualifier, safe='')}"


def _headers(options: Namespace) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if options.event_invoke:
        headers["X-Amz-Invocation-Type"] = "Event"
    if options.log_tail:
        headers["X-Amz-Log-Type"] = "Tail"
    if options.client_context is not None:
        headers["X-Amz-Client-Context"] = b64encode(options.client_context.encode()).decode()
    if options.tenant_id is not None:
        headers["X-Amz-Tenant-Id"] = options.tenant_id
    return headers


def _print_result(answer: HTTPResponse) -> int:
    payload = answer.read()
    _print_log(answer.headers.get("X-Amz-Log-Result"))
    out = sys.stdout.buffer
    out.write(payload if payload.endswith(b"\n") else payload + b"\n")
    out.flush()
    return 1 if answer.headers.get("X-Amz-Function-Error") else 0


def _print_stream(answer: HTTPResponse) -> int:
    import json

    from caloric.cli.local.event_stream import BrokenStreamError, messages

    out = sys.stdout.buffer
    try:
        for kind, payload in messages(answer):
            if kind == "PayloadChunk":
                out.write(payload)
                out.flush()
            elif kind == "InvokeComplete":
                end = json.loads(payload)
                _print_log(end.get("LogResult"))
                if "ErrorCode" in end:
                    _say(f"the function failed: {end['ErrorCode']}: {end.get('ErrorDetails', '')}")
                    return 1
                return 0
    except BrokenStreamError as error:
        raise UserMistake(f"the service broke off: {error}") from None
    raise UserMistake("the service broke off before the response was complete")


def _print_log(tail: str | None) -> None:
    if tail:
        sys.stderr.write(b64decode(tail).decode(errors="replace"))
        sys.stderr.flush()


def _say(message: str) -> None:
    sys.stderr.write(f"caloric local invoke: {message}\n")
    sys.stderr.flush()
