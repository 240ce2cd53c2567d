"""Requests that botocore's client would not send, or sends as they are: what AWS says of them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from caloric.local.http import model
from tests.local.http.server import Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caloric.local.service.operations import Members
    from caloric.local.service.service import LambdaService

MODEL = model.load()
ROLE = "arn:aws:iam::123456789012:role/r"
CREATE = {
    "FunctionName": "orders",
    "Role": ROLE,
    "Runtime": "python3.12",
    "Handler": "app.handler",
    "Code": {},
}
LAYER = "arn:aws:lambda:eu-west-1:123456789012:layer:deps:1"


def shape(name: str) -> model.Shape:
    return MODEL.shape(name)


def pattern(name: str) -> str:
    return f"Member must satisfy regular expression pattern: {shape(name).pattern}"


@pytest.fixture(scope="module")
def asked() -> list[Members]:
    return []


@pytest.fixture(scope="module")
def server(asked: list[Members]) -> Iterator[Server]:
    def accept(_service: LambdaService, request: Members) -> Members:
        asked.append(request)
        return {}

    with serving(dict.fromkeys(MODEL.operations, accept), model=MODEL) as server:
        yield server


def refusal(server: Server, body: Any) -> str:
    reply = server.request("POST", "/2015-03-31/functions", body)
    assert (reply.status, reply.headers["x-amzn-ErrorType"]) == (400, "ValidationException")
    assert set(reply.document) == {"message"}
    message = reply.document["message"]
    assert isinstance(message, str)
    return message


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        (
            {"MemorySize": 10_241},
            "Value '10241' at 'memorySize' ... Member must have value less than or equal to 10240",
        ),
        (
            {"MemorySize": 127},
            "Value '127' at 'memorySize' ... Member must have value greater than or equal to 128",
        ),
        ({"Timeout": 901}, "Value '901' at 'timeout' ... Member must have value less than or equal to 900"),
        ({"Timeout": 0}, "Value '0' at 'timeout' ... Member must have value greater than or equal to 1"),
        (
            {"EphemeralStorage": {"Size": 10_241}},
            "Value '10241' at 'ephemeralStorage.size' ... Member must have value less than or equal to 10240",
        ),
        (
            {"EphemeralStorage": {}},
            "Value null at 'ephemeralStorage.size' ... Member must not be null",
        ),
        (
            {"Description": "d" * 257},
            f"Value '{'d' * 257}' at 'description' ... Member must have length less than or equal to 256",
        ),
        ({"Role": "admin"}, f"Value 'admin' at 'role' ... {pattern('RoleArn')}"),
        ({"KMSKeyArn": "key"}, f"Value 'key' at 'kMSKeyArn' ... {pattern('KMSKeyArn')}"),
        (
            {"PackageType": "Tar"},
            "Value 'Tar' at 'packageType' ... Member must satisfy enum value set: [Zip, Image]",
        ),
        (
            {"Architectures": ["x86_64", "arm64"]},
            "Value '[x86_64, arm64]' at 'architectures' ... Member must have length less than or equal to 1",
        ),
        (
            {"Architectures": ["sparc"]},
            "Value '[sparc]' at 'architectures' ... Member must satisfy constraint: "
            "[Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
        ),
        (
            {"Layers": ["deps"]},
            "Value '[deps]' at 'layers' ... Member must satisfy constraint: [Member must have length less than or "
            "equal to 2048, Member must have length greater than or equal to 1, "
            f"{pattern('LayerVersionArn')}, Member must not be null]",
        ),
        (
            {"Environment": {"Variables": {"1A": "secret"}}},
            "Value at 'environment.variables' ... Map keys must satisfy constraint: "
            f"[{pattern('EnvironmentVariableName')}, Member must not be null]",
        ),
        (
            {"Tags": {"a": None}},
            "Value '{a=null}' at 'tags' ... Map value must satisfy constraint: [Member must have length less than or "
            f"equal to 256, Member must have length greater than or equal to 0, {pattern('TagValue')}, "
            "Member must not be null]",
        ),
        (
            {"FileSystemConfigs": [{"Arn": 7 * "x", "LocalMountPath": "/mnt/x"}]},
            f"Value 'xxxxxxx' at 'fileSystemConfigs.1.member.arn' ... {pattern('FileSystemArn')}",
        ),
    ],
)
def test_what_the_model_does_not_allow_is_refused_in_the_words_of_aws(
    members: dict[str, Any], complaint: str, server: Server
) -> None:
    expected = "1 validation error detected: " + complaint.replace(" ... ", " failed to satisfy constraint: ")
    assert refusal(server, {**CREATE, **members}) == expected


def test_all_that_is_wrong_is_told_at_once(server: Server) -> None:
    assert refusal(server, {"FunctionName": "a b", "Timeout": 0, "Role": ROLE}) == (
        f"3 validation errors detected: Value 'a b' at 'functionName' failed to satisfy constraint: "
        f"{pattern('FunctionName')}; "
        "Value null at 'code' failed to satisfy constraint: Member must not be null; "
        "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1"
    )


def test_members_of_path_and_query_are_validated(server: Server) -> None:
    reply = server.request("GET", "/2015-03-31/functions/a%20b?Qualifier=")
    assert reply.document["message"].startswith("3 validation errors detected: Value 'a b' at 'functionName'")
    assert "Value '' at 'qualifier'" in reply.document["message"]
    reply = server.request("GET", "/2015-03-31/functions?MaxItems=0")
    assert "Value '0' at 'maxItems'" in reply.document["message"]


def test_an_enum_in_a_header_is_validated(server: Server) -> None:
    reply = server.request(
        "POST", "/2015-03-31/functions/f/invocations", b"{}", {"X-Amz-Invocation-Type": "Never"}
    )
    assert reply.headers["x-amzn-ErrorType"] == "ValidationException"
    assert (
        "'invocationType' failed to satisfy constraint: Member must satisfy enum value set: ["
        in reply.document["message"]
    )


@pytest.mark.parametrize("runtime", ["cobol", "python2.7"])
def test_a_runtime_is_refused_as_an_invalid_parameter(runtime: str, server: Server) -> None:
    reply = server.request("POST", "/2015-03-31/functions", {**CREATE, "Runtime": runtime})
    assert reply.headers["x-amzn-ErrorType"] == "InvalidParameterValueException"
    message = reply.document["message"]
    assert message.startswith(
        f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["
    )
    assert message.endswith("] or be a valid ARN")
    offered = message.partition("set: [")[2].partition("]")[0].split(", ")
    assert "python3.12" in offered
    assert "python2.7" not in offered


def test_six_layers_are_too_many(server: Server) -> None:
    reply = server.request("POST", "/2015-03-31/functions", {**CREATE, "Layers": [LAYER] * 6})
    assert reply.document == {"Type": "User", "message": "Cannot reference more than 5 layers."}
    assert server.request("POST", "/2015-03-31/functions", {**CREATE, "Layers": [LAYER] * 5}).status == 201


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({**CREATE, "Timeout": "3"}, "STRING_VALUE can not be converted to an Integer"),
        ({**CREATE, "Timeout": 2.5}, "NUMBER_VALUE can not be converted to an Integer"),
        ({**CREATE, "Timeout": 2**31}, "NUMBER_VALUE can not be converted to an Integer"),
        ({**CREATE, "Timeout": True}, "TRUE_VALUE can not be converted to an Integer"),
        ({**CREATE, "Handler": 3}, "NUMBER_VALUE can not be converted to a String"),
        ({**CREATE, "Handler": False}, "FALSE_VALUE can not be converted to a String"),
        ({**CREATE, "Handler": []}, "Start of list found where not expected"),
        ({**CREATE, "Handler": {}}, "Start of structure or map found where not expected."),
        ({**CREATE, "Publish": "true"}, "STRING_VALUE can not be converted to a Boolean"),
        ({**CREATE, "Layers": "x"}, "Expected list or null"),
        ({**CREATE, "Code": "x"}, "Expected null"),
        ({**CREATE, "Tags": 1}, "Expected map or null"),
        ({**CREATE, "Code": {"ZipFile": "no base64!"}}, "STRING_VALUE can not be converted to a Blob"),
        (b"[]", "Start of list found where not expected"),
        (b'{"FunctionName": ', "The request body is not valid JSON: "),
        (b"\xff", "The request body is not valid JSON: "),
        (b"[" * 100_000, "The request body is not valid JSON: "),
    ],
)
def test_what_is_not_of_its_type_cannot_be_read(body: Any, message: str, server: Server) -> None:
    reply = server.request("POST", "/2015-03-31/functions", body)
    assert (reply.status, reply.headers["x-amzn-ErrorType"]) == (400, "SerializationException")
    assert reply.document["message"].startswith(message)


@pytest.mark.parametrize("items", ["x", "1_0", "%201", "9" * 30, "1e3"])
def test_a_number_in_a_query_has_digits_only(items: str, server: Server) -> None:
    reply = server.request("GET", f"/2015-03-31/functions?MaxItems={items}")
    assert reply.headers["x-amzn-ErrorType"] == "SerializationException"


def test_unknown_members_and_null_are_as_if_absent(server: Server, asked: list[Members]) -> None:
    body = {
        **CREATE,
        "Unknown": {"x": 1},
        "Description": None,
        "Code": {"ZipFile": base64.b64encode(b"zip").decode()},
    }
    reply = server.request("POST", "/2015-03-31/functions", {**body, "MemorySize": 256.0})
    assert reply.status == 201
    assert asked[-1] == {**CREATE, "Code": {"ZipFile": b"zip"}, "MemorySize": 256}


def test_lists_in_a_query_are_read_whole(server: Server, asked: list[Members]) -> None:
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:orders"
    assert server.request("DELETE", f"/2017-03-31/tags/{arn}?tagKeys=a&tagKeys=b%26c").status == 400
    reply = server.request("DELETE", f"/2017-03-31/tags/{arn}?tagKeys=a&tagKeys=b%2Bc")
    assert (reply.status, reply.body) == (204, b"")
    assert asked[-1] == {"Resource": arn, "TagKeys": ["a", "b+c"]}


def test_deleting_a_function_answers_204_with_nothing(server: Server) -> None:
    reply = server.request("DELETE", "/2015-03-31/functions/orders")
    assert (reply.status, reply.body) == (204, b"")
