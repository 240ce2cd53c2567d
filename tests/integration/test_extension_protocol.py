"""`caloric.extension` against a platform that says what no platform should, byte for byte."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.runtimes import environment as variables_for
from tests.scripted_api import ACCEPTED, CLOSE, ScriptedApi, Step, status

if TYPE_CHECKING:
    from pathlib import Path

IDENTIFIER = "0f1e2d3c-4b5a-4978-8a6b-5c4d3e2f1a0b"


def answer(document: object, *headers: str, code: int = 200) -> bytes:
    """A response with a JSON document."""
    body = json.dumps(document).encode()
    fields = "".join(f"{header}\r\n" for header in (*headers, f"Content-Length: {len(body)}"))
    return f"HTTP/1.1 {code} Scripted\r\n{fields}\r\n".encode() + body


REGISTERED = answer(
    {"functionName": "orders", "functionVersion": "7", "handler": "app.handler"},
    f"Lambda-Extension-Identifier: {IDENTIFIER}",
)
SUBSCRIBED = answer("OK")
INVOKE = answer({"eventType": "INVOKE", "requestId": "id-1", "deadlineMs": 4_102_444_800_000})
# Far away, so that nothing is hurried.
SHUTDOWN = answer({"eventType": "SHUTDOWN", "shutdownReason": "SPINDOWN", "deadlineMs": 4_102_444_800_000})

EVENTS = """
    from caloric.extension import Extension
    extension = Extension("observer")

    @extension.on_invoke
    def invoked(event):
        print("invoked", event.request_id, event.trace_id, event.get_remaining_time_in_millis() > 0)

    @extension.on_shutdown
    def shutdown(event):
        print("shutdown", event.reason)

    extension.run()
    print("the end")
"""
LISTENS = """
    import os, pathlib
    from caloric.extension import Extension
    extension = Extension("observer")

    @extension.on_telemetry("platform", "function", max_items=2000, timeout_ms=25)
    def telemetry(records):
        print("telemetry", [record.get("type") for record in records])
        open(os.environ["GO"]).read()

    extension.run()
"""


class Run:
    """An extension in a process of its own, and the platform that it talks to."""

    def __init__(self, folder: Path, source: str, steps: list[Step], **variables: str) -> None:
        program = folder / "program.py"
        program.write_text(dedent(source), encoding="utf-8")
        self.api = ScriptedApi(steps)
        self.process = subprocess.Popen(
            [sys.executable, str(program)],
            env={**variables_for(self.api.address), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.api.__exit__()

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return exit code, stdout and stderr."""
        output, errors = self.process.communicate(timeout=40)
        return self.process.returncode, output, errors

    def sink(self) -> closing[http.client.HTTPConnection]:
        """Return a connection to where it wants its telemetry."""
        uri = self.api.wait_for(2)[1].json()["destination"]["URI"]
        host, port = uri.removeprefix("http://").rstrip("/").split(":")
        assert host == "sandbox.localdomain"
        return closing(http.client.HTTPConnection("127.0.0.1", int(port), timeout=30))


def post(sink: http.client.HTTPConnection, body: bytes) -> int:
    sink.request("POST", "/", body)
    response = sink.getresponse()
    response.read()
    return response.status


def end(folder: Path, source: str, *steps: Step, **variables: str) -> tuple[int, str, str, ScriptedApi]:
    """Run an extension to its end."""
    with Run(folder, source, list(steps), **variables) as run:
        return (*run.end(), run.api)


def test_requests_are_what_the_documentation_says(tmp_path: Path) -> None:
    code, output, errors, api = end(tmp_path, EVENTS, REGISTERED, INVOKE, SHUTDOWN)
    assert (code, errors) == (0, "")
    assert output == "invoked id-1 None True\nshutdown spindown\nthe end\n"
    register, *polls = api.requests
    assert (register.method, register.path) == ("POST", "/2020-01-01/extension/register")
    assert register.headers["lambda-extension-name"] == "observer"
    assert register.headers["lambda-extension-accept-feature"] == "accountId"
    assert register.json() == {"events": ["INVOKE", "SHUTDOWN"]}
    assert [(poll.method, poll.path) for poll in polls] == [("GET", "/2020-01-01/extension/event/next")] * 2
    assert {poll.headers["lambda-extension-identifier"] for poll in polls} == {IDENTIFIER}


