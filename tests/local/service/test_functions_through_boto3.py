"""Functions, versions and aliases with boto3 over HTTP: its waiters, pages and exception classes."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from caloric.local.service import aliases, functions, versions  # noqa: F401 - they offer their operations
from caloric.local.service.operations import OPERATIONS
from tests.local.http.server import Server, serving
from tests.local.service.recording import ARN, ROLE, Lambda, new, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAST = {"Delay": 0.01, "MaxAttempts": 3000}


@pytest.fixture
def server(aws: Lambda) -> Iterator[Server]:
    with serving(OPERATIONS, service=aws.service) as server:
        # The port is known only now.
        object.__setattr__(aws.service, "endpoint", server.url)
        yield server


@pytest.fixture
def client(server: Server) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=server.url,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}, read_timeout=30),
    )


def create(client: Any, name: str = "orders", **members: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.create_function(**new(name, **members))
    assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
    return answer


def updated(client: Any, name: str = "orders") -> dict[str, Any]:
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
    answer: dict[str, Any] = client.get_function(FunctionName=name)["Configuration"]
    return answer


def test_the_life_of_a_function(client: Any, aws: Lambda) -> None:
    code = zipped({"app.py": "one"})
    answer = create(
        client, Code={"ZipFile": code}, Tags={"team": "a"}, Environment={"Variables": {"STAGE": "1"}}
    )
    assert (answer["State"], answer["Environment"]) == ("Pending", {"Variables": {"STAGE": "1"}})
    got = client.get_function(FunctionName="orders")
    assert (got["Configuration"]["State"], got["Tags"]) == ("Active", {"team": "a"})
    with urllib.request.urlopen(got["Code"]["Location"]) as download:
        assert download.read() == code

    client.update_function_configuration(FunctionName="orders", Timeout=10, MemorySize=256)
    assert updated(client)["Timeout"] == 10
    client.update_function_code(FunctionName="orders", ZipFile=zipped({"app.py": "two"}))
    assert updated(client)["CodeSha256"] != answer["CodeSha256"]
    version = client.publish_version(FunctionName="orders", Description="first")
    assert (version["ResponseMetadata"]["HTTPStatusCode"], version["Version"]) == (201, "1")
    client.get_waiter("published_version_active").wait(
        FunctionName="orders", Qualifier="1", WaiterConfig=FAST
    )

    client.update_function_code(FunctionName="orders", ZipFile=zipped({"app.py": "three"}), Publish=True)
    updated(client)
    alias = client.create_alias(
        FunctionName="orders",
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.25}},
    )
    assert (alias["ResponseMetadata"]["HTTPStatusCode"], alias["AliasArn"]) == (201, f"{ARN}:orders:live")
    assert client.get_alias(FunctionName="orders", Name="live")["RoutingConfig"] == {
        "AdditionalVersionWeights": {"2": 0.25}
    }
    client.update_alias(FunctionName="orders", Name="live", RoutingConfig={"AdditionalVersionWeights": {}})
    assert "RoutingConfig" not in client.get_alias(FunctionName="orders", Name="live")
    configuration = client.get_function_configuration(FunctionName="orders", Qualifier="live")
    assert (configuration["Version"], configuration["Timeout"]) == ("1", 10)
    assert aws.environments.routes["orders", "live"] == {"1": 1}

    deleted = client.delete_alias(FunctionName="orders", Name="live")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    deleted = client.delete_function(FunctionName="orders", Qualifier="1")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    numbers = [v["Version"] for v in client.list_versions_by_function(FunctionName="orders")["Versions"]]
    assert numbers == ["$LATEST", "2"]
    client.delete_function(FunctionName="orders")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName="orders")


def test_functions_through_the_paginator(client: Any) -> None:
    expected = [f"f{number:02}" for number in range(12)]
    for name in expected:
        create(client, name)
    pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 5})
    found = [[function["FunctionName"] for function in page["Functions"]] for page in pages]
    assert found == [expected[:5], expected[5:10], expected[10:]]


def test_a_name_may_be_an_arn(client: Any) -> None:
    create(client, f"{ARN}:orders")
    for name in ("orders", f"{ARN}:orders", f"{ARN}:orders:$LATEST", "123456789012:function:orders"):
        assert client.get_function_configuration(FunctionName=name)["FunctionName"] == "orders"


def refused(client: Any, error: str, operation: str, **members: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(getattr(client.exceptions, error)) as raised:
        getattr(client, operation)(**members)
    response = dict(raised.value.response)
    return response.pop("ResponseMetadata")["HTTPStatusCode"], response


def test_errors_are_the_classes_that_botocore_knows(client: Any) -> None:
    create(client)
    status, answer = refused(client, "ResourceConflictException", "create_function", **new())
    assert (status, answer["message"], answer["Type"]) == (409, "Function already exist: orders", "User")
    status, answer = refused(client, "ResourceNotFoundException", "get_function", FunctionName="bills")
    assert (status, answer["Message"]) == (404, f"Function not found: {ARN}:bills")
    stale = {"FunctionName": "orders", "RevisionId": "stale", "Timeout": 4}
    status, _ = refused(client, "PreconditionFailedException", "update_function_configuration", **stale)
    assert status == 412
    wrong = new("bills", Code={"ZipFile": b"no zip"})
    status, answer = refused(client, "InvalidParameterValueException", "create_function", **wrong)
    assert (status, answer["Error"]["Message"]) == (
        400,
        "Could not unzip uploaded file. Please check your file, then try to upload again.",
    )


def test_a_runtime_that_there_is_not_is_an_invalid_value(client: Any) -> None:
    # The model's own enum would make it a ValidationException.
    unknown = new(Runtime="python9.9")
    status, answer = refused(client, "InvalidParameterValueException", "create_function", **unknown)
    assert (status, answer["message"][:40]) == (400, "Value python9.9 at 'runtime' failed to s")


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"Role": "r1"}, "role"),
        ({"MemorySize": 64}, "memorySize"),
        ({"Timeout": 901}, "timeout"),
        ({"Environment": {"Variables": {"0": "x"}}}, "environment.variables"),
        ({"Layers": ["deps"]}, "layers"),
        ({"Architectures": ["x86_64", "arm64"]}, "architectures"),
    ],
)
def test_what_the_model_forbids(server: Server, members: dict[str, Any], path: str) -> None:
    client = server.client()
    with pytest.raises(client.exceptions.ClientError) as raised:
        client.create_function(**new(**members))
    error = raised.value.response["Error"]
    assert error["Code"] == "ValidationException"
    assert f" at '{path}' failed to satisfy constraint" in error["Message"]


def test_another_account_is_denied(server: Server) -> None:
    client = server.client()
    with pytest.raises(client.exceptions.ClientError) as raised:
        client.get_function(FunctionName="999999999999:function:orders")
    response = raised.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert response["Error"]["Code"] == "AccessDeniedException"


def test_the_waiter_tells_that_an_image_does_not_run(client: Any) -> None:
    client.create_function(
        FunctionName="orders", Role=ROLE, PackageType="Image", Code={"ImageUri": "registry/orders:1"}
    )
    with pytest.raises(Exception, match='matched expected path: "Failed"'):
        client.get_waiter("function_active_v2").wait(FunctionName="orders", WaiterConfig=FAST)


def test_a_data_directory_that_fails_is_named(client: Any, aws: Lambda) -> None:
    aws.service.store.close()
    status, answer = refused(client, "ServiceException", "create_function", **new())
    assert (status, answer["Error"]["Message"]) == (500, f"{aws.folder / 'state.db'} is closed.")


def test_a_folder_is_served_in_place(client: Any, aws: Lambda, tmp_path: Path) -> None:
    folder = tmp_path / "function"
    folder.mkdir()
    create(client, Code={"S3Bucket": "hot-reload", "S3Key": str(folder)})
    assert aws.environments.versions["orders", "$LATEST"].code == folder
