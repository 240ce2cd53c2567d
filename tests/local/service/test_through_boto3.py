"""What is configured besides functions, with boto3 over HTTP: answers as botocore parses them, and statuses."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from caloric.local.environments.interface import ProvisionedEnvironments
from caloric.local.service import (  # noqa: F401 - they offer their operations
    account,
    code_signing,
    concurrency,
    event_invoke_configs,
    function_urls,
    layers,
    policies,
    settings,
    tags,
)
from caloric.local.service.operations import OPERATIONS
from tests.local.http.server import serving
from tests.local.service.harness import ARN, Harness, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator

FUNCTION = f"{ARN}:function:orders"
ZIP = zipped({"python/greeting.py": "TEXT = 'hello'\n"})
PUBLISHERS = {"SigningProfileVersionArns": ["arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p"]}


class Caller:
    """boto3's client; the status of each answer is checked."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __call__(self, status: int, operation: str, **members: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self.client, operation)(**members)
        assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == status
        return answer

    def refused(self, status: int, error: str, operation: str, **members: Any) -> str:
        """Return the message of the error, which botocore must know by this name."""
        with pytest.raises(getattr(self.client.exceptions, error)) as raised:
            getattr(self.client, operation)(**members)
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        message: str = raised.value.response["Error"]["Message"]
        return message


@pytest.fixture
def lambda_(lambda_: Harness) -> Harness:
    lambda_.function("orders", versions=2, live="1")
    return lambda_


@pytest.fixture
def aws(lambda_: Harness) -> Iterator[Caller]:
    with serving(OPERATIONS, service=lambda_.service) as server:
        # The port is known only now.
        object.__setattr__(lambda_.service, "endpoint", server.url)
        yield Caller(server.client())


