"""Sentry's AWS Lambda integration: it finds the runtime through `__main__`, wraps the handler, and sends what it has
before the answer is posted.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.scripted_run import PEER, initialize, invoke
from tests.pairs.function import Pair
from tests.runtimes import COMMANDS, start
from tests.scripted_api import ACCEPTED, ScriptedApi, event
from tests.third_party.sink import HttpSink

if TYPE_CHECKING:
    from tests.conftest import WriteFunction
    from tests.third_party.sink import Received

EVERY_RUNTIME = pytest.mark.parametrize("way", COMMANDS)

SETUP = """
    import os
    import sentry_sdk
    from sentry_sdk.integrations.aws_lambda import AwsLambdaIntegration

    def setup(**options):
        integration = AwsLambdaIntegration(timeout_warning=True)
        sentry_sdk.init(os.environ["SENTRY_DSN"], integrations=[integration], **options)
"""

REQUEST = {
    "httpMethod": "GET",
    "path": "/orders",
    "headers": {"Host": "shop.example", "X-Forwarded-Proto": "https"},
    "queryStringParameters": {"id": "7"},
}


def variables(sink: HttpSink) -> dict[str, Any]:
    return {
        "SENTRY_DSN": f"http://key@{sink.address}/1",
        "AWS_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "test_function",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/test_function",
        "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
    }


def items(sink: HttpSink, kind: str) -> list[Any]:
    """What was sent, of the items that envelopes are made of: `event`, `transaction`."""
    found = []
    for received in sink.received:
        found += [document for name, document in read_envelope(received) if name == kind]
    return found


def read_envelope(received: Received) -> list[tuple[str, Any]]:
    assert received.path == "/api/1/envelope/"
    body = received.body
    if received.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    _, *lines = body.splitlines()
    return [
        (json.loads(head)["type"], json.loads(item))
        for head, item in zip(lines[::2], lines[1::2], strict=True)
    ]


def exceptions(document: Any) -> list[tuple[str, str, Any, list[tuple[str, str, int]]]]:
    """Of an event: type, text, mechanism, and the frames that are the function's."""
    return [
        (
            exception["type"],
            exception["value"],
            exception["mechanism"],
            [
                (frame["filename"], frame["function"], frame["lineno"])
                for frame in exception["stacktrace"]["frames"]
                if frame["filename"].endswith("app.py")
            ],
        )
        for exception in document["exception"]["values"]
    ]


@EVERY_RUNTIME
def test_an_exception_is_captured_with_what_the_context_says(way: str, write_function: WriteFunction) -> None:
    source = f"""{SETUP}
    setup(traces_sample_rate=1.0)

    def handler(event, context):
        if not event:
            return "fine"
        raise ValueError("boom")
    """
    folder = write_function(source)
    arn = "arn:aws:lambda:eu-west-3:012345678912:function:test_function"
    events = [
        event(REQUEST, "id-1", Lambda_Runtime_Invoked_Function_Arn=arn),
        event([REQUEST, {}], "id-2", Lambda_Runtime_Invoked_Function_Arn=arn),
        event(None, "id-3"),
    ]
    with HttpSink() as sink:
        run = invoke(way, folder, *events, **variables(sink))
    assert [result["errorType"] for result in run.results[:2]] == ["ValueError", "ValueError"]
    assert run.results[2] == "fine"
    assert run.stdout.count("[ERROR] ValueError: boom") == 2
    assert run.stderr == ""

    first, second = items(sink, "event")
    mechanism = {"type": "aws_lambda", "handled": False}
    line = 1 + [text.strip() for text in source.splitlines()].index('raise ValueError("boom")')
    assert exceptions(first) == [("ValueError", "boom", mechanism, [("app.py", "handler", line)])]
    assert first["transaction"] == "test_function"
    assert first["tags"] == {"aws_region": "eu-west-3"}
    assert first["request"]["url"] == "https://shop.example/orders"
    assert first["request"]["method"] == "GET"
    told = first["extra"]["lambda"]
    assert told["execution_duration_in_millis"] >= 0
    assert {name: told[name] for name in ("function_name", "function_version", "aws_request_id")} == {
        "function_name": "test_function",
        "function_version": "$LATEST",
        "aws_request_id": "id-1",
    }
    assert told["invoked_function_arn"] == arn
    assert first["extra"]["cloudwatch logs"]["log_group"] == "/aws/lambda/test_function"
    assert second["tags"] == {"aws_region": "eu-west-3", "batch_request": True, "batch_size": 2}
    assert second["extra"]["lambda"]["aws_request_id"] == "id-2"

    transactions = items(sink, "transaction")
    statuses = [transaction["contexts"]["trace"].get("status") for transaction in transactions]
    assert statuses == ["internal_error", "internal_error", None]
    assert {transaction["transaction"] for transaction in transactions} == {"test_function"}


