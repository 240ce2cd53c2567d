"""A function for long runs: it does what the event says, and its answers and log lines name their event.

It imports `logging`, as most functions do.
"""

import logging
import sys
from typing import Any

logger = logging.getLogger()


def handler(event: dict[str, Any], context: Any) -> object:
    """Answer with the request id that the context has, the event's token, and so much data as it asks for."""
    token = event["token"]
    match event["do"]:
        case "print":
            print(f"soak {token}")
        case "log":
            logger.warning("soak %s", token)
        case "stderr":
            sys.stderr.write(f"soak {token}\n")
        case "raise":
            raise ValueError(f"soak {token}")
        case "unserializable":
            # The error's message, and so its log line, has the name of the type.
            return type(f"soak {token} ", (), {})()
        case "bytes":
            return f"{context.aws_request_id} {token} {'b' * event['size']}".encode()
    return {"id": context.aws_request_id, "token": token, "data": "d" * event["size"]}
