"""Extensions and a runtime that are not ours: AWS's Rust crates, on the endpoint, beside Caloric and awslambdaric."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.parts import ROOT, PartsMissingError, foreign
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")

HANDLER = """
    def handler(event, context):
        print("function:", context.aws_request_id)
        return event
"""


def invoke(handler: str, *options: str, folder: Path) -> list[str]:
    """Invoke twice, with the observer as an external extension; return the log's lines."""
    command = [CALORIC, "invoke", handler, "--event", '{"a":1}', "--repeat", "2", "--timeout", "20"]
    run = subprocess.run(
        [
            *command,
            "--extension",
            str(foreign("observer")),
            "--env",
            f"OBSERVER_PORT={free_port()}",
            *options,
        ],
        cwd=folder,
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    assert [json.loads(line) for line in run.stdout.splitlines()] == [{"a": 1}] * 2
    return run.stderr.decode().splitlines()


def request_ids(log: list[str]) -> list[str]:
    return [match[1] for line in log if (match := re.match(r"START RequestId: (\S+) ", line))]


def observed(log: list[str], start: str) -> list[str]:
    """Return what the observer printed after `start`."""
    prefix = f"[observer] {start}"
    return [line.removeprefix(prefix) for line in log if line.startswith(prefix)]


def check_observer(log: list[str]) -> None:
    """It got each event and, parsed by AWS's own types, all telemetry in order."""
    first, second = request_ids(log)
    assert observed(log, "event ") == [f"INVOKE {first}", f"INVOKE {second}", "SHUTDOWN spindown"]
    told = [line.partition(" ")[0] for line in observed(log, "telemetry ")]
    platform = [kind for kind in told if kind not in ("Function", "PlatformExtension")]
    assert platform == [
        "PlatformInitStart",
        "PlatformTelemetrySubscription",
        "PlatformInitRuntimeDone",
        "PlatformInitReport",
        *["PlatformStart", "PlatformRuntimeDone", "PlatformReport"] * 2,
    ]
    lines = observed(log, "telemetry Function ")
    assert f'"function: {first}\\n"' in lines
    assert f'"function: {second}\\n"' in lines


def test_a_rust_runtime_with_an_internal_and_an_external_extension(tmp_path: Path) -> None:
    log = invoke("handler", "--runtime", str(foreign("echo")), folder=tmp_path)
    assert "EXTENSION\tName: observer\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in log
    assert "EXTENSION\tName: internal\tState: Ready\tEvents: [INVOKE]" in log
    check_observer(log)
    for request_id in request_ids(log):
        assert f"internal extension: {request_id}" in log


@pytest.mark.parametrize("runtime", ["caloric", "awslambdaric"])
def test_a_rust_extension_beside_a_python_runtime(write_function: WriteFunction, runtime: str) -> None:
    command = f"{sys.executable} -m {runtime} app.handler"
    log = invoke("app.handler", "--runtime", command, folder=write_function(HANDLER))
    check_observer(log)


def test_the_internal_extension_alone_gives_the_runtime_its_half_second(tmp_path: Path) -> None:
    command = [CALORIC, "invoke", "handler", "--runtime", str(foreign("echo"))]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=50, check=False)
    assert (run.returncode, run.stdout) == (0, b"{}\n"), run.stderr.decode()
    (request_id,) = request_ids(run.stderr.decode().splitlines())
    assert f"internal extension: {request_id}\n" in run.stderr.decode()


def web_adapter() -> Path:
    """Return AWS's Lambda Web Adapter, which is published with its program and built as it is."""
    path = ROOT / ".cache/web-adapter/bin/lambda-adapter"
    if not path.is_file():
        raise PartsMissingError(f"{path} is missing: run `make test`, or `tools/setup parts`")
    return path


WEB_APPLICATION = """
    import http.server, json, os, signal, sys

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            print("web:", self.path, flush=True)
            body = json.dumps({"path": self.path}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    def stop(number, frame):
        print("web: the end", flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    http.server.HTTPServer(("127.0.0.1", int(os.environ["AWS_LWA_PORT"])), Handler).serve_forever()
"""


def test_awss_web_adapter_serves_a_web_application_in_place_of_a_runtime(
    write_function: WriteFunction,
) -> None:
    # The extension polls the Runtime API; the process that stands where the runtime would is a web server.
    folder = write_function(WEB_APPLICATION, "web.py")
    (folder / "event.json").write_text(
        json.dumps(
            {
                "version": "2.0",
                "rawPath": "/greet",
                "rawQueryString": "name=Ada",
                "headers": {"host": "example.com"},
                "requestContext": {
                    "http": {"method": "GET", "path": "/greet"},
                    "requestId": "r",
                    "stage": "$default",
                },
                "isBase64Encoded": False,
            }
        ),
        encoding="utf-8",
    )
    command = [CALORIC, "invoke", "handler", "--event", "@event.json", "--repeat", "3", "--timeout", "20"]
    options = ["--extension", str(web_adapter()), "--env", f"AWS_LWA_PORT={free_port()}"]
    run = subprocess.run(
        [*command, *options, "--runtime", f"{sys.executable} web.py"],
        cwd=folder,
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert [answer["statusCode"] for answer in answers] == [200] * 3
    assert [json.loads(answer["body"]) for answer in answers] == [{"path": "/greet?name=Ada"}] * 3
    log = run.stderr.decode().splitlines()
    assert "EXTENSION\tName: lambda-adapter\tState: Ready\tEvents: []" in log
    assert log.count("web: /greet?name=Ada") == 3
    assert "web: the end" in log, "the application gets SIGTERM, since there is an extension"