@EVERY_RUNTIME
def test_what_was_captured_is_sent_before_the_answer_is_posted(
    way: str, write_function: WriteFunction
) -> None:
    source = f"""{SETUP}
    setup()

    def handler(event, context):
        sentry_sdk.capture_message("seen")
        if event == "raise":
            raise ValueError("boom")
    """
    steps = [event("return"), ACCEPTED, event("raise"), ACCEPTED]
    calls: list[list[str]] = []
    with ScriptedApi([*steps]) as api:

        def answer(received: Received) -> bytes:
            calls.append(api.calls())
            return b"{}"

        folder = write_function(source)
        with (
            HttpSink(answer) as sink,
            start(way, "app.handler", folder, api.address, **variables(sink)) as process,
        ):
            api.wait_for(5)
            process.kill()
    assert calls == [["next"], ["next", "response", "next"], ["next", "response", "next"]]
    assert [document.get("message") for document in items(sink, "event")] == ["seen", "seen", None]


@EVERY_RUNTIME
def test_a_timeout_that_is_near_is_told(way: str, write_function: WriteFunction) -> None:
    source = f"""{SETUP}
    import threading
    told = threading.Event()

    def before_send(event, hint):
        told.set()
        return event

    setup(before_send=before_send)

    def handler(event, context):
        return told.wait(20)
    """
    folder = write_function(source)
    with (
        HttpSink() as sink,
        # Sentry tells it a second and a half before the deadline.
        Pair("caloric", way).start(folder, "app.handler", timeout_s=3, **variables(sink)) as function,
    ):
        assert function.invoke({}).json() is True
    (document,) = items(sink, "event")
    (exception,) = document["exception"]["values"]
    assert exception["type"] == "ServerlessTimeoutWarning"
    assert "Configured timeout duration = 3 seconds" in exception["value"]
    assert exception["mechanism"]["type"] == "threading"
    assert document["extra"]["lambda"]["remaining_time_in_millis"] <= 1500


@EVERY_RUNTIME
def test_an_initialization_error_is_captured(way: str, write_function: WriteFunction) -> None:
    source = f"""{SETUP}
    setup()
    raise LookupError("no configuration")
    """
    folder = write_function(source)
    with HttpSink() as sink:
        run = initialize(way, folder, **variables(sink))
    assert run.exit_status == 1
    assert run.results[0]["errorType"] == "LookupError"
    (document,) = items(sink, "event")
    (exception,) = document["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("LookupError", "no configuration")
    assert exception["mechanism"] == {"type": "aws_lambda", "handled": False}
    assert exception["stacktrace"]["frames"][-1]["function"] == "<module>"


@EVERY_RUNTIME
def test_it_may_be_set_up_inside_the_handler(way: str, write_function: WriteFunction) -> None:
    source = f"""{SETUP}
    def handler(event, context):
        if event == "first":
            setup()
            sentry_sdk.capture_message("from the first")
        else:
            raise ValueError("boom")
    """
    folder = write_function(source)
    with HttpSink() as sink:
        run = invoke(way, folder, event("first", "id-1"), event("second", "id-2"), **variables(sink))
    message, error = items(sink, "event")
    assert run.results[0] is None
    assert message["message"] == "from the first"
    assert exceptions(error)[0][:2] == ("ValueError", "boom")
    assert error["extra"]["lambda"]["aws_request_id"] == "id-2"


def test_the_answer_to_an_error_is_the_peers(write_function: WriteFunction) -> None:
    folder = write_function(
        f"{SETUP}\n    setup()\n\n    def handler(event, context):\n        return 1 / 0\n"
    )
    with HttpSink() as sink:
        peers, *ours = [invoke(way, folder, **variables(sink)) for way in (PEER, "fast", "module")]
    for run in ours:
        assert run.results == peers.results
        assert run.masked_stdout == peers.masked_stdout
        cause = "lambda-runtime-function-xray-error-cause"
        theirs = json.loads(peers.posts[0].headers[cause])
        assert json.loads(run.posts[0].headers[cause])["exceptions"] == theirs["exceptions"]
