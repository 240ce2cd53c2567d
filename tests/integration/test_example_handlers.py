"""The examples of what a handler may be."""

from __future__ import annotations

import json
import subprocess
import sysconfig
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "examples"
CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")


def invoke(example: str, event: object, *options: str) -> subprocess.CompletedProcess[str]:
    """Run an example's handler with the command that it names."""
    command = [CALORIC, "invoke", "app.handler", "--event", json.dumps(event), "--timeout", "20", *options]
    run = subprocess.run(
        command, cwd=EXAMPLES / example, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run


def test_tokens_are_streamed_as_server_sent_events() -> None:
    run = invoke("token_stream", {"rawPath": "/events", "rawQueryString": "question=Why%3F"}, "--stream")
    prelude, _, events = run.stdout.partition("\0" * 8)
    assert json.loads(prelude)["headers"]["content-type"] == "text/event-stream"
    words = [json.loads(line[6:]) for line in events.splitlines() if line.startswith('data: "')]
    assert " ".join(words) == "You asked: Why? Streaming answers while it thinks."
    assert events.endswith("event: end\ndata: {}\n\n")


def test_the_page_is_behind_a_prelude() -> None:
    prelude, _, page = invoke("token_stream", {"rawPath": "/"}).stdout.partition("\0" * 8)
    assert json.loads(prelude)["statusCode"] == 200
    assert "EventSource" in page


class Site(BaseHTTPRequestHandler):
    """Answers every path, over a connection that is kept."""

    protocol_version = "HTTP/1.1"
    connections = 0

    def setup(self) -> None:
        type(self).connections += 1
        super().setup()

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.connections = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_requests_run_at_once_and_connections_outlive_the_invocation(site: str) -> None:
    urls = [f"{site}/one", f"{site}/two"]
    run = invoke("async_httpx", {"urls": urls}, "--repeat", "3", "--timeout", "30")
    expected = [{"url": url, "status": 200, "bytes": 4} for url in urls]
    assert [json.loads(line) for line in run.stdout.splitlines()] == [expected] * 3
    assert Site.connections == 2


def test_the_order_is_confirmed_and_then_recorded(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    run = invoke("after_response", {"order": 7}, "--env", f"LEDGER={ledger}")
    assert json.loads(run.stdout) == {"confirmed": 7}
    entry = json.loads(ledger.read_text())
    assert entry["order"] == 7
    assert f"RequestId: {entry['request']}" in run.stderr
