from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from caloric.local.http import model
from caloric.local.service.errors import ServiceError
from tests.local.http.server import Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caloric.local.service.operations import Members
    from caloric.local.service.service import LambdaService

MODEL = model.load()
PATH = "/2015-03-31/functions/orders"


class Refusing:
    """An operation that raises what the test says."""

    def __init__(self) -> None:
        self.error: Exception = ServiceError("ServiceException", "none")

    def __call__(self, _service: LambdaService, _request: Members) -> Members:
        raise self.error


@pytest.fixture(scope="module")
def refusing() -> Iterator[tuple[Refusing, Server, Any]]:
    operation = Refusing()
    with serving({"GetFunction": operation}, model=MODEL) as server:
        client = server.client()
        yield operation, server, client
        client.close()


@pytest.mark.parametrize("name", MODEL.exceptions())
def test_botocore_raises_the_exception_that_was_meant(
    name: str, refusing: tuple[Refusing, Server, Any]
) -> None:
    operation, _, client = refusing
    operation.error = ServiceError(name, "what happened")
    with pytest.raises(getattr(client.exceptions, name)) as raised:
        client.get_function(FunctionName="orders")
    response = raised.value.response
    shape = MODEL.shape(name)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == shape.status
    assert response["Error"]["Message"] == "what happened"
    assert response["Error"]["Code"] == name
    assert shape.status is not None
    assert response["Type"] == ("User" if shape.status < 500 else "Service")
    message_key = "message" if "message" in shape.members else "Message"
    assert response[message_key] == "what happened"


def test_further_members_go_where_the_model_says(refusing: tuple[Refusing, Server, Any]) -> None:
    operation, server, client = refusing
    reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
    operation.error = ServiceError(
        "TooManyRequestsException", "Rate Exceeded.", Reason=reason, retryAfterSeconds="2"
    )
    with pytest.raises(client.exceptions.TooManyRequestsException) as raised:
        client.get_function(FunctionName="orders")
    assert (raised.value.response["Reason"], raised.value.response["retryAfterSeconds"]) == (reason, "2")
    reply = server.request("GET", PATH)
    assert (reply.status, reply.headers["Retry-After"]) == (429, "2")
    assert reply.document == {"Reason": reason, "Type": "User", "message": "Rate Exceeded."}


@pytest.mark.parametrize(
    ("error", "status", "document"),
    [
        # Spec lambda-service 0.2, 0.4 and 1.5.
        (ServiceError("ValidationException", "1 validation"), 400, {"message": "1 validation"}),
        (ServiceError("RequestEntityTooLargeException", "large"), 413, {"Message": "large"}),
        (ServiceError("AccessDeniedException", None), 403, {"Message": None}),
        (ServiceError("ResourceNotFoundException", "gone", Type=None), 404, {"Message": "gone"}),
        (ServiceError("ResourceNotFoundException", "gone"), 404, {"Message": "gone", "Type": "User"}),
        (ServiceError("OfANewerModelException", "new"), 400, {"Message": "new", "Type": "User"}),
    ],
)
def test_errors_have_the_keys_that_aws_gives_them(
    error: ServiceError, status: int, document: Any, refusing: tuple[Refusing, Server, Any]
) -> None:
    operation, server, _ = refusing
    operation.error = error
    reply = server.request("GET", PATH)
    assert (reply.status, reply.document) == (status, document)
    assert reply.headers["x-amzn-ErrorType"] == error.name
    assert reply.headers["Content-Type"] == "application/json"


def test_botocore_reads_the_errors_that_are_not_in_the_model(refusing: tuple[Refusing, Server, Any]) -> None:
    operation, _, client = refusing
    operation.error = ServiceError("RequestEntityTooLargeException", "large")
    with pytest.raises(ClientError) as raised:
        client.get_function(FunctionName="orders")
    assert raised.value.response["Error"] == {"Code": "RequestEntityTooLargeException", "Message": "large"}


def test_a_defect_is_logged_and_not_told(
    refusing: tuple[Refusing, Server, Any], caplog: pytest.LogCaptureFixture
) -> None:
    operation, server, _ = refusing
    operation.error = KeyError("a secret of ours")
    with caplog.at_level(logging.ERROR):
        reply = server.request("GET", PATH)
    assert reply.status == 500
    assert reply.headers["x-amzn-ErrorType"] == "ServiceException"
    assert reply.document["Type"] == "Service"
    assert b"secret" not in reply.body
    request_id = reply.headers["x-amzn-RequestId"]
    assert request_id in reply.document["Message"]
    (record,) = [record for record in caplog.records if record.name.startswith("caloric")]
    assert record.exc_info is not None
    assert (request_id in record.getMessage(), record.exc_info[0]) == (True, KeyError)
