"""The invoke path of the Lambda service: what a caller sends and gets, header by header."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from caloric._rust import ExecutionEnvironment, HttpFront
from caloric.local.process import function_environment, supervise

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = [sys.executable, "-I", "-S", str(Path(__file__).with_name("endpoint_runtime.py")), "ready"]
INVOKE = "/2015-03-31/functions/function/invocations"


class Answer:
    """One response."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def document(self) -> dict[str, str]:
        """The body as JSON."""
        document: dict[str, str] = json.loads(self.body)
        return document


class Service:
    """A front with the scripted runtime behind it."""

    def __init__(self, front: HttpFront) -> None:
        self.front = front
        self.host, port = front.address.split(":")
        self.port = int(port)

    def call(self, body: bytes = b"", path: str = INVOKE, method: str = "POST", **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = Answer(connection.getresponse())
        connection.close()
        return answer


@pytest.fixture
def service() -> Iterator[Service]:
    """Return a running service."""
    with ExecutionEnvironment(timeout_ms=2000) as environment:
        process = supervise(environment, SCRIPT, function_environment(environment))
        with HttpFront(environment, host="127.0.0.1", port=0) as front:
            yield Service(front)
    assert process.join(5)


def seen(answer: Answer) -> dict[str, str]:
    """The headers the runtime got, from an invocation of `headers`."""
    return dict(line.split(": ", 1) for line in answer.body.decode().splitlines())


def test_an_invocation_is_answered_as_the_service_answers(service: Service) -> None:
    answer = service.call(b"echo")
    assert (answer.status, answer.body) == (200, b"done")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Amz-Executed-Version"] == "$LATEST"
    assert answer.headers["X-Amz-Function-Error"] is None
    assert answer.headers["X-Amz-Log-Result"] is None
    assert answer.headers["x-amzn-Remapped-Content-Length"] == "0"
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-amzn-RequestId"])
    assert re.fullmatch(r"root=1-[0-9a-f]{8}-[0-9a-f]{24};sampled=0", answer.headers["X-Amzn-Trace-Id"])


def test_the_request_id_is_the_one_the_runtime_saw(service: Service) -> None:
    answer = service.call(b"headers")
    assert seen(answer)["lambda-runtime-aws-request-id"] == answer.headers["x-amzn-RequestId"]
    assert answer.headers["Content-Type"] == "text/plain", "the runtime's type is passed on"


@pytest.mark.parametrize(
    "name",
    ["function", "orders:live", "arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Ax", "$LATEST"],
)
def test_any_function_name_reaches_the_function(service: Service, name: str) -> None:
    answer = service.call(b"echo", f"/2015-03-31/functions/{name}/invocations?Qualifier=live")
    assert (answer.status, answer.body) == (200, b"done")


def test_what_the_caller_sends_along_reaches_the_runtime(service: Service) -> None:
    context = base64.b64encode(json.dumps({"client": {"app_title": "日本"}}, indent=1).encode()).decode()
    answer = service.call(
        b"headers",
        Content_Type="application/x-www-form-urlencoded",
        X_Amz_Client_Context=context,
        X_Amzn_Trace_Id="Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
        X_Amz_Cognito_Identity='{"cognitoIdentityId":"me"}',
        X_Amz_Tenant_Id="blue",
    )
    headers = seen(answer)
    assert json.loads(headers["lambda-runtime-client-context"]) == {"client": {"app_title": "日本"}}
    assert headers["lambda-runtime-trace-id"].startswith("root=1-5bef4de7-")
    assert headers["lambda-runtime-cognito-identity"] == '{"cognitoidentityid":"me"}'  # The script lowers it.
    assert headers["lambda-runtime-aws-tenant-id"] == "blue"
    assert headers["content-type"] == "application/json", "the service calls every event JSON"
    assert answer.headers["X-Amzn-Trace-Id"] == "root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;sampled=1"


def test_an_empty_body_is_an_empty_object(service: Service) -> None:
    assert seen(service.call(b"headers"))["content-length"] == "7"
    connection = http.client.HTTPConnection(service.host, service.port, timeout=20)
    connection.request("POST", INVOKE)
    assert connection.getresponse().read() == b"done", "the script does not know the command {}"
    connection.close()


@pytest.mark.parametrize(
    ("event", "error_type"),
    [
        (b"fail", "ValueError"),
        (b"exit 3", "Runtime.ExitError"),
        (b"sleep 10", "Sandbox.Timedout"),
        (b"large 6291557", "Function.ResponseSizeTooLarge"),
    ],
)
def test_a_function_error_is_a_success_of_the_service(
    service: Service, event: bytes, error_type: str
) -> None:
    answer = service.call(event)
    assert (answer.status, answer.headers["X-Amz-Function-Error"]) == (200, "Unhandled")
    assert answer.document["errorType"] == error_type
    assert service.call(b"echo").body == b"done"


def test_the_log_tail_is_the_whole_invocations(service: Service) -> None:
    answer = service.call(b"print hello", X_Amz_Log_Type="Tail")
    log = base64.b64decode(answer.headers["X-Amz-Log-Result"]).decode().splitlines()
    request_id = answer.headers["x-amzn-RequestId"]
    assert log[:3] == [
        f"START RequestId: {request_id} Version: $LATEST",
        "hello",
        f"END RequestId: {request_id}",
    ]
    assert log[3].startswith(f"REPORT RequestId: {request_id}\t")
    assert service.call(b"echo", X_Amz_Log_Type="None").headers["X-Amz-Log-Result"] is None


def test_the_answer_does_not_wait_for_work_after_it(service: Service) -> None:
    service.call(b"echo")
    began = time.monotonic()
    assert service.call(b"linger 1.5").body == b"done"
    assert time.monotonic() - began < 1.2
    assert service.call(b"echo").body == b"done"
    assert time.monotonic() - began > 1.5, "the next one does: the environment is busy"


def test_an_asynchronous_invocation_is_accepted_and_run(service: Service) -> None:
    service.call(b"echo")
    began = time.monotonic()
    answer = service.call(b"sleep 1.5", X_Amz_Invocation_Type="Event")
    assert (answer.status, answer.body) == (202, b"")
    assert answer.headers["x-amzn-RequestId"]
    assert time.monotonic() - began < 1.2
    assert service.call(b"echo").body == b"done"
    assert time.monotonic() - began > 1.5, "it was run before this one"


def test_a_caller_that_hangs_up_at_once_has_invoked_all_the_same(service: Service, tmp_path: Path) -> None:
    first = int(service.call(b"pid").body)
    with socket.create_connection((service.host, service.port)) as connection:
        head = f"POST {INVOKE} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n".encode()
        connection.sendall(head + b"exit 0")
    assert int(service.call(b"pid").body) != first


def test_a_dry_run_runs_nothing(service: Service) -> None:
    pid = service.call(b"pid").body
    answer = service.call(b"exit 1", X_Amz_Invocation_Type="DryRun")
    assert (answer.status, answer.body) == (204, b"")
    assert service.call(b"pid").body == pid


def test_another_invocation_type_is_refused(service: Service) -> None:
    answer = service.call(b"echo", X_Amz_Invocation_Type="Later")
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "ValidationException")
    assert "'Later' at 'invocationType'" in answer.document["message"]


