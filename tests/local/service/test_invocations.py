"""Invocations that are not the front's alone: events, dry runs, refusals, and those that are checked first."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.local.cli.commands import wait_until
from tests.local.conftest import connect
from tests.local.functions import create

if TYPE_CHECKING:
    from pathlib import Path

    from caloric.local.local_lambda import LocalLambda
    from tests.local.conftest import StartLocalLambda

NOTE = """
import json, pathlib
def handler(event, context):
    with pathlib.Path(event["file"]).open("a") as file:
        file.write(json.dumps([event["n"], context.aws_request_id, context.invoked_function_arn]) + "\\n")
    if event.get("fail"):
        raise ValueError
"""


def noted(path: Path) -> list[list[Any]]:
    """Return what the function has noted."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_an_event_is_accepted_at_once_and_delivered(client: Any, tmp_path: Path) -> None:
    create(client, "note", NOTE)
    file = tmp_path / "noted"
    event = json.dumps({"file": str(file), "n": 1}).encode()
    answer = client.invoke(FunctionName="note", InvocationType="Event", Payload=event)
    assert answer["StatusCode"] == 202
    assert answer["Payload"].read() == b""
    wait_until(lambda: noted(file), "the event to be delivered")
    request_id = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert noted(file) == [[1, request_id, "arn:aws:lambda:us-east-1:012345678912:function:note"]]


def test_an_event_for_an_alias_says_so_to_the_function(client: Any, tmp_path: Path) -> None:
    create(client, "note", NOTE, Publish=True)
    client.create_alias(FunctionName="note", Name="live", FunctionVersion="1")
    file = tmp_path / "noted"
    event = json.dumps({"file": str(file), "n": 1}).encode()
    client.invoke(FunctionName="note:live", InvocationType="Event", Payload=event)
    wait_until(lambda: noted(file), "the event to be delivered")
    assert noted(file)[0][2].endswith(":function:note:live")


def test_events_wait_where_there_is_no_concurrency_left(client: Any, tmp_path: Path) -> None:
    create(client, "note", NOTE + "    import time; time.sleep(0.3)\n")
    client.put_function_concurrency(FunctionName="note", ReservedConcurrentExecutions=1)
    file = tmp_path / "noted"
    for number in range(3):
        event = json.dumps({"file": str(file), "n": number}).encode()
        assert client.invoke(FunctionName="note", InvocationType="Event", Payload=event)["StatusCode"] == 202
    wait_until(lambda: len(noted(file)) == 3, "all events to be delivered", 40)
    assert sorted(number for number, _, _ in noted(file)) == [0, 1, 2]


def test_the_old_asynchronous_operation_delivers_too(client: Any, tmp_path: Path) -> None:
    create(client, "note", NOTE)
    file = tmp_path / "noted"
    event = json.dumps({"file": str(file), "n": 1}).encode()
    assert client.invoke_async(FunctionName="note", InvokeArgs=event)["Status"] == 202
    wait_until(lambda: noted(file), "the event to be delivered")


def test_an_event_that_is_no_json_is_refused(client: Any) -> None:
    create(client, "note", NOTE)
    with pytest.raises(
        client.exceptions.InvalidRequestContentException, match="Could not parse request body into json"
    ):
        client.invoke(FunctionName="note", InvocationType="Event", Payload=b"{")


def test_a_dry_run_runs_nothing(local_lambda: LocalLambda, client: Any) -> None:
    create(client, "note", NOTE)
    assert client.invoke(FunctionName="note", InvocationType="DryRun")["StatusCode"] == 204
    (function,) = local_lambda.status()["functions"]
    assert function["coldStarts"] == 0


@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
def test_what_is_not_there_is_named_with_its_qualifier(client: Any, kind: str) -> None:
    create(client, "note", NOTE)
    arn = "arn:aws:lambda:us-east-1:012345678912:function:"
    for name, options, named in (
        ("nobody", {}, "nobody:$LATEST"),
        ("note", {"Qualifier": "live"}, "note:live"),
        ("note:7", {}, "note:7"),
    ):
        with pytest.raises(client.exceptions.ResourceNotFoundException) as refused:
            client.invoke(FunctionName=name, InvocationType=kind, **options)
        assert refused.value.response["Error"]["Message"] == f"Function not found: {arn}{named}"


def test_a_stream_of_what_is_not_there_is_refused(client: Any) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke_with_response_stream(FunctionName="nobody")


def test_a_function_that_cannot_become_ready_is_a_conflict(client: Any) -> None:
    client.create_function(
        FunctionName="image",
        Role="arn:aws:iam::012345678912:role/test",
        PackageType="Image",
        Code={"ImageUri": "012345678912.dkr.ecr.us-east-1.amazonaws.com/image:latest"},
    )
    with pytest.raises(
        client.exceptions.ResourceConflictException, match="currently in the following state: "
    ):
        client.invoke(FunctionName="image")


def test_every_invocation_is_checked_where_requests_are_signed(start_local_lambda: StartLocalLambda) -> None:
    service = start_local_lambda(credentials=("local", "local"))
    signed = connect(service.url)
    create(signed, "echo")
    answer = signed.invoke(FunctionName="echo", Payload=b'{"n": 1}', LogType="Tail")
    assert json.loads(answer["Payload"].read())["event"] == {"n": 1}
    assert "LogResult" in answer
    stream = signed.invoke_with_response_stream(FunctionName="echo", Payload=b"2")["EventStream"]
    pieces = [event["PayloadChunk"]["Payload"] for event in stream if "PayloadChunk" in event]
    assert json.loads(b"".join(pieces))["event"] == 2
    signed.close()
    other = boto3.client(
        "lambda",
        endpoint_url=service.url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="wrong",
    )
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        other.invoke(FunctionName="echo")
    other.close()
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=30)
    connection.request("POST", "/2015-03-31/functions/echo/invocations", b"{}")
    assert connection.getresponse().status == 403
    connection.close()
    connection.request("GET", "/_caloric/status")
    assert connection.getresponse().status == 403
    connection.close()
