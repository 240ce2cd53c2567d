"""Tags (spec lambda-service 2.7)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from caloric.local.service.code_signing import create_code_signing_config, get_code_signing_config
from caloric.local.service.functions import create_function
from caloric.local.service.tags import list_tags, tag_resource, untag_resource
from tests.local.service.harness import ARN, Harness
from tests.local.service.recording import new

FUNCTION = f"{ARN}:function:orders"
PUBLISHERS = {"SigningProfileVersionArns": ["arn:aws:signer:eu-west-1:123456789012:/signing-profiles/p"]}


@pytest.fixture
def lambda_(lambda_: Harness) -> Harness:
    lambda_.function("orders", versions=1, live="1")
    return lambda_


@pytest.fixture(params=["function", "code signing config"])
def arn(request: pytest.FixtureRequest, lambda_: Harness) -> str:
    """The ARN of something that can be tagged."""
    if request.param == "function":
        return FUNCTION
    config: str = lambda_(create_code_signing_config, AllowedPublishers=PUBLISHERS)["CodeSigningConfig"][
        "CodeSigningConfigArn"
    ]
    return config


def tags(lambda_: Harness, arn: str = FUNCTION) -> dict[str, str]:
    answer = lambda_(list_tags, Resource=arn)
    assert set(answer) == {"Tags"}
    found: dict[str, str] = answer["Tags"]
    return found


def test_tags_are_added_replaced_and_removed(lambda_: Harness, arn: str) -> None:
    assert tags(lambda_, arn) == {}
    assert lambda_(tag_resource, Resource=arn, Tags={"a": "1", "b": "2"}) == {}
    lambda_(tag_resource, Resource=arn, Tags={"b": "3", "c": ""})
    assert tags(lambda_, arn) == {"a": "1", "b": "3", "c": ""}
    assert lambda_(untag_resource, Resource=arn, TagKeys=["a", "unknown"]) == {}
    assert tags(lambda_, arn) == {"b": "3", "c": ""}
    lambda_(untag_resource, Resource=arn, TagKeys=["b", "c"])
    assert tags(lambda_, arn) == {}


def test_a_config_is_made_with_tags_and_does_not_show_them(lambda_: Harness) -> None:
    config = lambda_(create_code_signing_config, AllowedPublishers=PUBLISHERS, Tags={"a": "1"})
    arn = config["CodeSigningConfig"]["CodeSigningConfigArn"]
    assert tags(lambda_, arn) == {"a": "1"}
    assert "Tags" not in config["CodeSigningConfig"]
    assert "Tags" not in lambda_(get_code_signing_config, CodeSigningConfigArn=arn)["CodeSigningConfig"]


def test_a_resource_has_50_tags_at_most(lambda_: Harness, arn: str) -> None:
    too_many = ("InvalidParameterValueException", "Number of tags exceeds resource tag limit.")
    many = {f"k{number}": "v" for number in range(51)}
    assert lambda_.refused(tag_resource, Resource=arn, Tags=many) == too_many
    del many["k50"]
    lambda_(tag_resource, Resource=arn, Tags=many)
    lambda_(tag_resource, Resource=arn, Tags={"k0": "other"})
    assert lambda_.refused(tag_resource, Resource=arn, Tags={"one": "more"}) == too_many
    assert len(tags(lambda_, arn)) == 50


def test_a_function_is_not_created_with_more(lambda_: Harness) -> None:
    many = {f"k{number}": "v" for number in range(51)}
    assert lambda_.refused(create_function, **new("another", Tags=many)) == (
        "InvalidParameterValueException",
        "Number of tags exceeds resource tag limit.",
    )
    del many["k50"]
    lambda_.created("another", Tags=many)
    assert tags(lambda_, f"{ARN}:function:another") == many


def test_aws_s_own_keys_and_no_tags_are_refused(lambda_: Harness) -> None:
    for given in ({"aws:cloudformation:stack": "s"}, {}):
        assert (
            lambda_.refused(tag_resource, Resource=FUNCTION, Tags=given)[0]
            == "InvalidParameterValueException"
        )
    assert lambda_.refused(tag_resource, Resource=FUNCTION, Tags={})[1] == (
        "An error occurred and the request cannot be processed."
    )


@pytest.mark.parametrize("qualifier", ["1", "live", "$LATEST", "unknown"])
@pytest.mark.parametrize(
    ("operation", "members"),
    [(tag_resource, {"Tags": {"a": "1"}}), (untag_resource, {"TagKeys": ["a"]}), (list_tags, {})],
)
def test_versions_and_aliases_have_no_tags(
    lambda_: Harness, operation: Any, members: dict[str, Any], qualifier: str
) -> None:
    assert lambda_.refused(operation, Resource=f"{FUNCTION}:{qualifier}", **members) == (
        "InvalidParameterValueException",
        "Tags on function aliases and versions are not supported. Please specify a function ARN.",
    )


UNKNOWN = {
    f"{ARN}:function:nope": f"Function not found: {ARN}:function:nope",
    f"{ARN}:code-signing-config:csc-0123456789abcdefg": (
        f"The Lambda code signing configuration {ARN}:code-signing-config:csc-0123456789abcdefg can not be found."
    ),
    f"{ARN}:event-source-mapping:11111111-2222-3333-4444-555555555555": (
        f"Event source mapping not found: {ARN}:event-source-mapping:11111111-2222-3333-4444-555555555555"
    ),
    f"{ARN}:capacity-provider:c": f"Capacity provider not found: {ARN}:capacity-provider:c",
    "arn:aws:lambda:us-east-1:123456789012:function:orders": (
        "Functions from 'us-east-1' are not reachable in this region ('eu-west-1')"
    ),
}


@pytest.mark.parametrize("arn", UNKNOWN)
@pytest.mark.parametrize(
    ("operation", "members"),
    [(tag_resource, {"Tags": {"a": "1"}}), (untag_resource, {"TagKeys": ["a"]}), (list_tags, {})],
)
def test_what_does_not_exist_has_no_tags(
    lambda_: Harness, operation: Any, members: dict[str, Any], arn: str
) -> None:
    assert lambda_.refused(operation, Resource=arn, **members) == ("ResourceNotFoundException", UNKNOWN[arn])


def test_a_function_is_not_tagged_while_it_is_updated(lambda_: Harness) -> None:
    with lambda_.service.store.write() as transaction:
        latest = transaction.get("version", "orders", 0) or {}
        transaction.put("version", "orders", 0, document=latest | {"LastUpdateStatus": "InProgress"})
    assert lambda_.refused(tag_resource, Resource=FUNCTION, Tags={"a": "1"}) == (
        "ResourceConflictException",
        f"The operation cannot be performed at this time. An update is in progress for resource: {FUNCTION}",
    )


def test_tags_added_at_once_are_all_there(lambda_: Harness) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda number: lambda_(tag_resource, Resource=FUNCTION, Tags={f"k{number}": "v"}), range(32)
            )
        )
    assert len(tags(lambda_)) == 32
