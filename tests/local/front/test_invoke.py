"""Invocations of published functions: names, headers, bodies and errors as the service has them."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
import botocore.exceptions
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tests.local.front.service import ACCOUNT, REGION, arn

if TYPE_CHECKING:
    from tests.local.front.service import Service

ECHO = """
import os
import caloric

def handler(event, context):
    if event == "fail":
        raise ValueError("boom")
    if event == "stream":
        return stream()
    print("seen", event)
    return {
        "event": event,
        "arn": context.invoked_function_arn,
        "version": context.function_version,
        "request_id": context.aws_request_id,
        "tenant": context.tenant_id,
        "client": context.client_context and context.client_context.custom,
        "trace": os.environ["_X_AMZN_TRACE_ID"],
        "where": os.environ["WHERE"],
    }

def stream():
    yield "one "
    yield "two"
"""


@pytest.fixture
def orders(service: Service) -> Service:
    """Return a service with a function `orders`."""
    service.publish("orders", service.code(ECHO))
    return service


def test_an_invocation_is_answered_as_the_service_answers_and_python_is_not_asked(orders: Service) -> None:
    answer = orders.invoke("orders", {"a": 1})
    assert (answer.status, answer.document["event"], answer.version) == (200, {"a": 1}, "$LATEST")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Amz-Function-Error"] is None
    assert answer.headers["X-Amz-Log-Result"] is None
    assert answer.headers["x-amzn-Remapped-Content-Length"] == "0"
    assert answer.headers["x-amzn-RequestId"] == answer.document["request_id"]
    assert re.fullmatch(r"root=1-[0-9a-f]{8}-[0-9a-f]{24};sampled=0", answer.headers["X-Amzn-Trace-Id"])
    assert orders.backend.requests == []


@pytest.mark.parametrize(
    ("name", "qualifier", "seen"),
    [
        ("orders", None, arn("orders")),
        ("orders:$LATEST", None, arn("orders", "$LATEST")),
        ("orders", "$LATEST", arn("orders", "$LATEST")),
        ("orders", "%24LATEST", arn("orders", "$LATEST")),
        (f"{ACCOUNT}:function:orders", None, arn("orders")),
        (f"{ACCOUNT}:function:orders:live", None, arn("orders", "live")),
        (arn("orders"), None, arn("orders")),
        (arn("orders", "live"), "live", arn("orders", "live")),
        (quote(arn("orders", "1"), safe=""), None, arn("orders", "1")),
        (quote("orders:1", safe=""), "1", arn("orders", "1")),
    ],
)
def test_a_name_may_have_many_forms_and_the_function_sees_what_the_caller_wrote(
    orders: Service, name: str, qualifier: str | None, seen: str
) -> None:
    orders.publish("orders", orders.code(ECHO), "1")
    orders.front.route("orders", "live", {"1": 1.0})
    answer = orders.invoke(name, qualifier=qualifier)
    assert (answer.status, answer.document["arn"]) == (200, seen)
    version = "$LATEST" if seen.endswith((":orders", "$LATEST")) else "1"
    assert answer.version == answer.document["version"] == version
    assert answer.document["where"] == f"orders:{version}"


@pytest.mark.parametrize(
    ("name", "qualifier"),
    [
        ("nobody", None),
        ("orders", "7"),
        ("orders:live", "7"),
        ("orders:", None),
        ("or%20ders", None),
        ("orders", ""),
        (f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:orders", None),
        (f"arn:aws:lambda:{REGION}:999999999999:function:orders", None),
        ("999999999999:function:orders", None),
    ],
)
def test_what_is_not_published_here_is_the_control_planes_to_answer(
    orders: Service, name: str, qualifier: str | None
) -> None:
    answer = orders.invoke(name, [1], qualifier=qualifier)
    assert answer.headers["x-from"] == "the control plane"
    assert answer.document["path"] == f"/2015-03-31/functions/{name}/invocations"
    assert answer.document["body"] == "[1]"


def test_what_the_caller_sends_along_reaches_the_function(orders: Service) -> None:
    context = base64.b64encode(b'{"custom": {"a": "b"}}').decode()
    answer = orders.invoke(
        "orders",
        X_Amz_Client_Context=context,
        X_Amzn_Trace_Id="Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
    )
    assert answer.document["client"] == {"a": "b"}
    assert answer.document["trace"].startswith("Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;")
    assert answer.headers["X-Amzn-Trace-Id"] == "root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;sampled=1"


def test_a_function_that_fails_is_a_success_of_the_service(orders: Service) -> None:
    answer = orders.invoke("orders", "fail", X_Amz_Log_Type="Tail")
    assert (answer.status, answer.headers["X-Amz-Function-Error"]) == (200, "Unhandled")
    assert (answer.document["errorType"], answer.document["errorMessage"]) == ("ValueError", "boom")
    log = base64.b64decode(answer.headers["X-Amz-Log-Result"]).decode()
    assert "START RequestId: " in log
    assert "REPORT RequestId: " in log
    assert "Init Duration" in log


def test_a_log_tail_is_that_of_the_invocation(orders: Service) -> None:
    orders.invoke("orders", "first")
    answer = orders.invoke("orders", "second", X_Amz_Log_Type="Tail")
    log = base64.b64decode(answer.headers["X-Amz-Log-Result"]).decode()
    assert "seen second" in log
    assert "first" not in log


def test_an_empty_event_is_an_empty_object(orders: Service) -> None:
    answer = orders.call("/2015-03-31/functions/orders/invocations", b"")
    assert answer.document["event"] == {}


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (b"x", "Unexpected character ('x' (code 120)): "),
        (b'{"a": b}', "Unexpected character ('b' (code 98)): "),
        (b'{"a": ', "Unexpected end-of-input"),
        (b"1 2", "Unexpected character ('2' (code 50)): "),
        (b'"\x87"', "Invalid UTF-8 start byte 0x87"),
    ],
)
def test_an_event_that_is_no_json_is_refused(orders: Service, event: bytes, message: str) -> None:
    answer = orders.call("/2015-03-31/functions/orders/invocations", event)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")
    assert answer.document["Type"] == "User"
    prefix = "Could not parse request body into json: Could not parse payload into json: "
    assert answer.document["message"].startswith(prefix + message)
    assert "line: 1, column: " in answer.document["message"]


def test_a_large_event_that_is_no_json_is_refused_too(orders: Service) -> None:
    answer = orders.call("/2015-03-31/functions/orders/invocations", b'"' + b"x" * 5_000_000 + b'"y')
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")


@pytest.mark.parametrize(
    "path", ["2015-03-31/functions/{}/invocations", "2021-11-15/functions/{}/response-streaming-invocations"]
)
@pytest.mark.parametrize("name", ["orders", "nobody"])
def test_an_event_may_have_six_megabytes(orders: Service, path: str, name: str) -> None:
    answer = orders.call("/" + path.format(name), b'"' + b"x" * 6_291_455 + b'"')
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (413, "RequestEntityTooLargeException")
    message = "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    assert answer.document == {"Message": message}


def test_the_largest_event_arrives(orders: Service) -> None:
    orders.publish("length", orders.code("def handler(event, context): return len(event)"))
    answer = orders.call("/2015-03-31/functions/length/invocations", b'"' + b"x" * 6_291_454 + b'"')
    assert (answer.status, answer.document) == (200, 6_291_454)


@pytest.mark.parametrize("kind", ["Event", "DryRun", "Nonsense"])
def test_other_kinds_of_invocations_are_the_control_planes(orders: Service, kind: str) -> None:
    answer = orders.invoke("orders", {"a": 1}, X_Amz_Invocation_Type=kind)
    assert answer.headers["x-from"] == "the control plane"
    assert answer.document["headers"]["x-amz-invocation-type"] == kind
    assert answer.document["body"] == '{"a": 1}'


def test_an_asynchronous_event_may_have_one_megabyte(orders: Service) -> None:
    body = b'"' + b"x" * 1_048_575 + b'"'
    headers = {"X-Amz-Invocation-Type": "Event"}
    answer = orders.call("/2015-03-31/functions/orders/invocations", body, headers=headers)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (413, "RequestEntityTooLargeException")
    message = "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
    assert answer.document == {"Message": message}


@pytest.fixture
def lambda_client(orders: Service) -> Any:
    """Return boto3's client."""
    config = Config(retries={"total_max_attempts": 1}, signature_version=UNSIGNED)
    return boto3.client(
        "lambda", endpoint_url=f"http://{orders.front.address}", region_name=REGION, config=config
    )


