"""The same extension with `urllib`, as most examples have it."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import Request, urlopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

API = os.environ["AWS_LAMBDA_RUNTIME_API"]


def call(method: str, path: str, headers: dict[str, str], document: object = None) -> "tuple[str, Any]":
    """Return the identifier and the document that came."""
    body = None if document is None else json.dumps(document).encode()
    with urlopen(Request(f"http://{API}{path}", body, headers, method=method)) as response:
        return response.headers["Lambda-Extension-Identifier"], json.loads(response.read())


class Sink(BaseHTTPRequestHandler):
    """Takes batches of telemetry."""

    def do_POST(self) -> None:
        """Take one."""
        json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


events = {"events": ["INVOKE", "SHUTDOWN"]}
identifier, _ = call("POST", "/2020-01-01/extension/register", {"Lambda-Extension-Name": "bench"}, events)
headers = {"Lambda-Extension-Identifier": identifier}
sink = HTTPServer(("127.0.0.1", 0), Sink)
threading.Thread(target=sink.serve_forever, daemon=True).start()
uri = f"http://sandbox.localdomain:{sink.server_port}/"
subscription = {
    "schemaVersion": "2022-12-13",
    "types": ["platform", "function"],
    "destination": {"protocol": "HTTP", "URI": uri},
}
call("PUT", "/2022-07-01/telemetry", headers, subscription)
while call("GET", "/2020-01-01/extension/event/next", headers)[1]["eventType"] != "SHUTDOWN":
    pass
