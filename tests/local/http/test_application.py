from __future__ import annotations

import email.utils
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from caloric.local.http import limits
from caloric.local.service.operations import CALL
from tests.local.http.server import Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caloric.local.service.operations import Members
    from caloric.local.service.service import LambdaService

INVOKE = "/2015-03-31/functions/orders/invocations"
CONFIGURE = "/2015-03-31/functions/orders/configuration"


class Lambda:
    """Operations that show what they were given."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.lengths: list[int] = []
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self.finished = threading.Event()

    def invoke(self, _service: LambdaService, request: Members) -> Members:
        self.calls.append(CALL.get())
        self.lengths.append(len(request.get("Payload", b"")))
        if request.get("InvocationType") == "Event":
            return {"StatusCode": 202}
        payload = request.get("Payload")
        return {"StatusCode": 200, "ExecutedVersion": "7", "FunctionError": "Unhandled", "Payload": payload}

    def configure(self, _service: LambdaService, _request: Members) -> Members:
        return {"FunctionName": "orders"}

    def wait(self, _service: LambdaService, _request: Members) -> Members:
        self.entered.set()
        assert self.let_go.wait(30)
        self.finished.set()
        return {}


@pytest.fixture
def service() -> Lambda:
    return Lambda()


@pytest.fixture
def server(service: Lambda) -> Iterator[Server]:
    operations: dict[str, Any] = {
        "Invoke": service.invoke,
        "InvokeAsync": service.invoke,
        "UpdateFunctionConfiguration": service.configure,
        "GetFunction": service.wait,
        "GetAccountSettings": service.configure,
    }
    with serving(operations) as server:
        yield server


def test_every_answer_has_an_id_and_a_date(server: Server, service: Lambda) -> None:
    replies = [
        server.request("POST", INVOKE, b"{}", {"X-Amzn-Trace-Id": "Root=1-2-3"}),
        server.request("GET", "/nowhere"),
        server.request("GET", "/2015-03-31/functions"),
    ]
    assert [reply.status for reply in replies] == [200, 404, 501]
    ids = [reply.headers["x-amzn-RequestId"] for reply in replies]
    assert len({uuid.UUID(request_id) for request_id in ids}) == 3
    for reply in replies:
        assert reply.headers["Content-Type"] == "application/json"
        (date,) = reply.headers.get_all("Date") or []
        assert abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time()) < 60
    assert (service.calls[0].request_id, service.calls[0].trace_id) == (ids[0], "Root=1-2-3")


def test_an_invocation_has_its_bytes_and_headers_as_they_are(server: Server) -> None:
    reply = server.request("POST", INVOKE, b' {"a": \xff} ')
    assert (reply.status, reply.body) == (200, b' {"a": \xff} ')
    assert reply.headers["X-Amz-Executed-Version"] == "7"
    assert reply.headers["X-Amz-Function-Error"] == "Unhandled"


def test_boto3_invokes_asynchronously(server: Server) -> None:
    answer = server.client().invoke(FunctionName="orders", InvocationType="Event", Payload=b"{}")
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_may_be_as_large_as_its_limit_and_no_larger(
    chunked: bool, server: Server, service: Lambda
) -> None:
    limit = limits.REQUEST_BYTES_OTHERWISE

    def send(length: int) -> Any:
        body = b"x" * length
        if not chunked:
            return server.request("POST", INVOKE, body)
        framed = b"".join(
            b"%x\r\n%s\r\n" % (len(part), part)
            for part in (body[start : start + 65_536] for start in range(0, length, 65_536))
        )
        return server.request("POST", INVOKE, framed + b"0\r\n\r\n", {"Transfer-Encoding": "chunked"})

    assert send(limit).status == 200
    reply = send(limit + 1)
    assert (reply.status, reply.headers["x-amzn-ErrorType"]) == (413, "RequestEntityTooLargeException")
    assert reply.document == {
        "Message": "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    }
    assert service.lengths == [limit]


def test_an_asynchronous_event_has_a_limit_of_its_own(server: Server, service: Lambda) -> None:
    event = {"X-Amz-Invocation-Type": "Event"}
    assert server.request("POST", INVOKE, b"x" * limits.EVENT_BYTES, event).status == 202
    reply = server.request("POST", INVOKE, b"x" * (limits.EVENT_BYTES + 1), event)
    assert reply.status == 413
    assert reply.document == {
        "Message": "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
    }
    assert service.lengths == [limits.EVENT_BYTES]


def test_a_configuration_has_a_small_limit(server: Server) -> None:
    assert server.request("PUT", CONFIGURE, {"Description": "x"}).status == 200
    reply = server.request("PUT", CONFIGURE, b"{" + b" " * 5_120)
    assert reply.document == {
        "Message": "Request must be smaller than 5120 bytes for the UpdateFunctionConfiguration operation"
    }


def test_a_client_that_asks_first_sends_nothing_in_vain(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            f"POST {INVOKE} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_before_its_request_is_whole_changes_nothing(
    server: Server, service: Lambda
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(f"POST {INVOKE} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345".encode())
    assert server.request("POST", INVOKE, b"{}").status == 200
    assert service.lengths == [2]


def test_an_operation_goes_on_when_its_client_has_left_and_blocks_nobody(
    server: Server, service: Lambda
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET /2015-03-31/functions/orders HTTP/1.1\r\nHost: x\r\n\r\n")
        assert service.entered.wait(30)
    assert server.request("POST", INVOKE, b"{}").status == 200
    assert not service.finished.is_set()
    service.let_go.set()
    assert service.finished.wait(30)


def test_the_end_of_the_server_waits_for_operations() -> None:
    service = Lambda()
    with serving({"GetFunction": service.wait}) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(b"GET /2015-03-31/functions/orders HTTP/1.1\r\nHost: x\r\n\r\n")
            assert service.entered.wait(30)
        service.let_go.set()
    assert service.finished.is_set()
