"""What newer platforms send with an invocation: tenant, trace and W3C trace context, on every pair."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.pairs.function import PAIRS

if TYPE_CHECKING:
    from tests.conftest import WriteFunction
    from tests.pairs.function import Pair

SOURCE = """
    import logging, os

    def handler(event, context):
        logging.warning("record")
        custom = context.client_context and context.client_context.custom
        return [context.tenant_id, context.w3c(), custom, os.environ.get("_X_AMZN_TRACE_ID")]
"""

TRACE_ID = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_they_reach_the_handler_and_its_log_and_are_gone_with_the_invocation(
    pair: Pair, write_function: WriteFunction
) -> None:
    fields = {"traceparent": TRACEPARENT, "tracestate": "a=1", "baggage": "größe=1", "other": "x"}
    client_context = json.dumps({"custom": {"a": 1}, "w3c": fields})
    with pair.start(write_function(SOURCE), "app.handler", AWS_LAMBDA_LOG_FORMAT="JSON") as function:
        with_all = function.invoke_bytes(
            b"{}", client_context=client_context, tenant_id="blue", trace_id=TRACE_ID
        ).json()
        without = function.invoke_bytes(b"{}").json()
        log = function.wait_for_log(lambda text: text.count('"record"') == 2)
    del fields["other"]
    # AWS's emulator has a tracer that does nothing, and passes no trace on.
    expected_trace = TRACE_ID if pair.endpoint == "caloric" else None
    assert with_all == ["blue", fields, {"a": 1}, expected_trace]
    assert without[:3] == [None, {}, None]
    assert without[3] != TRACE_ID
    records = [json.loads(line) for line in log.splitlines() if '"record"' in line]
    assert [record.get("tenantId") for record in records] == ["blue", None]
