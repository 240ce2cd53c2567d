"""Code signing configs (spec lambda-service 2.11)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from caloric.local.service.code_signing import (
    create_code_signing_config,
    delete_code_signing_config,
    delete_function_code_signing_config,
    get_code_signing_config,
    get_function_code_signing_config,
    list_code_signing_configs,
    list_functions_by_code_signing_config,
    put_function_code_signing_config,
    update_code_signing_config,
)
from tests.local.service.harness import ARN, Harness

PUBLISHERS = {"SigningProfileVersionArns": ["arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p"]}
UNKNOWN = f"{ARN}:code-signing-config:csc-0123456789abcdefg"
NOT_FOUND = (
    "ResourceNotFoundException",
    f"The Lambda code signing configuration {UNKNOWN} can not be found.",
)
NO_FUNCTION = ("ResourceNotFoundException", f"Function not found: {ARN}:function:nope")


@pytest.fixture
def lambda_(lambda_: Harness) -> Harness:
    lambda_.function("orders", versions=1, live="1")
    return lambda_


def create(lambda_: Harness, **members: Any) -> dict[str, Any]:
    answer = lambda_(create_code_signing_config, AllowedPublishers=PUBLISHERS, **members)
    assert set(answer) == {"CodeSigningConfig"}
    config: dict[str, Any] = answer["CodeSigningConfig"]
    return config


def attach(lambda_: Harness, arn: str, name: str = "orders") -> dict[str, Any]:
    return lambda_(put_function_code_signing_config, FunctionName=name, CodeSigningConfigArn=arn)


def test_a_config_is_made_and_shown(lambda_: Harness) -> None:
    policies = {"UntrustedArtifactOnDeployment": "Enforce"}
    config = create(lambda_, Description="ours", CodeSigningPolicies=policies)
    identifier = config["CodeSigningConfigId"]
    assert re.fullmatch("csc-[a-z0-9]{17}", identifier)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", config["LastModified"])
    assert config == {
        "CodeSigningConfigId": identifier,
        "CodeSigningConfigArn": f"{ARN}:code-signing-config:{identifier}",
        "Description": "ours",
        "AllowedPublishers": PUBLISHERS,
        "CodeSigningPolicies": policies,
        "LastModified": config["LastModified"],
    }
    arn = config["CodeSigningConfigArn"]
    assert lambda_(get_code_signing_config, CodeSigningConfigArn=arn) == {"CodeSigningConfig": config}


def test_untrusted_code_is_warned_of_by_default(lambda_: Harness) -> None:
    assert create(lambda_)["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    assert create(lambda_, CodeSigningPolicies={})["CodeSigningPolicies"] == {
        "UntrustedArtifactOnDeployment": "Warn"
    }


def test_a_change_keeps_what_it_leaves_out(lambda_: Harness) -> None:
    config = create(lambda_, Description="ours")
    arn = config["CodeSigningConfigArn"]

    def update(**members: Any) -> dict[str, Any]:
        changed = lambda_(update_code_signing_config, CodeSigningConfigArn=arn, **members)[
            "CodeSigningConfig"
        ]
        return {**changed, "LastModified": config["LastModified"]}

    assert update() == config
    enforce = {"UntrustedArtifactOnDeployment": "Enforce"}
    assert update(CodeSigningPolicies=enforce) == config | {"CodeSigningPolicies": enforce}
    others = {"SigningProfileVersionArns": ["arn:aws:signer:eu-west-1:123456789012:/signing-profiles/q"]}
    assert update(AllowedPublishers=others, Description="") == config | {
        "CodeSigningPolicies": enforce,
        "AllowedPublishers": others,
        "Description": "",
    }


def test_configs_are_listed_page_by_page(lambda_: Harness) -> None:
    assert lambda_(list_code_signing_configs) == {"CodeSigningConfigs": []}
    made = sorted((create(lambda_) for _ in range(3)), key=lambda config: config["CodeSigningConfigArn"])
    assert lambda_(list_code_signing_configs) == {"CodeSigningConfigs": made}
    first = lambda_(list_code_signing_configs, MaxItems=2)
    second = lambda_(list_code_signing_configs, MaxItems=2, Marker=first["NextMarker"])
    assert first["CodeSigningConfigs"] + second["CodeSigningConfigs"] == made
    assert "NextMarker" not in second


@pytest.mark.parametrize(
    "operation",
    [
        get_code_signing_config,
        update_code_signing_config,
        delete_code_signing_config,
        list_functions_by_code_signing_config,
    ],
)
def test_a_config_that_does_not_exist(lambda_: Harness, operation: Any) -> None:
    assert lambda_.refused(operation, CodeSigningConfigArn=UNKNOWN) == NOT_FOUND


def test_a_function_has_a_config(lambda_: Harness) -> None:
    lambda_.function("other")
    first, second = (create(lambda_)["CodeSigningConfigArn"] for _ in range(2))
    assert lambda_(get_function_code_signing_config, FunctionName="orders") == {}
    attach(lambda_, second)
    assert attach(lambda_, first) == {"CodeSigningConfigArn": first, "FunctionName": "orders"}
    attach(lambda_, first, f"{ARN}:function:other")
    assert lambda_(get_function_code_signing_config, FunctionName="orders") == {
        "CodeSigningConfigArn": first,
        "FunctionName": "orders",
    }
    arns = [f"{ARN}:function:orders", f"{ARN}:function:other"]

    def users(arn: str, **members: Any) -> dict[str, Any]:
        return lambda_(list_functions_by_code_signing_config, CodeSigningConfigArn=arn, **members)

    assert users(first) == {"FunctionArns": arns}
    page = users(first, MaxItems=1)
    assert page["FunctionArns"] + users(first, Marker=page["NextMarker"])["FunctionArns"] == arns
    assert users(second) == {"FunctionArns": []}


def test_a_config_that_is_used_is_not_deleted(lambda_: Harness) -> None:
    arn = create(lambda_)["CodeSigningConfigArn"]
    attach(lambda_, arn)
    name, message = lambda_.refused(delete_code_signing_config, CodeSigningConfigArn=arn)
    assert name == "ResourceConflictException"
    assert arn in str(message)
    for _ in range(2):
        assert lambda_(delete_function_code_signing_config, FunctionName="orders") == {}
    assert lambda_(get_function_code_signing_config, FunctionName="orders") == {}
    assert lambda_(delete_code_signing_config, CodeSigningConfigArn=arn) == {}
    assert lambda_(list_code_signing_configs) == {"CodeSigningConfigs": []}


@pytest.mark.parametrize("name", ["orders", "nope"])
def test_a_function_gets_no_config_that_does_not_exist(lambda_: Harness, name: str) -> None:
    refusal = lambda_.refused(
        put_function_code_signing_config, FunctionName=name, CodeSigningConfigArn=UNKNOWN
    )
    assert refusal == (
        "CodeSigningConfigNotFoundException",
        "The code signing configuration cannot be found. "
        f"Check that the provided configuration is not deleted: {UNKNOWN}.",
    )


def test_a_function_that_does_not_exist_has_no_config(lambda_: Harness) -> None:
    arn = create(lambda_)["CodeSigningConfigArn"]
    for operation in (
        put_function_code_signing_config,
        get_function_code_signing_config,
        delete_function_code_signing_config,
    ):
        assert lambda_.refused(operation, FunctionName="nope", CodeSigningConfigArn=arn) == NO_FUNCTION


def test_images_are_not_signed_this_way(lambda_: Harness) -> None:
    arn = create(lambda_)["CodeSigningConfigArn"]
    with lambda_.service.store.write() as transaction:
        latest = transaction.get("version", "orders", 0) or {}
        transaction.put("version", "orders", 0, document=latest | {"PackageType": "Image"})
    refusal = lambda_.refused(
        put_function_code_signing_config, FunctionName="orders", CodeSigningConfigArn=arn
    )
    assert refusal[0] == "InvalidParameterValueException"
