"""Reserved and provisioned concurrency, and the account they are taken from (spec lambda-service 7.3, 7.4, 2.15)."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from caloric.local.environments.interface import ProvisionedEnvironments
from caloric.local.service.account import get_account_settings
from caloric.local.service.aliases import create_alias
from caloric.local.service.concurrency import (
    delete_function_concurrency,
    delete_provisioned_concurrency_config,
    get_function_concurrency,
    get_provisioned_concurrency_config,
    list_provisioned_concurrency_configs,
    put_function_concurrency,
    put_provisioned_concurrency_config,
)
from caloric.local.service.layers import publish_layer_version
from caloric.local.service.versions import publish_version
from tests.local.service.harness import ARN, Harness, zipped

FUNCTION = f"{ARN}:function:orders"


@pytest.fixture
def lambda_(lambda_: Harness) -> Harness:
    lambda_.function("orders", versions=2, live="1", next="2", latest="$LATEST")
    lambda_.function("other", versions=1)
    return lambda_


def reserve(lambda_: Harness, reserved: int, name: str = "orders") -> dict[str, Any]:
    return lambda_(put_function_concurrency, FunctionName=name, ReservedConcurrentExecutions=reserved)


def provision(lambda_: Harness, qualifier: str, count: int, name: str = "orders") -> dict[str, Any]:
    return lambda_(
        put_provisioned_concurrency_config,
        FunctionName=name,
        Qualifier=qualifier,
        ProvisionedConcurrentExecutions=count,
    )


def not_provisioned(
    lambda_: Harness, qualifier: str, count: int, name: str = "orders"
) -> tuple[str, str | None]:
    return lambda_.refused(
        put_provisioned_concurrency_config,
        FunctionName=name,
        Qualifier=qualifier,
        ProvisionedConcurrentExecutions=count,
    )


def unreserved(lambda_: Harness) -> int:
    count: int = lambda_(get_account_settings)["AccountLimit"]["UnreservedConcurrentExecutions"]
    return count


# ---- reserved --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reserved", [0, 1, 900])
def test_what_is_reserved_is_shown_and_the_environments_know(lambda_: Harness, reserved: int) -> None:
    document = {"ReservedConcurrentExecutions": reserved}
    assert reserve(lambda_, reserved) == document
    assert lambda_(get_function_concurrency, FunctionName="orders") == document
    assert lambda_.environments.reserved == {"orders": reserved}
    assert unreserved(lambda_) == 1000 - reserved


def test_nothing_is_reserved_at_first_and_after_giving_it_back(lambda_: Harness) -> None:
    assert lambda_(get_function_concurrency, FunctionName="orders") == {}
    assert lambda_(delete_function_concurrency, FunctionName="orders") == {}
    assert lambda_.environments.reserved == {}
    reserve(lambda_, 5)
    assert lambda_(delete_function_concurrency, FunctionName="orders") == {}
    assert lambda_(get_function_concurrency, FunctionName="orders") == {}
    assert lambda_.environments.reserved == {}
    assert unreserved(lambda_) == 1000


def test_100_must_stay_unreserved(lambda_: Harness) -> None:
    refusal = (
        "InvalidParameterValueException",
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
        "below its minimum value of [100].",
    )

    def refused(reserved: int) -> tuple[str, str | None]:
        return lambda_.refused(
            put_function_concurrency, FunctionName="orders", ReservedConcurrentExecutions=reserved
        )

    assert refused(901) == refused(1001) == refusal
    reserve(lambda_, 400, "other")
    assert refused(501) == refusal
    reserve(lambda_, 500)
    # What the function has already reserved is not counted twice.
    reserve(lambda_, 499)
    assert refused(501) == refusal
    assert lambda_.environments.reserved == {"other": 400, "orders": 499}


@pytest.mark.parametrize(
    "operation", [put_function_concurrency, get_function_concurrency, delete_function_concurrency]
)
def test_concurrency_is_reserved_for_whole_functions(lambda_: Harness, operation: Any) -> None:
    assert lambda_.refused(operation, FunctionName=f"{FUNCTION}:live", ReservedConcurrentExecutions=1) == (
        "InvalidParameterValueException",
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN.",
    )


@pytest.mark.parametrize(
    ("operation", "suffix"),
    [
        (put_function_concurrency, ":$LATEST"),
        (get_function_concurrency, ""),
        (delete_function_concurrency, ""),
    ],
)
def test_nothing_is_reserved_for_a_function_that_does_not_exist(
    lambda_: Harness, operation: Any, suffix: str
) -> None:
    assert lambda_.refused(operation, FunctionName="nope", ReservedConcurrentExecutions=1) == (
        "ResourceNotFoundException",
        f"Function not found: {ARN}:function:nope{suffix}",
    )


def test_not_less_is_reserved_than_provisioned(lambda_: Harness) -> None:
    provision(lambda_, "1", 2)
    assert lambda_.refused(
        put_function_concurrency, FunctionName="orders", ReservedConcurrentExecutions=1
    ) == (
        "InvalidParameterValueException",
        " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2].",
    )
    reserve(lambda_, 2)


def test_of_reservations_made_at_once_100_stay_unreserved(lambda_: Harness) -> None:
    names = [f"f{number}" for number in range(12)]
    for name in names:
        lambda_.function(name)

    def attempt(name: str) -> bool:
        try:
            reserve(lambda_, 100, name)
        except Exception:
            return False
        return True

    with ThreadPoolExecutor(12) as threads:
        assert sum(threads.map(attempt, names)) == 9
    assert unreserved(lambda_) == 100


# ---- provisioned -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qualifier", ["1", "live"])
def test_provisioning_begins_and_becomes_ready(lambda_: Harness, qualifier: str) -> None:
    which = {"FunctionName": "orders", "Qualifier": qualifier}
    answer = provision(lambda_, qualifier, 3)
    modified = answer.pop("LastModified")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000", modified)
    assert answer == {
        "RequestedProvisionedConcurrentExecutions": 3,
        "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
    }
    assert lambda_.environments.provisions == {("orders", qualifier): 3}

    lambda_.environments.progress["orders", qualifier] = ProvisionedEnvironments(allocated=3, available=2)
    answer = lambda_(get_provisioned_concurrency_config, **which)
    assert answer == {
        "RequestedProvisionedConcurrentExecutions": 3,
        "AvailableProvisionedConcurrentExecutions": 2,
        "AllocatedProvisionedConcurrentExecutions": 3,
        "Status": "IN_PROGRESS",
        "LastModified": modified,
    }

    lambda_.environments.progress["orders", qualifier] = ProvisionedEnvironments(allocated=3, available=3)
    answer = lambda_(get_provisioned_concurrency_config, **which)
    assert answer["Status"] == "READY"
    listed = lambda_(list_provisioned_concurrency_configs, FunctionName="orders")
    (config,) = listed["ProvisionedConcurrencyConfigs"]
    assert config.pop("StatusReason") is None
    assert config == {"FunctionArn": f"{FUNCTION}:{qualifier}", **answer}


def test_provisioning_fails_where_the_environments_say_so(lambda_: Harness) -> None:
    provision(lambda_, "1", 2)
    lambda_.environments.progress["orders", "1"] = ProvisionedEnvironments(
        1, 0, "FUNCTION_ERROR_INIT_FAILURE"
    )
    answer = lambda_(get_provisioned_concurrency_config, FunctionName="orders", Qualifier="1")
    assert (answer["Status"], answer["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")


def test_provisioning_less_shows_no_more_than_is_requested(lambda_: Harness) -> None:
    provision(lambda_, "1", 5)
    lambda_.environments.progress["orders", "1"] = ProvisionedEnvironments(5, 5)
    answer = provision(lambda_, "1", 2)
    assert answer["Status"] == "READY"
    assert answer["AvailableProvisionedConcurrentExecutions"] == 2
    assert answer["AllocatedProvisionedConcurrentExecutions"] == 2
    assert lambda_.environments.provisions == {("orders", "1"): 2}


def test_provisioning_ends(lambda_: Harness) -> None:
    provision(lambda_, "1", 2)
    for _ in range(2):
        assert lambda_(delete_provisioned_concurrency_config, FunctionName="orders", Qualifier="1") == {}
    assert lambda_.environments.provisions == {}
    assert lambda_.refused(get_provisioned_concurrency_config, FunctionName="orders", Qualifier="1") == (
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
    )
    assert unreserved(lambda_) == 1000


def test_provisioned_configs_are_listed_page_by_page(lambda_: Harness) -> None:
    provision(lambda_, "1", 1)
    provision(lambda_, "next", 2)
    first = lambda_(list_provisioned_concurrency_configs, FunctionName="orders", MaxItems=1)
    second = lambda_(
        list_provisioned_concurrency_configs, FunctionName="orders", MaxItems=1, Marker=first["NextMarker"]
    )
    arns = [page["ProvisionedConcurrencyConfigs"][0]["FunctionArn"] for page in (first, second)]
    assert arns == [f"{FUNCTION}:1", f"{FUNCTION}:next"]
    assert "NextMarker" not in second
    assert lambda_(list_provisioned_concurrency_configs, FunctionName="other") == {
        "ProvisionedConcurrencyConfigs": []
    }
    assert lambda_.refused(list_provisioned_concurrency_configs, FunctionName="nope") == (
        "ResourceNotFoundException",
        f"Function not found: {ARN}:function:nope",
    )


@pytest.mark.parametrize("qualifier", ["$LATEST", "latest"])
def test_nothing_is_provisioned_for_what_is_not_published(lambda_: Harness, qualifier: str) -> None:
    assert not_provisioned(lambda_, qualifier, 1) == (
        "InvalidParameterValueException",
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
    )


@pytest.mark.parametrize(
    "operation", [get_provisioned_concurrency_config, delete_provisioned_concurrency_config]
)
def test_latest_never_has_provisioned_concurrency(lambda_: Harness, operation: Any) -> None:
    assert lambda_.refused(operation, FunctionName="orders", Qualifier="$LATEST") == (
        "InvalidParameterValueException",
        "The function resource provided must be an alias or a published version.",
    )


@pytest.mark.parametrize(
    ("name", "qualifier", "message"),
    [
        ("orders", "gone", f"Cannot find alias arn: {FUNCTION}:gone"),
        ("orders", "10", f"Function not found: {FUNCTION}:10"),
        ("nope", "gone", f"Cannot find alias arn: {ARN}:function:nope:gone"),
        ("nope", "1", f"Function not found: {ARN}:function:nope:1"),
    ],
)
@pytest.mark.parametrize(
    "operation",
    [
        put_provisioned_concurrency_config,
        get_provisioned_concurrency_config,
        delete_provisioned_concurrency_config,
    ],
)
def test_what_does_not_exist_has_none_provisioned(
    lambda_: Harness, operation: Any, name: str, qualifier: str, message: str
) -> None:
    refusal = lambda_.refused(
        operation, FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=1
    )
    assert refusal == ("ResourceNotFoundException", message)


def test_snap_start_excludes_provisioned_concurrency(lambda_: Harness) -> None:
    lambda_.created("snapped", SnapStart={"ApplyOn": "PublishedVersions"})
    lambda_(publish_version, FunctionName="snapped")
    lambda_.settled("snapped", "1")
    lambda_(create_alias, FunctionName="snapped", Name="live", FunctionVersion="1")
    for qualifier in ("1", "live"):
        assert not_provisioned(lambda_, qualifier, 1, "snapped") == (
            "InvalidParameterValueException",
            "Provisioned concurrency is not supported with SnapStart, which version 1 has.",
        )


def test_a_version_is_provisioned_under_one_name(lambda_: Harness) -> None:
    provision(lambda_, "1", 1)
    assert not_provisioned(lambda_, "live", 1) == (
        "ResourceConflictException",
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
    )
    provision(lambda_, "next", 1)
    assert not_provisioned(lambda_, "2", 1) == (
        "ResourceConflictException",
        "Version is pointed by a Provisioned Concurrency alias",
    )
    # The same name again is a change.
    provision(lambda_, "1", 2)
    provision(lambda_, "next", 2)


def test_provisioned_concurrency_is_the_account_s(lambda_: Harness) -> None:
    provision(lambda_, "1", 300)
    assert unreserved(lambda_) == 700
    assert not_provisioned(lambda_, "1", 701, "other") == (
        "InvalidParameterValueException",
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [700].",
    )
    assert not_provisioned(lambda_, "1", 601, "other") == (
        "InvalidParameterValueException",
        "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
        "minimum value of [100].",
    )
    provision(lambda_, "1", 600, "other")
    assert unreserved(lambda_) == 100
    # What is provisioned already is not counted twice.
    provision(lambda_, "1", 599, "other")


def test_provisioned_concurrency_is_part_of_what_the_function_reserved(lambda_: Harness) -> None:
    reserve(lambda_, 10)
    provision(lambda_, "1", 6)
    assert unreserved(lambda_) == 990
    assert not_provisioned(lambda_, "2", 5) == (
        "InvalidParameterValueException",
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
    )
    provision(lambda_, "2", 4)
    lambda_(delete_function_concurrency, FunctionName="orders")
    assert unreserved(lambda_) == 990
    reserve(lambda_, 900)
    assert unreserved(lambda_) == 100


def test_environments_are_told_again_after_a_restart(lambda_: Harness) -> None:
    reserve(lambda_, 10)
    provision(lambda_, "1", 6)
    provision(lambda_, "1", 2, "other")
    lambda_.close()
    again = Harness(lambda_.folder)
    again.close()
    assert again.environments.reserved == {"orders": 10}
    assert again.environments.provisions == {("orders", "1"): 6, ("other", "1"): 2}


# ---- account ---------------------------------------------------------------------------------------------------------


def test_account_settings_have_the_limits_and_their_use(lambda_: Harness) -> None:
    archive = zipped({"python/deps.py": ""})
    published = lambda_(publish_layer_version, LayerName="deps", Content={"ZipFile": archive})
    assert published["Content"]["CodeSize"] == len(archive)
    with lambda_.service.store.read() as transaction:
        sizes = [document["CodeSize"] for _, document in transaction.scan("version")]
    assert len(sizes) == 5
    assert lambda_(get_account_settings) == {
        "AccountLimit": {
            "TotalCodeSize": 80_530_636_800,
            "CodeSizeUnzipped": 262_144_000,
            "CodeSizeZipped": 52_428_800,
            "ConcurrentExecutions": 1000,
            "UnreservedConcurrentExecutions": 1000,
        },
        "AccountUsage": {"TotalCodeSize": sum(sizes) + len(archive), "FunctionCount": 2},
    }
