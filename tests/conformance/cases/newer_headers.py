"""What newer platforms send with an invocation: attempt, tenant, traces (spec runtime-api 1.3, 4.12)."""

from __future__ import annotations

import json
from typing import Any

from tests.conformance.case import Case, function, headers
from tests.scripted_api import event

_TRACE = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"
_TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def w3c(name: str, client_context: object, **options: Any) -> Case:
    """A handler that returns what it finds of this client context's trace."""
    text = (
        client_context if isinstance(client_context, str) else json.dumps(client_context, ensure_ascii=False)
    )
    return headers(
        f"W3C trace context: {name}",
        """
        found = context.w3c()
        found["added"] = 1
        shown = context.client_context and [
            context.client_context.custom, context.client_context.env, repr(context.client_context)
        ]
        return [found, context.w3c(), shown, hasattr(context.client_context, "w3c"), list(vars(context))]
        """,
        {"Lambda_Runtime_Client_Context": text},
        **options,
    )


def attempts(name: str, text: str, *ids: str, posts: tuple[str, ...]) -> Case:
    """Invocations with these invocation ids, empty ones without; compared are the headers of what is posted."""
    events = [
        event(number, f"id-{number}", Lambda_Runtime_Invocation_Id=id_) for number, id_ in enumerate(ids)
    ]
    return function(f"invocation id: {name}", text, events=tuple(events), posts=posts)


_NO_OBJECTS: tuple[object, ...] = (None, "text", 7, [], True)
_RETURNS = "def handler(event, context): return event\n"
_RAISES = "def handler(event, context): raise ValueError(event)\n"

CASES: list[Case] = [
    # ---- Lambda-Runtime-Invocation-Id -----------------------------------------------------------------------------
    attempts("echoed with a result", _RETURNS, "try-1", posts=("response",)),
    attempts("echoed with an error", _RAISES, "try-1", posts=("error",)),
    attempts("absent", _RETURNS, "", posts=("response",)),
    attempts("absent with an error", _RAISES, "", posts=("error",)),
    attempts("another one each time, and none", _RETURNS, "a", "b", "", "c", posts=("response",) * 4),
    attempts("another one each time, and none, with errors", _RAISES, "a", "", "b", posts=("error",) * 3),
    attempts("a long one", _RETURNS, "x" * 1000, posts=("response",)),
    attempts("one that is no UUID", _RETURNS, "a b/c?d=e&f;g", posts=("response",)),
    attempts(
        "a result that cannot be encoded",
        "def handler(event, context): return object()",
        "t",
        posts=("error",),
    ),
    function(
        "invocation id: the same request again, as another attempt",
        _RETURNS,
        events=(
            event(1, Lambda_Runtime_Invocation_Id="try-1"),
            event(2, Lambda_Runtime_Invocation_Id="try-2"),
        ),
        posts=("response", "response"),
    ),
    function(
        "invocation id: bytes and an event that is not JSON",
        "def handler(event, context): return b'bytes'",
        events=(event(b"text", Content_Type="text/plain", Lambda_Runtime_Invocation_Id="try-1"),),
    ),
    function(
        "invocation id: an event that cannot be decoded",
        _RETURNS,
        events=(event(b"", Lambda_Runtime_Invocation_Id="try-1"),),
        posts=("error",),
    ),
    # ---- Lambda-Runtime-Aws-Tenant-Id -----------------------------------------------------------------------------
    *(
        headers(
            f"tenant id: {name}",
            "return [context.tenant_id, type(context.tenant_id).__name__, repr(context)]",
            {"Lambda_Runtime_Aws_Tenant_Id": value},
            masks={r"\d{13}": "<time>"},
        )
        for name, value in {
            "a word": "blue",
            "every character that AWS allows": "aZ09._:/=+-@ x",
            "256 characters": "t" * 256,
            "absent": "",
        }.items()
    ),
    *(
        function(
            f"tenant id: in {where}, of its own invocation only",
            """
            import logging
            logging.warning("at import")
            def handler(event, context):
                logging.warning("in the handler")
                print(context.tenant_id)
            """,
            events=(
                event(1, "id-1", Lambda_Runtime_Aws_Tenant_Id="blue"),
                event(2, "id-2", Lambda_Runtime_Aws_Tenant_Id="größe"),
                event(3, "id-3"),
            ),
            environment=variables,
            telemetry=telemetry,
            posts=("response",) * 3,
        )
        for where, variables, telemetry in (
            ("text records", {}, False),
            ("JSON records", {"AWS_LAMBDA_LOG_FORMAT": "JSON"}, False),
            ("framed JSON records", {"AWS_LAMBDA_LOG_FORMAT": "JSON"}, True),
        )
    ),
    # ---- traces ---------------------------------------------------------------------------------------------------
    w3c("all fields", {"w3c": {"traceparent": _TRACEPARENT, "tracestate": "a=1,b=2", "baggage": "k=v"}}),
    w3c("one field", {"w3c": {"traceparent": _TRACEPARENT}}),
    w3c("fields in another order", {"w3c": {"baggage": "b", "tracestate": "s", "traceparent": "p"}}),
    w3c("not ASCII", {"w3c": {"baggage": "größe=日本"}}),
    w3c("empty texts", {"w3c": {"traceparent": "", "tracestate": ""}}),
    w3c("other fields", {"w3c": {"traceparent": "p", "Traceparent": "x", "other": "y"}}),
    w3c("values that are no text", {"w3c": {"traceparent": 1, "tracestate": None, "baggage": ["b"]}}),
    w3c("beside the rest", {"custom": {"a": 1}, "env": {"b": 2}, "w3c": {"traceparent": "p"}}),
    w3c("under custom", {"custom": {"w3c": {"traceparent": "p"}}}),
    w3c("no fields", {"w3c": {}}),
    *(w3c(f"{value!r} in place of an object", {"w3c": value}) for value in _NO_OBJECTS),
    w3c("a client context without it", {"custom": None}),
    w3c("no client context", ""),
    function(
        "trace id: in the environment during its invocation",
        """
        import os
        def handler(event, context):
            return [os.environ.get("_X_AMZN_TRACE_ID"), os.getenv("_X_AMZN_TRACE_ID", "none")]
        """,
        events=(
            event(1, Lambda_Runtime_Trace_Id=_TRACE),
            event(2),
            event(3, Lambda_Runtime_Trace_Id="Root=1;Lineage=a:0"),
            event(4, Lambda_Runtime_Trace_Id=_TRACE),
        ),
        posts=("response",) * 4,
    ),
    function(
        "trace id: in the environment of processes",
        """
        import subprocess
        def handler(event, context):
            return subprocess.run(["sh", "-c", "echo $_X_AMZN_TRACE_ID"], capture_output=True).stdout.decode()
        """,
        events=(event(1, Lambda_Runtime_Trace_Id=_TRACE), event(2)),
        posts=("response",) * 2,
    ),
    function(
        "trace id: one that was in the environment before",
        "import os\ndef handler(event, context): return os.environ.get('_X_AMZN_TRACE_ID')",
        environment={"_X_AMZN_TRACE_ID": "Root=old"},
    ),
    function(
        "trace id: the handler changes and removes it",
        """
        import os
        def handler(event, context):
            found = os.environ.get("_X_AMZN_TRACE_ID")
            if event == 1: os.environ["_X_AMZN_TRACE_ID"] = "changed"
            if event == 2: del os.environ["_X_AMZN_TRACE_ID"]
            return found
        """,
        events=tuple(event(number, Lambda_Runtime_Trace_Id=_TRACE) for number in (1, 2, 3)),
        posts=("response",) * 3,
    ),
]