@pytest.mark.parametrize(
    "context", ["%%%", base64.b64encode(b"no json").decode(), base64.b64encode(b'"\xff"').decode()]
)
def test_a_client_context_that_cannot_be_decoded_is_refused(service: Service, context: str) -> None:
    answer = service.call(b"echo", X_Amz_Client_Context=context)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")
    assert answer.document["message"].startswith("Could not parse the header X-Amz-Client-Context: ")


def test_events_over_the_limit_are_refused(service: Service) -> None:
    answer = service.call(b"x" * 6_291_457)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (413, "RequestEntityTooLargeException")
    message = "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    assert answer.document == {"Message": message}
    answer = service.call(b"x" * 1_048_577, X_Amz_Invocation_Type="Event")
    message = "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
    assert (answer.status, answer.document) == (413, {"Message": message})
    assert service.call(b"x" * 6_291_456).status == 200


def test_other_paths_name_the_right_one(service: Service) -> None:
    for path in ["/", "/2015-03-31/functions//invocations", "/2015-03-31/functions", "/invoke"]:
        answer = service.call(b"{}", path)
        assert (answer.status, answer.headers["Content-Type"]) == (404, "application/json"), path
        assert f"POST {INVOKE}" in answer.document["Message"]
    answer = service.call(method="GET")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_a_refusal_reads_what_was_sent_and_the_connection_goes_on(service: Service) -> None:
    connection = http.client.HTTPConnection(service.host, service.port, timeout=20)
    connection.connect()
    used = connection.sock
    for method, path, status in (("POST", "/nothing", 404), ("PUT", INVOKE, 405)):
        connection.putrequest(method, path)
        connection.putheader("Content-Length", "2")
        connection.endheaders()
        connection.send(b"{}")
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, True)
        assert connection.sock is used
    connection.request("POST", INVOKE, b"echo")
    assert connection.getresponse().status == 200
    assert connection.sock is used
    connection.close()


def test_callers_wait_for_each_other_on_kept_connections(service: Service) -> None:
    pids: list[bytes] = []

    def caller() -> None:
        connection = http.client.HTTPConnection(service.host, service.port, timeout=20)
        for _ in range(25):
            connection.request("POST", INVOKE, b"pid")
            pids.append(connection.getresponse().read())
        connection.close()

    threads = [threading.Thread(target=caller) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(pids) == 200
    assert len(set(pids)) == 1


def test_a_closed_environment_is_a_failure_of_the_service() -> None:
    environment = ExecutionEnvironment()
    with HttpFront(environment, host="127.0.0.1", port=0) as front:
        environment.close()
        answer = Service(front).call(b"echo")
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (500, "ServiceException")
    assert answer.document == {"Type": "Service", "Message": "the execution environment is closed"}


def test_a_port_in_use_is_named() -> None:
    with ExecutionEnvironment() as environment, HttpFront(environment, host="127.0.0.1", port=0) as front:
        port = int(front.address.split(":")[1])
        with pytest.raises(OSError, match=f"cannot listen on {front.address}: Address already in use"):
            HttpFront(environment=environment, host="127.0.0.1", port=port)
        front.close()
        front.close()
        HttpFront(environment, host="127.0.0.1", port=0).close()