def test_boto3_invokes_and_streams(lambda_client: Any) -> None:
    answer = lambda_client.invoke(
        FunctionName="orders", Qualifier="$LATEST", Payload=b'{"a": 1}', LogType="Tail"
    )
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert json.loads(answer["Payload"].read())["arn"] == arn("orders", "$LATEST")
    assert b"REPORT" in base64.b64decode(answer["LogResult"])
    streamed = lambda_client.invoke_with_response_stream(FunctionName=arn("orders"), Payload=b'"stream"')
    events = list(streamed["EventStream"])
    payload = b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)
    assert payload == b"one two"
    assert "InvokeComplete" in events[-1]
    assert (streamed["StatusCode"], streamed["ExecutedVersion"]) == (200, "$LATEST")


def test_boto3_parses_the_errors(orders: Service, lambda_client: Any) -> None:
    orders.front.reserve("orders", 0)
    with pytest.raises(lambda_client.exceptions.TooManyRequestsException) as caught:
        lambda_client.invoke(FunctionName="orders")
    assert caught.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    with pytest.raises(lambda_client.exceptions.TooManyRequestsException):
        lambda_client.invoke_with_response_stream(FunctionName="orders")
    orders.front.reserve("orders", None)
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        lambda_client.invoke(FunctionName="orders", TenantId="blue")
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValueException"


def test_the_backend_may_leave_an_invoke_to_the_front(service: Service) -> None:
    def leave(request: dict[str, Any]) -> bool:
        service.publish("made", service.code(ECHO))
        assert request["body"] == b'{"a": 1}'
        return True

    service.backend.leave = leave
    answer = service.invoke("made", {"a": 1})
    assert (answer.status, answer.document["event"], answer.version) == (200, {"a": 1}, "$LATEST")
    assert answer.headers["x-from"] is None
    assert service.invoke("made", 1).document["event"] == 1
    assert len(service.backend.requests) == 1


def test_what_the_front_still_does_not_find_is_not_found(service: Service) -> None:
    service.backend.leave = lambda _request: True
    answer = service.invoke("nobody", qualifier="live")
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (404, "ResourceNotFoundException")
    assert answer.document == {"Type": "User", "Message": f"Function not found: {arn('nobody', 'live')}"}
    assert service.invoke("nobody").document["Message"].endswith(":nobody:$LATEST")