def test_events_and_fields_that_are_unknown_are_passed_over(tmp_path: Path) -> None:
    steps = [
        answer({"eventType": "HIBERNATE", "deadlineMs": "soon"}),
        answer({"eventType": "INVOKE", "tracing": 7, "requestId": None}),
        SHUTDOWN,
    ]
    code, output, errors, _ = end(tmp_path, EVENTS, REGISTERED, *steps)
    assert (code, errors) == (0, "")
    assert output.startswith("invoked  None False\nshutdown")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([CLOSE], "POST /extension/register: the connection was closed without an answer"),
        ([status(403)], "POST /extension/register was refused: 403"),
        ([status(404)], "there is no Extensions API, or it is turned off"),
        ([status(500)], "POST /extension/register: the Runtime API failed: 500"),
        ([answer({})], "the answer has no Lambda-Extension-Identifier header"),
        ([b"SSH-2.0-OpenSSH\r\n\r\n"], "the answer is no HTTP/1.x response"),
        ([REGISTERED, status(403)], "GET /extension/event/next was refused: 403"),
        ([REGISTERED, status(500)], "GET /extension/event/next: the Runtime API failed: 500"),
        ([REGISTERED, answer([1])], "the answer is no JSON object with an eventType"),
        (
            [REGISTERED, CLOSE, CLOSE],
            "GET /extension/event/next: the connection was closed without an answer",
        ),
    ],
)
def test_nonsense_ends_it_with_a_line_and_exit_code_1(
    tmp_path: Path, steps: list[Step], message: str
) -> None:
    code, output, errors, _ = end(tmp_path, EVENTS, *steps)
    assert (code, output) == (1, "")
    assert message in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        answer(
            {"errorMessage": "Telemetry API is not supported", "errorType": "Telemetry.NotSupported"},
            code=202,
        ),
        status(404),
    ],
)
def test_a_platform_without_telemetry_is_told_of_and_nothing_else_changes(
    tmp_path: Path, refusal: bytes
) -> None:
    code, output, errors, _ = end(tmp_path, LISTENS, REGISTERED, refusal, SHUTDOWN)
    assert (code, output) == (0, "")
    assert errors.startswith("caloric: there is no telemetry here, on_telemetry is never called: ")


def test_a_refused_subscription_fails_the_init(tmp_path: Path) -> None:
    code, _, errors, api = end(tmp_path, LISTENS, REGISTERED, status(400, "ValidationError"), ACCEPTED)
    assert code == 1
    assert "PUT /telemetry was refused: 400" in errors
    report = api.requests[2]
    assert report.path == "/2020-01-01/extension/init/error"
    assert report.headers["lambda-extension-function-error-type"] == "Extension.RuntimeApiError"
    assert report.headers["lambda-extension-identifier"] == IDENTIFIER
    assert report.json()["errorType"] == "Extension.RuntimeApiError"
    assert report.json()["stackTrace"]


@pytest.mark.parametrize(
    ("kind", "events", "version"),
    [("on-demand", ["SHUTDOWN"], "2022-12-13"), ("lambda-managed-instances", ["SHUTDOWN"], "2025-01-29")],
)
def test_a_subscription_is_what_was_asked_for(
    tmp_path: Path, kind: str, events: list[str], version: str
) -> None:
    with Run(
        tmp_path, LISTENS, [REGISTERED, SUBSCRIBED], AWS_LAMBDA_INITIALIZATION_TYPE=kind, GO=os.devnull
    ) as run:
        register, subscribe = run.api.wait_for(2)[:2]
    assert register.json() == {"events": events}
    assert (subscribe.method, subscribe.path) == ("PUT", "/2022-07-01/telemetry")
    document = subscribe.json()
    uri = document["destination"].pop("URI")
    assert document == {
        "schemaVersion": version,
        "types": ["platform", "function"],
        "buffering": {"maxItems": 2000, "timeoutMs": 25},
        "destination": {"protocol": "HTTP"},
    }
    assert uri.startswith("http://sandbox.localdomain:")


