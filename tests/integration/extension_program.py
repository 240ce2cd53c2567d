"""An external extension for the tests: registers, subscribes, writes down what it is told, ends as its mode says.

Arguments: its name, which is that of the executable that started this, and a mode. It writes one JSON document per line
into the file that the function's variable JOURNAL names.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

name, mode = os.path.basename(sys.argv[1]), sys.argv[2]
journal_lock = threading.Lock()


def note(kind: str, value: Any) -> None:
    with journal_lock, open(os.environ["JOURNAL"], "a", encoding="utf-8") as journal:
        journal.write(json.dumps([name, kind, value]) + "\n")


def call(
    method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, str]:
    """Return status, document and identifier."""
    connection = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Lambda-Extension-Identifier": identifier, **(headers or {})})
    response = connection.getresponse()
    found = response.getheader("Lambda-Extension-Identifier") or ""
    return response.status, json.loads(response.read()), found


class Sink(BaseHTTPRequestHandler):
    """Takes batches of telemetry."""

    def do_POST(self) -> None:
        for event in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            note("telemetry", event)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing about requests."""


identifier = ""
note("environ", dict(os.environ))
if mode == "exit-at-start":
    print("no configuration", file=sys.stderr, flush=True)
    sys.exit(3)
events = ["INVOKE"] if mode == "deaf" else ["INVOKE", "SHUTDOWN"]
status, answer, identifier = call(
    "POST", "/2020-01-01/extension/register", {"events": events}, {"Lambda-Extension-Name": name}
)
note("registered", answer)
if mode == "init-error":
    call(
        "POST",
        "/2020-01-01/extension/init/error",
        {},
        {"Lambda-Extension-Function-Error-Type": "Extension.NoConfig"},
    )
    sys.exit(1)
if mode == "telemetry":
    sink = HTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    subscription = {
        "schemaVersion": "2022-12-13",
        "types": ["platform", "function", "extension"],
        "buffering": {"timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{sink.server_port}/events"},
    }
    note("subscribed", call("PUT", "/2022-07-01/telemetry", subscription)[:2])
while True:
    event = call("GET", "/2020-01-01/extension/event/next")[1]
    note("event", event)
    if event["eventType"] == "SHUTDOWN":
        if mode == "stubborn":
            threading.Event().wait()
        sys.exit(0)
    print(f"working on {event['requestId']}", flush=True)
    if mode == "crash":
        os._exit(7)
