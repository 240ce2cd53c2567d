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
note("pid", os.getpid())
note(
    "process",
    {
        "arguments": int(sys.argv[3]),
        "folder": os.getcwd(),
        "leads its group": os.getpgrp() == os.getpid(),
        "input": os.readlink("/proc/self/fd/0"),
        "one output": os.fstat(1).st_ino == os.fstat(2).st_ino,
    },
)
if mode == "exit-at-start":
    print("no configuration", file=sys.stderr, flush=True)
    sys.exit(3)
events = {"deaf": ["INVOKE"], "managed": ["SHUTDOWN"]}.get(mode, ["INVOKE", "SHUTDOWN"])
called = name.upper() if mode == "other-name" else name
if called != name:
    events = []
status, answer, identifier = call(
    "POST", "/2020-01-01/extension/register", {"events": events}, {"Lambda-Extension-Name": called}
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
if mode == "last-words":
    import socket

    print("bye", end="", flush=True)
    host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /2020-01-01/extension/exit/error HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
            b"Lambda-Extension-Identifier: %b\r\nLambda-Extension-Function-Error-Type: A.B\r\n\r\n{}"
            % identifier.encode()
        )
        os._exit(1)
if mode in ("telemetry", "managed"):
    sink = HTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    subscription = {
        "schemaVersion": "2025-01-29" if mode == "managed" else "2022-12-13",
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
        if mode == "wait-for-file":
            while not os.path.exists(os.environ["WAIT_FOR"]):
                pass
            note("survived", None)
        sys.exit(0)
    print(f"working on {event['requestId']}", flush=True)
    if mode == "crash":
        os._exit(7)
    if mode == "large":
        memory = bytearray(os.urandom(1 << 20)) * 300