def test_on_managed_instances_invocations_are_not_asked_for(tmp_path: Path) -> None:
    variables = {"AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}
    code, _, errors, api = end(tmp_path, EVENTS, REGISTERED, SHUTDOWN, **variables)
    assert code == 0
    assert api.requests[0].json() == {"events": ["SHUTDOWN"]}
    assert "on_invoke has no effect" in errors


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[{", "a batch of 2 bytes is not JSON: "),
        (b"", "a batch of 0 bytes is not JSON: "),
        (b'{"type":"function"}', "a batch of 19 bytes is no array of objects"),
        (b"[1]", "a batch of 3 bytes is no array of objects"),
    ],
)
def test_a_batch_that_is_none_is_taken_told_of_and_dropped(tmp_path: Path, body: bytes, message: str) -> None:
    with Run(tmp_path, LISTENS, [REGISTERED, SUBSCRIBED], GO=os.devnull) as run, run.sink() as sink:
        # Refused, it would come again and again, and hold up what is behind it.
        assert post(sink, body) == 200
        assert post(sink, b'[{"type":"function"},{"odd":true}]') == 200
        assert run.process.stdout is not None
        assert run.process.stdout.readline() == "telemetry ['function', None]\n"
        run.process.kill()
        errors = run.process.communicate()[1]
    assert errors.startswith(f"caloric: telemetry: {message}")


def test_a_request_that_is_no_batch_is_refused_and_told_of(tmp_path: Path) -> None:
    with Run(tmp_path, LISTENS, [REGISTERED, SUBSCRIBED], GO=os.devnull) as run, run.sink() as sink:
        sink.request("GET", "/")
        assert sink.getresponse().status == 405
        assert run.process.stderr is not None
        assert "GET is neither POST nor PUT" in run.process.stderr.readline()


def test_while_a_callback_hangs_memory_is_bounded_and_the_platform_is_told_to_wait(tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    batch = json.dumps([{"type": "function", "record": "x" * 1_000_000}]).encode()
    with Run(tmp_path, LISTENS, [REGISTERED, SUBSCRIBED], GO=str(go)) as run, run.sink() as sink:
        assert post(sink, b'[{"type":"function"}]') == 200
        assert run.process.stdout is not None
        # Now the callback waits for somebody to write.
        assert run.process.stdout.readline() == "telemetry ['function']\n"
        answers: list[int] = []
        while len(answers) < 20 and 503 not in answers:
            answers.append(post(sink, batch))
        assert answers == [200] * 4 + [503], "4 MiB are kept"
        go.write_text("")
        # The platform sends it again until it is taken.
        while post(sink, batch) != 200:
            pass


@pytest.mark.parametrize(
    ("reason", "last"), [("spindown", "platform.report"), ("timeout", "platform.runtimeDone")]
)
def test_what_is_missing_of_an_invocation_is_waited_for_at_the_end(
    tmp_path: Path, reason: str, last: str
) -> None:
    source = LISTENS.replace(
        "extension.run()", "extension.on_shutdown(lambda event: print('shutdown'))\n    extension.run()"
    )
    begun, told = threading.Event(), threading.Event()
    shutdown = answer({"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": 4_102_444_800_000})
    steps: list[Step] = [REGISTERED, SUBSCRIBED, (begun, shutdown, told)]
    with Run(tmp_path, source, steps, GO=os.devnull) as run, run.sink() as sink:
        for kind in ("platform.start", "function", last):
            batch = [{"type": kind, "record": {"requestId": "id-1"}}]
            assert post(sink, json.dumps(batch).encode()) == 200
            # After the first one the platform says that this is the end.
            begun.set()
        code, output, errors = run.end()
        told.set()
    assert (code, errors) == (0, "")
    lines = ["['platform.start']", "['function']", f"['{last}']"]
    assert output.splitlines() == [*(f"telemetry {line}" for line in lines), "shutdown"]


def test_telemetry_that_never_comes_is_not_waited_for_beyond_half_of_the_time(tmp_path: Path) -> None:
    source = LISTENS.replace(
        "extension.run()",
        "extension.on_shutdown(lambda event: print(event.get_remaining_time_in_millis()))\n    extension.run()",
    )
    begun = threading.Event()
    deadline = int(time.time() * 1000) + 10_000
    shutdown = answer({"eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": deadline})
    with (
        Run(tmp_path, source, [REGISTERED, SUBSCRIBED, (begun, shutdown)], GO=os.devnull) as run,
        run.sink() as sink,
    ):
        assert post(sink, b'[{"type":"platform.start","record":{"requestId":"id-1"}}]') == 200
        begun.set()
        code, output, errors = run.end()
    assert (code, errors) == (0, "")
    assert 0 < int(output.splitlines()[-1]) <= 5000, "it had been waited for"
