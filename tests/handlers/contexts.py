"""What can be seen of a context, as JSON."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import time

kept = []
ADDED = ("after_response", "open_stream")


def fields(value):
    """A helper object's attributes."""
    if value is None or isinstance(value, (str, int, list, dict)):
        return value
    names = getattr(type(value), "__slots__", ())
    return {"type": type(value).__name__, **{name: fields(getattr(value, name)) for name in sorted(names)}}


def attributes(context):
    return {name: [type(value).__name__, fields(value)] for name, value in sorted(vars(context).items())}


def describe(event, context):
    remaining = context.get_remaining_time_in_millis()
    return {
        "type": type(context).__name__,
        "vars": attributes(context),
        "order": list(vars(context)),
        # Caloric's additions are in docs/handlers.md.
        "public": [name for name in dir(context) if not name.startswith("_") and name not in ADDED],
        "repr": repr(context),
        "str": str(context),
        "w3c": context.w3c(),
        "remaining": [type(remaining).__name__, remaining > 0],
        "trace id": os.environ.get("_X_AMZN_TRACE_ID"),
        "helpers take no attributes": refuses(context.identity) and refuses(context.client_context),
        "truth": bool(context),
    }


def refuses(helper):
    if helper is None:
        return True
    try:
        helper.new_attribute = 1
    except AttributeError:
        return True
    return False


def change(event, context):
    context.own = 1
    context.aws_request_id = "changed"
    del context.tenant_id
    return {
        "own": context.own,
        "aws_request_id": context.aws_request_id,
        "tenant_id": getattr(context, "tenant_id", "no such attribute"),
        "in vars": "own" in vars(context),
    }


def keep(event, context):
    kept.append(context)
    return [each.aws_request_id for each in kept]


def duplicate(event, context):
    context.own = {"added": 1}
    return {
        "original": attributes(context),
        "copy": attributes(copy.copy(context)),
        "deepcopy": attributes(copy.deepcopy(context)),
        "pickle": attributes(pickle.loads(pickle.dumps(context))),
    }


def remaining(event, context):
    left = context.get_remaining_time_in_millis()
    return {"type": type(left).__name__, "remaining": left, "now": int(time.time() * 1000)}


def trace_id(event, context):
    child = subprocess.run(["sh", "-c", 'printf %s "$_X_AMZN_TRACE_ID"'], capture_output=True, text=True)
    return [os.environ.get("_X_AMZN_TRACE_ID"), child.stdout]


def type_and_repr(event, context):
    return [type(event).__name__, repr(event)]
