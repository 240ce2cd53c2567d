from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from caloric.local.http import model
from caloric.local.http.authentication import Authentication
from caloric.local.service.operations import CALL
from tests.local.http.server import REGION, Reply, Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caloric.local.service.operations import Members
    from caloric.local.service.service import LambdaService

MODEL = model.load()
PATH = "/2015-03-31/functions"
FUNCTION = f"{PATH}/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Aorders%3A%24LATEST"


class Clock:
    """The server's time, beside the machine's."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(timezone.utc) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[Server]:
    def show(_service: LambdaService, _request: Members) -> Members:
        return {"Marker": "", "NextMarker": CALL.get().access_key}

    def create(_service: LambdaService, request: Members) -> Members:
        return {"FunctionName": request["FunctionName"]}

    authentication = Authentication({"AKIDEXAMPLE": "secret", "AKIDOTHER": "other"}, REGION, now=clock)
    operations: dict[str, Any] = {
        "ListFunctions": show,
        "CreateFunction": create,
        "GetFunction": lambda _service, _request: {},
    }
    with serving(operations, model=MODEL, authentication=authentication) as server:
        yield server


def signed(
    server: Server,
    path: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    key: str = "AKIDEXAMPLE",
    secret: str = "secret",
    region: str = REGION,
    service: str = "lambda",
) -> dict[str, str]:
    """Return the headers of a request that is signed."""
    request = AWSRequest(method, server.url + path, {"X-Amz-Invocation-Type": "Event"}, body)
    SigV4Auth(Credentials(key, secret), service, region).add_auth(request)
    return {name: str(value) for name, value in request.headers.items()}


def refused(reply: Reply, name: str, message: str) -> None:
    assert (reply.status, reply.headers["x-amzn-ErrorType"]) == (403, name), reply.body
    assert re.match(message, reply.document["message"]), reply.document


def test_boto3_with_the_right_secret_is_let_in_and_known(server: Server) -> None:
    client = server.client()
    assert client.list_functions()["NextMarker"] == "AKIDEXAMPLE"
    other = server.client(aws_access_key_id="AKIDOTHER", aws_secret_access_key="other")
    assert other.list_functions(Marker="a b/ü+&=", MaxItems=3)["NextMarker"] == "AKIDOTHER"
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:orders:$LATEST"
    assert (
        client.get_function(FunctionName=arn, Qualifier="$LATEST")["ResponseMetadata"]["HTTPStatusCode"]
        == 200
    )
    role = "arn:aws:iam::123456789012:role/r"
    created = client.create_function(FunctionName="orders", Role=role, Code={"ZipFile": b"x" * 100_000})
    assert created["FunctionName"] == "orders"


def test_boto3_with_another_secret_is_refused(server: Server) -> None:
    with pytest.raises(ClientError, match="signature we calculated does not match") as raised:
        server.client(aws_secret_access_key="wrong").list_functions()
    assert raised.value.response["Error"]["Code"] == "InvalidSignatureException"
    with pytest.raises(ClientError, match="security token included in the request is invalid") as raised:
        server.client(aws_access_key_id="AKIDUNKNOWN").list_functions()
    assert raised.value.response["Error"]["Code"] == "UnrecognizedClientException"


@pytest.mark.parametrize("path", [PATH, FUNCTION, "/2015-03-31/event-source-mappings", "/nowhere"])
def test_without_a_signature_nothing_is_answered(path: str, server: Server) -> None:
    reply = server.request("GET", path)
    refused(reply, "MissingAuthenticationTokenException", "Missing Authentication Token$")


def test_what_was_signed_cannot_be_changed(server: Server) -> None:
    body = b'{"FunctionName": "orders"}'
    headers = signed(server, PATH, method="POST", body=body)
    assert server.request("POST", PATH, body, headers).status == 400
    changed = [
        server.request("POST", PATH, body.replace(b"orders", b"others"), headers),
        server.request("POST", PATH + "?Marker=x", body, headers),
        server.request("PUT", FUNCTION + "/configuration", body, headers),
        server.request("POST", PATH, body, {**headers, "X-Amz-Invocation-Type": "DryRun"}),
        server.request(
            "POST", PATH, body, {name: value for name, value in headers.items() if "Type" not in name}
        ),
        server.request("POST", PATH, body, {**headers, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}),
    ]
    for reply in changed:
        refused(reply, "InvalidSignatureException", "The request signature we calculated does not match")


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ({"region": "us-east-1"}, "Credential should be scoped to a valid region"),
        ({"service": "s3"}, "Credential should be scoped to correct service: 'lambda'"),
    ],
)
def test_a_signature_for_something_else_is_refused(
    scope: dict[str, Any], message: str, server: Server
) -> None:
    refused(
        server.request("GET", PATH, None, signed(server, PATH, **scope)), "InvalidSignatureException", message
    )


def test_a_signature_is_good_for_five_minutes_either_way(server: Server, clock: Clock) -> None:
    headers = signed(server, PATH)
    clock.ahead = timedelta(minutes=4)
    assert server.request("GET", PATH, None, headers).status == 200
    clock.ahead = timedelta(minutes=6)
    refused(server.request("GET", PATH, None, headers), "InvalidSignatureException", "Signature expired: ")
    clock.ahead = timedelta(minutes=-6)
    refused(
        server.request("GET", PATH, None, headers), "InvalidSignatureException", "Signature not yet current: "
    )


def test_a_presigned_url_is_good_until_it_expires(server: Server, clock: Clock) -> None:
    url = server.client().generate_presigned_url("list_functions", Params={"Marker": "a b"}, ExpiresIn=600)
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}"
    clock.ahead = timedelta(minutes=9)
    reply = server.request("GET", path)
    assert (reply.status, reply.document["NextMarker"]) == (200, "AKIDEXAMPLE")
    refused(
        server.request("GET", path.replace("Marker=a", "Marker=b")),
        "InvalidSignatureException",
        "The request sig",
    )
    refused(
        server.request("GET", path.replace("=600", "=6000")), "InvalidSignatureException", "The request sig"
    )
    clock.ahead = timedelta(minutes=11)
    refused(server.request("GET", path), "InvalidSignatureException", "Signature expired: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Authorization": "Basic x"}, "Unsupported AWS 'algorithm': 'Basic'"),
        (
            {"Authorization": "AWS4-HMAC-SHA256 Signature=x"},
            ".*requires 'Credential' parameter.*'SignedHeaders'",
        ),
        (
            {"Authorization": "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=x"},
            "Credential must have exactly 5",
        ),
        ({"X-Amz-Date": "yesterday"}, "Date must be in ISO-8601"),
    ],
)
def test_half_a_signature_is_named(change: dict[str, str], message: str, server: Server) -> None:
    reply = server.request("GET", PATH, None, {**signed(server, PATH), **change})
    refused(reply, "IncompleteSignatureException", message)
