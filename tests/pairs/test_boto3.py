"""boto3 against the port that takes invocations: our HTTP front, and AWS's emulator as the control."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import botocore.exceptions
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from caloric._rust import HttpFront
from tests.pairs.conftest import HANDLERS
from tests.pairs.function import EndpointFunction, Pair, RieFunction
from tests.runtimes import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESS = b'{"case": "process"}'


def client(address: str, *, signed: bool) -> Any:
    """A client that asks once: a retry would hide what went wrong."""
    settings: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "read_timeout": 20}
    credentials = {}
    if signed:
        credentials = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
    else:
        settings["signature_version"] = UNSIGNED
    return boto3.client(
        "lambda",
        endpoint_url=f"http://{address}",
        region_name="us-east-1",
        config=Config(**settings),
        **credentials,
    )


@contextlib.contextmanager
def front(runtime: str, *, timeout_s: int = 15) -> Iterator[str]:
    """The address of our front to the sample function."""
    with Pair("caloric", runtime).start(HANDLERS, "behaviours.handler", timeout_s=timeout_s) as function:
        assert isinstance(function, EndpointFunction)
        with HttpFront(function.environment, host="127.0.0.1", port=0) as http_front:
            yield http_front.address


@pytest.fixture(scope="module", params=COMMANDS)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with front(request.param) as listening:
        yield listening


@pytest.fixture(scope="module")
def our_lambda(address: str) -> Any:
    return client(address, signed=True)


def payload(response: Any) -> Any:
    return json.loads(response["Payload"].read())


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize(
    "name", ["function", "my-function", "arn:aws:lambda:us-east-1:012345678912:function:other"]
)
def test_invoke_returns_the_result(address: str, name: str, signed: bool) -> None:
    event = {"grüße": ["日本", 1.5, None]}
    response = client(address, signed=signed).invoke(FunctionName=name, Payload=json.dumps(event).encode())
    assert response["StatusCode"] == 200
    assert "FunctionError" not in response
    assert response["ExecutedVersion"] == "$LATEST"
    assert response["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/json"
    assert payload(response) == event


@pytest.mark.parametrize("runtime", COMMANDS)
def test_awss_emulator_answers_the_same_client(runtime: str) -> None:
    with Pair("rie", runtime).start(HANDLERS, "behaviours.handler") as function:
        assert isinstance(function, RieFunction)
        rie = client("{}:{}".format(*function.address), signed=True)
        # It knows one function name only.
        response = rie.invoke(FunctionName="function", Payload=b'{"a": [1]}')
        assert response["StatusCode"] == 200
        assert payload(response) == {"a": [1]}


def test_no_payload_is_an_empty_object(our_lambda: Any) -> None:
    assert payload(our_lambda.invoke(FunctionName="function")) == {}


def test_the_request_id_is_the_handlers(our_lambda: Any) -> None:
    response = our_lambda.invoke(FunctionName="function", Payload=b'{"case": "context_values"}')
    seen = payload(response)["attributes"]["aws_request_id"][1]
    assert response["ResponseMetadata"]["RequestId"] == seen


def test_an_exception_is_a_function_error(our_lambda: Any) -> None:
    event = b'{"case": "raising", "message": "b\\u00f6se"}'
    response = our_lambda.invoke(FunctionName="function", Payload=event)
    assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled")
    document = payload(response)
    assert (document["errorType"], document["errorMessage"]) == ("TeapotError", "böse")
    assert document["requestId"] == response["ResponseMetadata"]["RequestId"]
    assert len(document["stackTrace"]) == 3


@pytest.mark.parametrize("runtime", COMMANDS)
def test_timeout_exit_and_too_large_a_response_are_function_errors(runtime: str) -> None:
    with front(runtime, timeout_s=3) as listening:
        aws_lambda = client(listening, signed=False)
        for event, error_type in (
            ({"case": "sleeping", "seconds": 30}, "Sandbox.Timedout"),
            ({"case": "exiting", "status": 1}, "Runtime.ExitError"),
            ({"case": "text", "length": 7_000_000}, "Function.ResponseSizeTooLarge"),
        ):
            response = aws_lambda.invoke(FunctionName="function", Payload=json.dumps(event).encode())
            assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled")
            assert payload(response)["errorType"] == error_type
        assert payload(aws_lambda.invoke(FunctionName="function", Payload=b'"alive"')) == "alive"


@pytest.mark.parametrize("runtime", COMMANDS)
def test_a_failed_init_is_a_function_error(runtime: str) -> None:
    with Pair("caloric", runtime).start(HANDLERS, "no_such_module.handler") as function:
        assert isinstance(function, EndpointFunction)
        with HttpFront(function.environment, host="127.0.0.1", port=0) as http_front:
            response = client(http_front.address, signed=False).invoke(FunctionName="function")
    assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled")
    assert payload(response)["errorType"] == "Runtime.ImportModuleError"


def test_the_log_tail_is_the_invocations_log(our_lambda: Any) -> None:
    response = our_lambda.invoke(FunctionName="function", LogType="Tail", Payload=b'{"case": "printing"}')
    request_id = response["ResponseMetadata"]["RequestId"]
    lines = base64.b64decode(response["LogResult"]).decode().splitlines()
    assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
    assert lines[1:3] == ["first", "second"]
    assert lines[-2] == f"END RequestId: {request_id}"
    assert lines[-1].startswith(f"REPORT RequestId: {request_id}\tDuration: ")


def test_a_long_log_is_cut_to_its_last_four_kilobytes(our_lambda: Any) -> None:
    message = "ä" * 5000
    event = json.dumps({"case": "raising", "message": message}).encode()
    response = our_lambda.invoke(FunctionName="function", LogType="Tail", Payload=event)
    tail = base64.b64decode(response["LogResult"])
    assert len(tail) == 4096
    assert b"REPORT RequestId: " in tail
    assert b"START" not in tail
    assert "LogResult" not in our_lambda.invoke(FunctionName="function")


def test_a_client_context_arrives(our_lambda: Any) -> None:
    text = json.dumps({"custom": {"ключ": "wert"}, "client": {"app_title": "Тест"}})
    response = our_lambda.invoke(
        FunctionName="function",
        ClientContext=base64.b64encode(text.encode()).decode(),
        Payload=b'{"case": "context_values"}',
    )
    context = payload(response)["client_context"]
    assert context["custom"] == {"ключ": "wert"}
    assert context["client"]["app_title"] == "Тест"


def test_an_event_invocation_is_accepted_and_runs(our_lambda: Any) -> None:
    before = payload(our_lambda.invoke(FunctionName="function", Payload=PROCESS))["invocations"]
    began = time.monotonic()
    event = b'{"case": "sleeping", "seconds": 1.5}'
    response = our_lambda.invoke(FunctionName="function", InvocationType="Event", Payload=event)
    assert time.monotonic() - began < 1.2, "the answer does not wait for the function"
    assert response["StatusCode"] == 202
    assert response["Payload"].read() == b""
    assert payload(our_lambda.invoke(FunctionName="function", Payload=PROCESS))["invocations"] == before + 2


def test_a_dry_run_runs_nothing(our_lambda: Any) -> None:
    before = payload(our_lambda.invoke(FunctionName="function", Payload=PROCESS))["invocations"]
    response = our_lambda.invoke(FunctionName="function", InvocationType="DryRun", Payload=PROCESS)
    assert response["StatusCode"] == 204
    assert response["Payload"].read() == b""
    assert payload(our_lambda.invoke(FunctionName="function", Payload=PROCESS))["invocations"] == before + 1


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        ({"Payload": b'"' + b"x" * 6_291_456 + b'"'}, "RequestEntityTooLargeException", 413),
        (
            {"Payload": b'"' + b"x" * 1_048_576 + b'"', "InvocationType": "Event"},
            "RequestEntityTooLargeException",
            413,
        ),
        ({"ClientContext": "not base64!"}, "InvalidRequestContentException", 400),
        ({"ClientContext": base64.b64encode(b"{").decode()}, "InvalidRequestContentException", 400),
        ({"InvocationType": "Whenever"}, "ValidationException", 400),
    ],
    ids=["event too large", "asynchronous event too large", "no base64", "no JSON", "invocation type"],
)
def test_a_mistake_of_the_caller_is_awss_exception(
    our_lambda: Any, arguments: dict[str, Any], code: str, status: int
) -> None:
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        our_lambda.invoke(FunctionName="function", **arguments)
    assert raised.value.response["Error"]["Code"] == code
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert raised.value.response["Error"]["Message"]


def test_the_largest_event_is_taken(our_lambda: Any) -> None:
    text = "x" * (6_291_456 - len('{"case":"length","text":""}'))
    event = f'{{"case":"length","text":"{text}"}}'.encode()
    assert payload(our_lambda.invoke(FunctionName="function", Payload=event)) == len(text)


def test_callers_at_the_same_time_get_their_own_answers(our_lambda: Any) -> None:
    def ask(number: int) -> bool:
        response = our_lambda.invoke(FunctionName="function", Payload=json.dumps({"number": number}).encode())
        return bool(payload(response) == {"number": number})

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(ask, range(64)))