def test_layers(aws: Caller) -> None:
    published = aws(
        201,
        "publish_layer_version",
        LayerName="deps",
        Content={"ZipFile": ZIP},
        Description="d",
        CompatibleRuntimes=["python3.12"],
        CompatibleArchitectures=["arm64"],
        LicenseInfo="MIT",
    )
    digest = base64.b64encode(hashlib.sha256(ZIP).digest()).decode()
    assert published["Content"]["CodeSha256"] == digest
    arn = published["LayerVersionArn"]
    assert arn == f"{ARN}:layer:deps:1"
    shown = aws(200, "get_layer_version", LayerName=f"{ARN}:layer:deps", VersionNumber=1)
    with urllib.request.urlopen(shown["Content"]["Location"]) as answer:
        assert answer.read() == ZIP
    by_arn = aws(200, "get_layer_version_by_arn", Arn=arn)
    assert {**by_arn, "Content": None} == {**shown, "Content": None} == {**published, "Content": None}
    aws(201, "publish_layer_version", LayerName="deps", Content={"ZipFile": ZIP})
    pages = aws.client.get_paginator("list_layer_versions").paginate(
        LayerName="deps", PaginationConfig={"PageSize": 1}
    )
    assert [[version["Version"] for version in page["LayerVersions"]] for page in pages] == [[2], [1]]
    (layer,) = aws(200, "list_layers", CompatibleRuntime="python3.12", CompatibleArchitecture="arm64")[
        "Layers"
    ]
    assert layer["LatestMatchingVersion"]["LayerVersionArn"] == arn

    which = {"LayerName": "deps", "VersionNumber": 1}
    grant = {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"}
    added = aws(201, "add_layer_version_permission", **which, **grant)
    policy = aws(200, "get_layer_version_policy", **which)
    assert json.loads(policy["Policy"])["Statement"] == [json.loads(added["Statement"])]
    change = {**which, "StatementId": "s", "RevisionId": "old"}
    aws.refused(412, "PreconditionFailedException", "remove_layer_version_permission", **change)
    aws.refused(409, "ResourceConflictException", "add_layer_version_permission", **which, **grant)
    aws(204, "remove_layer_version_permission", **{**change, "RevisionId": policy["RevisionId"]})
    aws.refused(404, "ResourceNotFoundException", "get_layer_version_policy", **which)
    aws(204, "delete_layer_version", **which)
    aws.refused(404, "ResourceNotFoundException", "get_layer_version", **which)
    broken = {"LayerName": "deps", "Content": {"ZipFile": b"no zip"}}
    assert aws.refused(400, "InvalidParameterValueException", "publish_layer_version", **broken).startswith(
        "Could not unzip uploaded file."
    )
    aws.refused(400, "InvalidParameterValueException", "get_layer_version", LayerName="deps", VersionNumber=0)


def test_policies(aws: Caller) -> None:
    which = {"FunctionName": FUNCTION, "Qualifier": "live"}
    grant = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    added = aws(201, "add_permission", **which, **grant, InvokedViaFunctionUrl=True)
    policy = aws(200, "get_policy", FunctionName="orders:live")
    assert json.loads(policy["Policy"])["Statement"] == [json.loads(added["Statement"])]
    aws.refused(
        412, "PreconditionFailedException", "remove_permission", **which, StatementId="s3", RevisionId="old"
    )
    aws.refused(409, "ResourceConflictException", "add_permission", **which, **grant)
    aws(204, "remove_permission", **which, StatementId="s3", RevisionId=policy["RevisionId"])
    aws.refused(404, "ResourceNotFoundException", "get_policy", **which)
    large = {**grant, "SourceArn": "arn:aws:s3:::" + "x" * 9_900}
    for statement in "ab":
        aws(201, "add_permission", **which, **{**large, "StatementId": statement})
    aws.refused(400, "PolicyLengthExceededException", "add_permission", **which, **large)


def test_tags(aws: Caller) -> None:
    aws(204, "tag_resource", Resource=FUNCTION, Tags={"team": "späti", "empty": "", "gone": "x"})
    aws(204, "untag_resource", Resource=FUNCTION, TagKeys=["gone", "unknown"])
    assert aws(200, "list_tags", Resource=FUNCTION) == {"Tags": {"team": "späti", "empty": ""}}
    for operation, members in (("list_tags", {}), ("tag_resource", {"Tags": {"a": "b"}})):
        message = aws.refused(
            404, "ResourceNotFoundException", operation, Resource=f"{ARN}:function:nope", **members
        )
        assert message == f"Function not found: {ARN}:function:nope"


def test_concurrency(aws: Caller, lambda_: Harness) -> None:
    assert aws(200, "get_function_concurrency", FunctionName="orders") == {}
    document = {"ReservedConcurrentExecutions": 0}
    assert aws(200, "put_function_concurrency", FunctionName="orders", **document) == document
    assert aws(200, "get_function_concurrency", FunctionName="orders") == document
    aws(204, "delete_function_concurrency", FunctionName="orders")
    too_much = {"FunctionName": "orders", "ReservedConcurrentExecutions": 901}
    aws.refused(400, "InvalidParameterValueException", "put_function_concurrency", **too_much)

    which = {"FunctionName": "orders", "Qualifier": "live"}
    answer = aws(202, "put_provisioned_concurrency_config", **which, ProvisionedConcurrentExecutions=2)
    assert answer.pop("LastModified").endswith("+0000")
    begun = {
        "RequestedProvisionedConcurrentExecutions": 2,
        "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
    }
    assert answer == begun
    lambda_.environments.progress["orders", "live"] = ProvisionedEnvironments(2, 2)
    assert aws(200, "get_provisioned_concurrency_config", **which)["Status"] == "READY"
    (listed,) = aws(200, "list_provisioned_concurrency_configs", FunctionName="orders")[
        "ProvisionedConcurrencyConfigs"
    ]
    assert listed["FunctionArn"] == f"{FUNCTION}:live"
    conflicting = {"FunctionName": "orders", "Qualifier": "1", "ProvisionedConcurrentExecutions": 1}
    aws.refused(409, "ResourceConflictException", "put_provisioned_concurrency_config", **conflicting)
    limits = aws(200, "get_account_settings")
    assert limits["AccountLimit"]["UnreservedConcurrentExecutions"] == 998
    assert limits["AccountUsage"]["FunctionCount"] == 1
    aws(204, "delete_provisioned_concurrency_config", **which)
    aws.refused(
        404, "ProvisionedConcurrencyConfigNotFoundException", "get_provisioned_concurrency_config", **which
    )


def test_event_invoke_configs(aws: Caller) -> None:
    destination = {"OnFailure": {"Destination": "arn:aws:sqs:eu-west-1:123456789012:failed"}}
    answer = aws(
        200,
        "put_function_event_invoke_config",
        FunctionName="orders",
        MaximumRetryAttempts=0,
        DestinationConfig=destination,
    )
    modified = answer.pop("LastModified")
    assert abs(modified - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(minutes=5)
    assert answer == {
        "FunctionArn": f"{FUNCTION}:$LATEST",
        "MaximumRetryAttempts": 0,
        "DestinationConfig": {"OnSuccess": {}, **destination},
    }
    change = {"FunctionName": "orders", "MaximumEventAgeInSeconds": 60}
    changed = aws(200, "update_function_event_invoke_config", **change)
    assert (changed["MaximumRetryAttempts"], changed["MaximumEventAgeInSeconds"]) == (0, 60)
    assert aws(200, "get_function_event_invoke_config", FunctionName="orders") == changed
    listed = aws(200, "list_function_event_invoke_configs", FunctionName="orders")
    assert listed == {"FunctionEventInvokeConfigs": [changed]}
    aws(204, "delete_function_event_invoke_config", FunctionName="orders")
    aws.refused(404, "ResourceNotFoundException", "get_function_event_invoke_config", FunctionName="orders")
    aws.refused(
        400, "InvalidParameterValueException", "put_function_event_invoke_config", FunctionName="orders"
    )


def test_function_urls(aws: Caller) -> None:
    cors = {"AllowOrigins": ["*"], "AllowCredentials": False, "MaxAge": 0}
    created = aws(201, "create_function_url_config", FunctionName="orders", AuthType="NONE", Cors=cors)
    assert created["Cors"] == cors
    shown = aws(200, "get_function_url_config", FunctionName="orders")
    assert shown == created | {"InvokeMode": "BUFFERED", "LastModifiedTime": created["CreationTime"]}
    changed = aws(
        200, "update_function_url_config", FunctionName="orders", InvokeMode="RESPONSE_STREAM", Cors={}
    )
    assert (changed["FunctionUrl"], changed["InvokeMode"]) == (created["FunctionUrl"], "RESPONSE_STREAM")
    (listed,) = aws(200, "list_function_url_configs", FunctionName="orders")["FunctionUrlConfigs"]
    assert "Cors" not in listed
    duplicate = {"FunctionName": "orders", "AuthType": "NONE"}
    aws.refused(409, "ResourceConflictException", "create_function_url_config", **duplicate)
    aws(204, "delete_function_url_config", FunctionName="orders")
    aws.refused(404, "ResourceNotFoundException", "get_function_url_config", FunctionName="orders")
    for qualifier in ("1", "$LATEST"):
        with pytest.raises(aws.client.exceptions.ClientError, match="ValidationException"):
            aws.client.create_function_url_config(FunctionName="orders", Qualifier=qualifier, AuthType="NONE")


def test_code_signing(aws: Caller) -> None:
    config = aws(201, "create_code_signing_config", AllowedPublishers=PUBLISHERS, Tags={"a": "b"})[
        "CodeSigningConfig"
    ]
    arn = config["CodeSigningConfigArn"]
    assert aws(200, "list_tags", Resource=arn) == {"Tags": {"a": "b"}}
    which = {"CodeSigningConfigArn": arn}
    assert aws(200, "get_code_signing_config", **which)["CodeSigningConfig"] == config
    changed = aws(200, "update_code_signing_config", **which, Description="ours")["CodeSigningConfig"]
    assert aws(200, "list_code_signing_configs") == {"CodeSigningConfigs": [changed]}
    assert aws(200, "put_function_code_signing_config", **which, FunctionName="orders") == {
        "CodeSigningConfigArn": arn,
        "FunctionName": "orders",
    }
    assert aws(200, "get_function_code_signing_config", FunctionName="orders")["CodeSigningConfigArn"] == arn
    assert aws(200, "list_functions_by_code_signing_config", **which) == {"FunctionArns": [FUNCTION]}
    aws.refused(409, "ResourceConflictException", "delete_code_signing_config", **which)
    aws(204, "delete_function_code_signing_config", FunctionName="orders")
    assert aws(200, "get_function_code_signing_config", FunctionName="orders") == {}
    aws(204, "delete_code_signing_config", **which)
    aws.refused(404, "ResourceNotFoundException", "get_code_signing_config", **which)
    put = {**which, "FunctionName": "orders"}
    aws.refused(404, "CodeSigningConfigNotFoundException", "put_function_code_signing_config", **put)


def test_settings(aws: Caller) -> None:
    assert aws(200, "get_function_recursion_config", FunctionName="orders") == {"RecursiveLoop": "Terminate"}
    allowed = {"RecursiveLoop": "Allow"}
    assert aws(200, "put_function_recursion_config", FunctionName="orders", **allowed) == allowed
    assert aws(200, "get_function_recursion_config", FunctionName="orders") == allowed
    managed = {"UpdateRuntimeOn": "FunctionUpdate"}
    shown = {**managed, "FunctionArn": f"{FUNCTION}:1"}
    which = {"FunctionName": "orders", "Qualifier": "1"}
    assert aws(200, "put_runtime_management_config", **which, **managed) == shown
    assert aws(200, "get_runtime_management_config", **which) == shown
    aws.refused(404, "ResourceNotFoundException", "get_runtime_management_config", FunctionName="nope")
