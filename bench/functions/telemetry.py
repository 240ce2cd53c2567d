"""The echo, with an internal extension that is registered for no event, and subscribed to telemetry if `SINK` names a
port: somebody else's, so that receiving costs this process nothing.
"""

import json
import os
from http.client import HTTPConnection


def call(method: str, path: str, body: object, **headers: str) -> str:
    """Call the Extensions or the Telemetry API, and return the extension's identifier where there is one."""
    connection = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, json.dumps(body), named)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, text
    return answer.headers.get("Lambda-Extension-Identifier") or ""


if os.environ.get("SINK"):
    identifier = call("POST", "/2020-01-01/extension/register", {"events": []}, Lambda_Extension_Name="bench")
    call(
        "PUT",
        "/2022-07-01/telemetry",
        {
            "schemaVersion": "2022-12-13",
            "types": ["platform", "function"],
            "buffering": {"maxItems": 1000, "timeoutMs": 25},
            "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{os.environ['SINK']}"},
        },
        Lambda_Extension_Identifier=identifier,
    )
    # Without a poll the environment would wait for the extension for ever; nobody waits for this answer.
    waiting = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    waiting.request(
        "GET", "/2020-01-01/extension/event/next", headers={"Lambda-Extension-Identifier": identifier}
    )


def handler(event: object, context: object) -> object:
    """Answer with the event."""
    return event
