"""Aliases and weighted routing (spec lambda-service 2.14)."""

from __future__ import annotations

from typing import Any

import pytest

from caloric.local.service.aliases import create_alias, delete_alias, get_alias, list_aliases, update_alias
from caloric.local.service.functions import get_function_configuration, update_function_configuration
from caloric.local.service.versions import publish_version
from tests.local.service.recording import ARN, ROLE, Lambda


@pytest.fixture
def aws(aws: Lambda) -> Lambda:
    """The service with the function `orders` in versions 1 and 2, and 3 of another role."""
    aws.created()
    for change in ({"Timeout": 4}, {"Timeout": 5}, {"Role": f"{ROLE}-2"}):
        aws(update_function_configuration, FunctionName="orders", **change)
        aws.settled()
        aws(publish_version, FunctionName="orders")
    return aws


def weighted(**weights: float) -> dict[str, Any]:
    return {"AdditionalVersionWeights": {version.lstrip("v"): weight for version, weight in weights.items()}}


def create(aws: Lambda, name: str = "live", version: str = "1", **members: Any) -> dict[str, Any]:
    return aws(create_alias, FunctionName="orders", Name=name, FunctionVersion=version, **members)


def test_an_alias_leads_to_a_version(aws: Lambda) -> None:
    answer = create(aws)
    assert answer == {
        "AliasArn": f"{ARN}:orders:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "",
        "RevisionId": answer["RevisionId"],
    }
    assert aws(get_alias, FunctionName="orders", Name="live") == answer
    assert aws.environments.routes["orders", "live"] == {"1": 1}
    configuration = aws(get_function_configuration, FunctionName="orders:live")
    version = aws(get_function_configuration, FunctionName="orders:1")
    assert configuration == version | {"FunctionArn": f"{ARN}:orders:live"}


def test_a_part_goes_to_another_version(aws: Lambda) -> None:
    routing = weighted(v2=0.2)
    assert create(aws, RoutingConfig=routing)["RoutingConfig"] == routing
    assert aws.environments.routes["orders", "live"] == {"1": pytest.approx(0.8), "2": 0.2}


def test_what_is_not_given_stays(aws: Lambda) -> None:
    before = create(aws, Description="a", RoutingConfig=weighted(v2=0.2))
    after = aws(update_alias, FunctionName="orders", Name="live", Description="b")
    assert after == before | {"Description": "b", "RevisionId": after["RevisionId"]}
    assert after["RevisionId"] != before["RevisionId"]
    cleared = aws(update_alias, FunctionName="orders", Name="live", FunctionVersion="2", RoutingConfig={})
    assert "RoutingConfig" not in cleared
    assert aws.environments.routes["orders", "live"] == {"2": 1}


def test_a_stale_revision_is_refused(aws: Lambda) -> None:
    stale = create(aws)["RevisionId"]
    latest = aws(update_alias, FunctionName="orders", Name="live", FunctionVersion="2")["RevisionId"]
    name, message = aws.refused(update_alias, FunctionName="orders", Name="live", RevisionId=stale)
    assert name == "PreconditionFailedException"
    assert "Call the GetFunction/GetAlias API" in (message or "")
    aws(update_alias, FunctionName="orders", Name="live", RevisionId=latest)


def test_latest_may_have_an_alias(aws: Lambda) -> None:
    assert create(aws, version="$LATEST", RoutingConfig=weighted())["FunctionVersion"] == "$LATEST"
    assert aws.environments.routes["orders", "live"] == {"$LATEST": 1}


@pytest.mark.parametrize(
    ("version", "routing", "error"),
    [
        ("10", {}, ("ResourceNotFoundException", f"Function not found: {ARN}:orders:10")),
        ("1", weighted(v10=0.1), ("ResourceNotFoundException", f"Function not found: {ARN}:orders:10")),
        (
            "1",
            weighted(v2=0.1, v3=0.1),
            (
                "InvalidParameterValueException",
                "Number of items in AdditionalVersionWeights cannot be greater than 1",
            ),
        ),
        (
            "1",
            weighted(v1=0.5),
            (
                "InvalidParameterValueException",
                "Invalid function version 1. Function version 1 is already included in routing configuration.",
            ),
        ),
        (
            "$LATEST",
            weighted(v1=0.5),
            (
                "InvalidParameterValueException",
                "$LATEST is not supported for an alias pointing to more than 1 version",
            ),
        ),
        (
            "1",
            weighted(v3=0.5),
            (
                "InvalidParameterValueException",
                "The versions 1 and 3 cannot share an alias: their Role differs.",
            ),
        ),
    ],
)
def test_where_an_alias_cannot_lead(
    aws: Lambda, version: str, routing: dict[str, Any], error: tuple[str, str]
) -> None:
    alias = {"FunctionName": "orders", "Name": "live"}
    given = {"FunctionVersion": version, "RoutingConfig": routing}
    assert aws.refused(create_alias, **alias, **given) == error
    before = create(aws, version="2")
    assert aws.refused(update_alias, **alias, **given) == error
    assert aws(get_alias, **alias) == before
    assert aws.environments.routes["orders", "live"] == {"2": 1}


def test_what_is_not_there(aws: Lambda) -> None:
    alias = {"FunctionName": "orders", "Name": "live"}
    missing = f"{ARN}:orders:live"
    assert aws.refused(get_alias, **alias) == (
        "ResourceNotFoundException",
        f"Cannot find alias arn: {missing}",
    )
    assert aws.refused(update_alias, **alias) == ("ResourceNotFoundException", f"Alias not found: {missing}")
    assert aws(delete_alias, **alias) == {}
    unknown = {"FunctionName": "bills", "Name": "live", "FunctionVersion": "1"}
    not_found = "ResourceNotFoundException"
    assert aws.refused(create_alias, **unknown) == (not_found, f"Function not found: {ARN}:bills:1")
    assert aws.refused(list_aliases, FunctionName="bills") == (not_found, f"Function not found: {ARN}:bills")


def test_a_name_is_taken_once(aws: Lambda) -> None:
    create(aws)
    error = aws.refused(create_alias, FunctionName="orders", Name="live", FunctionVersion="2")
    assert error == ("ResourceConflictException", f"Alias already exists: {ARN}:orders:live")


def test_aliases_are_listed_by_name(aws: Lambda) -> None:
    for name, version in (("c", "1"), ("a", "2"), ("b", "1")):
        create(aws, name, version)
    first = aws(list_aliases, FunctionName="orders", MaxItems=2)
    assert [alias["AliasArn"] for alias in first["Aliases"]] == [f"{ARN}:orders:a", f"{ARN}:orders:b"]
    second = aws(list_aliases, FunctionName="orders", Marker=first["NextMarker"])
    assert [alias["Name"] for alias in second["Aliases"]] == ["c"]
    of_version = aws(list_aliases, FunctionName="orders", FunctionVersion="1")["Aliases"]
    assert [alias["Name"] for alias in of_version] == ["b", "c"]


def test_a_deleted_alias_leaves_its_url_only(aws: Lambda) -> None:
    create(aws)
    arn = f"{ARN}:orders:live"
    with aws.service.store.write() as transaction:
        transaction.put("policy", arn, document={})
        transaction.put("function_url", "orders", "live", document={})
    assert aws(delete_alias, FunctionName="orders", Name="live") == {}
    with aws.service.store.read() as transaction:
        assert [transaction.keys(table) for table in ("alias", "policy")] == [[], []]
        # With a new alias of the name it works again, under the same address (spec lambda-service 4.1).
        assert transaction.keys("function_url") == [("orders", "live")]
    assert aws.environments.routes == {}
