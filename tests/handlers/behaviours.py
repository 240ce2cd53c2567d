"""One function with many behaviours, chosen by the event's `case`: one process serves many tests."""

from __future__ import annotations

import collections
import decimal
import logging
import os
import signal
import sys
import time

logger = logging.getLogger("behaviours")
invocations = 0

Point = collections.namedtuple("Point", "x y")


class Whole(int):
    pass


class Text(str):
    pass


class WithAsdict:
    def _asdict(self):
        return {"as": "dict"}


class TeapotError(Exception):
    pass


def handler(event, context):
    """Echo, or what `case` says."""
    global invocations
    invocations += 1
    if isinstance(event, dict) and "case" in event:
        return CASES[event["case"]](event, context)
    return event


def process(event, context):
    return {"pid": os.getpid(), "invocations": invocations}


def environment(event, context):
    return dict(os.environ)


def python_value(event, context):
    """What JSON cannot send."""
    loop = []
    loop.append(loop)
    return {
        "bytes": b"\x00\xff not JSON",
        "empty bytes": b"",
        "tuple": (1, (2, 3)),
        "namedtuple": Point(1, 2),
        "_asdict": WithAsdict(),
        "keys": {1: "int", 2.5: "float", None: "None", True: "bool"},
        "subclasses": [Whole(7), Text("seven")],
        "decimal": [decimal.Decimal("1.10"), decimal.Decimal("1E+2"), decimal.Decimal(10**30)],
        "not a number": [float("nan"), float("inf"), -float("inf")],
        "lone surrogate": "\ud800",
        "set": {1},
        "object": TeapotError(),
        "complex": [{"deep": 1j}],
        "tuple key": {(1, 2): 3},
        "loop": loop,
    }[event["value"]]


def text(event, context):
    return "x" * event["length"]


def length(event, context):
    return len(event["text"])


def raising(event, context):
    deeper(event["message"])


def deeper(message):
    raise TeapotError(message)


def raising_from(event, context):
    try:
        deeper("cause")
    except TeapotError as error:
        raise KeyError("effect") from error


def recursing(event, context):
    return recursing(event, context)


def exiting(event, context):
    sys.exit(event["status"])


def exiting_at_once(event, context):
    os._exit(event["status"])


def killed(event, context):
    os.kill(os.getpid(), signal.SIGKILL)


def sleeping(event, context):
    time.sleep(event["seconds"])
    return "awake"


def context_values(event, context):
    identity, client_context = context.identity, context.client_context
    client = client_context and client_context.client
    return {
        "attributes": {
            name: [type(getattr(context, name)).__name__, getattr(context, name)]
            for name in (
                "aws_request_id",
                "function_name",
                "function_version",
                "invoked_function_arn",
                "log_group_name",
                "log_stream_name",
                "memory_limit_in_mb",
                "tenant_id",
            )
        },
        "remaining": [context.get_remaining_time_in_millis() for _ in range(2)],
        "identity": [identity.cognito_identity_id, identity.cognito_identity_pool_id],
        "client_context": client_context
        and {
            "custom": client_context.custom,
            "env": client_context.env,
            "client": client and {name: getattr(client, name) for name in type(client).__slots__},
        },
    }


def printing(event, context):
    print("first")
    print("second", file=sys.stderr)
    sys.stdout.write("third, in two ")
    sys.stdout.write("pieces\n")
    context.log("fourth, without a line end")
    context.log("\n")
    os.write(1, b"fifth, past Python\n")
    print("sixth", flush=True)


def logging_lines(event, context):
    logger.debug("not shown")
    logger.info("not shown either")
    logger.warning("shown: %s %s", 1, "ü")
    logger.error("two\nlines")
    logging.critical("from the root")
    logging.log(45, "a level of its own")
    return context.aws_request_id


def logging_exception(event, context):
    try:
        deeper("caught")
    except TeapotError:
        logger.exception("while testing")
    logger.warning("the next record")


CASES = {
    name: value
    for name, value in list(globals().items())
    if getattr(value, "__module__", None) == __name__ and callable(value) and not isinstance(value, type)
}
