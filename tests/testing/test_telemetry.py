"""What a test can say about extensions and telemetry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from caloric.testing import LambdaFunction
    from tests.conftest import WriteFunction

    MakeFunction = Callable[..., LambdaFunction]

SOURCE = """
    import sys

    print("init")

    def handler(event, context):
        print("hello")
        if event == "exit":
            sys.exit(1)
        return event
"""


@pytest.fixture
def root(write_function: WriteFunction) -> Path:
    return write_function(SOURCE)


def test_every_event_is_there_though_nobody_subscribed(lambda_function: MakeFunction, root: Path) -> None:
    function = lambda_function("app.handler", task_root=root)
    result = function.invoke("x")
    assert [event.type for event in function.telemetry()] == [
        "platform.initStart",
        "function",
        "platform.initRuntimeDone",
        "platform.initReport",
        "platform.start",
        "function",
        "platform.runtimeDone",
        "platform.report",
    ]
    assert [event.record for event in function.telemetry("function")] == ["init\n", "hello\n"]
    (done,) = function.telemetry("platform.runtimeDone")
    assert (done.record["requestId"], done.record["status"]) == (result.request_id, "success")
    assert done.record["metrics"]["producedBytes"] == 3
    (report,) = function.telemetry("platform.report")
    assert report.record["metrics"]["billedDurationMs"] == result.report.billed_duration_ms
    assert report.time.endswith("Z")
    function.cold_start()
    function.invoke("y")
    assert len(function.telemetry("platform.initStart", "platform.report")) == 4


def test_json_logs_are_objects(lambda_function: MakeFunction, write_function: WriteFunction) -> None:
    root = write_function("import logging\ndef handler(event, context):\n    logging.error('bad')\n")
    function = lambda_function("app.handler", task_root=root, env={"AWS_LAMBDA_LOG_FORMAT": "JSON"})
    function.invoke()
    (line,) = function.telemetry("function")
    assert (line.record["level"], line.record["message"]) == ("ERROR", "bad")


def test_shutdown_reasons_are_told(lambda_function: MakeFunction, root: Path) -> None:
    function = lambda_function("app.handler", task_root=root)
    assert function.shutdown() == []
    function.invoke("exit")
    function.invoke("fine")
    function.shutdown()
    function.invoke("fine")
    function.shutdown("timeout")
    assert function.shutdown_reasons() == ["failure", "spindown", "timeout"]


@pytest.fixture
def extension(tmp_path: Path) -> Path:
    """An external extension that asks for both events and says what it gets."""
    path = tmp_path / "observer"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys, urllib.request as http\n"
        "api = f\"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2020-01-01/extension/\"\n"
        "def call(path, headers, body=None):\n"
        "    with http.urlopen(http.Request(api + path, body, headers)) as answer:\n"
        "        return answer.headers, json.load(answer)\n"
        "headers, _ = call('register', {'Lambda-Extension-Name': 'observer'},\n"
        '                  b\'{"events": ["INVOKE", "SHUTDOWN"]}\')\n'
        "name = {'Lambda-Extension-Identifier': headers['Lambda-Extension-Identifier']}\n"
        "while True:\n"
        "    _, event = call('event/next', name)\n"
        "    print('got', event['eventType'], flush=True)\n"
        "    if event['eventType'] == 'SHUTDOWN':\n"
        "        break\n"
    )
    path.chmod(0o755)
    return path


def test_what_extensions_were_told_is_known(
    lambda_function: MakeFunction, root: Path, extension: Path
) -> None:
    function = lambda_function("app.handler", task_root=root, extensions=[extension], timeout=20)
    result = function.invoke("x")
    assert result.payload == "x"
    assert function.registered_extensions() == {"observer": ["INVOKE", "SHUTDOWN"]}
    assert result.extension_logs == "[observer] got INVOKE\n"
    assert "EXTENSION\tName: observer" in result.platform_logs
    assert result.logs == "init\nhello\n"
    (told,) = function.extension_events("observer")
    assert (told.type, told.event["requestId"]) == ("INVOKE", result.request_id)
    (last,) = function.shutdown("failure")
    assert (last.extension, last.event["shutdownReason"]) == ("observer", "failure")
    assert [event.type for event in function.extension_events()] == ["INVOKE", "SHUTDOWN"]
    assert function.extension_events("another") == []
    assert next(event.record for event in function.telemetry("extension")) == "got INVOKE\n"
    assert function.shutdown_reasons() == ["failure"]
