"""The example `telemetry_shipper`: everything arrives, and the function does not suffer from where it is shipped to."""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import signal
import subprocess
import sys
import sysconfig
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtimes import environment as variables_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
EXAMPLES = Path(__file__).parents[2] / "examples"
SHIPPER = EXAMPLES / "telemetry_shipper/extensions/telemetry_shipper.py"
LINES = 50

HANDLER = f"""
    def handler(event, context):
        for number in range({LINES}):
            print(context.aws_request_id, number)
        return context.aws_request_id
"""


class Destination(ThreadingHTTPServer):
    """Takes lines, unless it is told to behave otherwise for its first requests."""

    daemon_threads = True

    def __init__(self, *moods: str) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.moods = list(moods)
        self.records: list[Any] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/logs"

    def server_close(self) -> None:
        """Stop the thread, too."""
        self.shutdown()
        super().server_close()


class Receiver(BaseHTTPRequestHandler):
    """One request to a `Destination`."""

    server: Destination

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        mood = self.server.moods.pop(0) if self.server.moods else "good"
        if mood == "closes":
            return
        if mood == "talks nonsense":
            self.wfile.write(b"220 mail.example.com\r\n\r\n")
            return
        if mood == "good":
            self.server.records += map(json.loads, body.splitlines())
        self.send_response(200 if mood == "good" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing about requests."""


@pytest.fixture
def folder(write_function: WriteFunction) -> Path:
    return write_function(HANDLER)


def variables(destination: str) -> dict[str, str]:
    found = {**variables_for(""), "SHIP_TO": destination}
    del found["AWS_LAMBDA_RUNTIME_API"]
    return found


def invoke(
    folder: Path, destination: str, *options: str, repeat: int = 5
) -> subprocess.CompletedProcess[bytes]:
    command = [CALORIC, "invoke", "app.handler", "--repeat", str(repeat), "--timeout", "20"]
    return subprocess.run(
        [*command, "--extension", str(SHIPPER), *options],
        cwd=folder,
        env=variables(destination),
        capture_output=True,
        timeout=50,
        check=False,
    )


def check_all(records: list[Any], ids: list[str]) -> None:
    """Every line of every invocation, and every report, once and in order."""
    lines = [record["record"] for record in records if record["type"] == "function"]
    assert lines == [f"{request_id} {number}\n" for request_id in ids for number in range(LINES)]
    reports = [record["record"]["requestId"] for record in records if record["type"] == "platform.report"]
    assert reports == ids


@pytest.mark.parametrize("options", [[], ["--no-freeze"]])
def test_everything_arrives_in_a_file(folder: Path, tmp_path: Path, options: list[str]) -> None:
    file = tmp_path / "telemetry"
    done = invoke(folder, str(file), *options)
    assert done.returncode == 0, done.stderr
    ids = [json.loads(line) for line in done.stdout.splitlines()]
    check_all([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()], ids)


@pytest.mark.parametrize(
    "moods",
    [(), ("refuses",), ("closes", "refuses", "talks nonsense")],
    ids=lambda moods: f"{len(moods)} bad",
)
def test_everything_arrives_at_an_endpoint_that_fails_at_first(folder: Path, moods: tuple[str, ...]) -> None:
    with Destination(*moods) as destination:
        done = invoke(folder, destination.url)
        assert done.returncode == 0, done.stderr
        check_all(destination.records, [json.loads(line) for line in done.stdout.splitlines()])
    assert done.stderr.decode().count(" records wait\n") == len(moods)


@pytest.fixture
def emulator(folder: Path) -> Iterator[tuple[Destination, subprocess.Popen[bytes], int]]:
    """Serve the function with the shipper; return where it ships to, the emulator, and its port."""
    runtime = [sys.executable, "-m", "caloric", "app.handler"]
    with Destination("refuses") as destination:
        process = subprocess.Popen(
            [CALORIC, "emulate", "--port", "0", "--extension", str(SHIPPER), "--", *runtime],
            cwd=folder,
            env=variables(destination.url),
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        found = re.search(rb"listening on http://127\.0\.0\.1:(\d+)/", process.stderr.readline())
        assert found
        # Somebody has to read what it prints.
        reader = threading.Thread(target=process.stderr.read, daemon=True)
        reader.start()
        yield destination, process, int(found[1])
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


def test_everything_arrives_when_the_emulator_is_stopped(
    emulator: tuple[Destination, subprocess.Popen[bytes], int],
) -> None:
    destination, process, port = emulator
    ids = []
    for _ in range(4):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=50)
        connection.request("POST", "/2015-03-31/functions/function/invocations", b"{}")
        ids.append(json.loads(connection.getresponse().read()))
        connection.close()
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    check_all(destination.records, ids)


def test_a_dead_destination_costs_the_telemetry_and_nothing_else(folder: Path) -> None:
    with Destination() as destination:
        url = destination.url
    done = invoke(folder, url)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 5)
    assert b"Connection refused" in done.stderr
    assert re.search(rb"the time is up: \d+ records are lost\n", done.stderr)


def test_without_a_destination_the_init_fails_with_the_reason(folder: Path) -> None:
    done = invoke(folder, "", repeat=1)
    assert done.returncode == 1
    assert json.loads(done.stdout)["errorType"] == "Extension.InitError"
    assert b"set SHIP_TO to a file or to a URL" in done.stderr
    assert b"Error Type: Extension.NoDestination" in done.stderr


def test_what_waits_is_bounded_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIP_TO", "nowhere")
    spec = importlib.util.spec_from_file_location("telemetry_shipper", SHIPPER)
    assert spec is not None
    assert spec.loader is not None
    shipper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shipper)
    monkeypatch.setattr(shipper, "BUFFER_BYTES", 1000)
    sent: list[bytes] = []
    reachable = False

    def send(lines: bytes, _timeout_s: float) -> None:
        if not reachable:
            raise OSError("nobody is there")
        sent.append(lines)

    one = shipper.Shipper(send)
    for number in range(100):
        one.add([{"number": number}])
        assert one.buffer.size <= 1000
    dropped = one.buffer.dropped
    assert dropped > 0
    reachable = True
    assert one.ship()
    first, *rest = [json.loads(line) for line in b"".join(sent).splitlines()]
    assert first == {"type": "shipper.dropped", "record": dropped}
    assert rest == [{"number": number} for number in range(dropped, 100)]
