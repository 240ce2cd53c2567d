"""Work that the caller does not wait for: an order is confirmed at once, and recorded when that has been sent.

caloric invoke app.handler --event '{"order": 7}' --env LEDGER=/tmp/ledger.jsonl
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import caloric


def handler(event: dict[str, Any], context: caloric.LambdaContext) -> dict[str, Any]:
    """Confirm `event["order"]`."""
    context.after_response(record, event["order"], context.aws_request_id)
    return {"confirmed": event["order"]}


def record(order: int, request_id: str) -> None:
    """Write the order into the ledger, which takes its time."""
    time.sleep(0.2)
    with Path(os.environ["LEDGER"]).open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps({"order": order, "request": request_id}) + "\n")
