"""Recursion detection and runtime management (spec lambda-service 3.6, 0.5)."""

from __future__ import annotations

from typing import Any

import pytest

from caloric.local.service.settings import (
    get_function_recursion_config,
    get_runtime_management_config,
    put_function_recursion_config,
    put_runtime_management_config,
)
from tests.local.service.harness import ARN, Harness

FUNCTION = f"{ARN}:function:orders"
RUNTIME = "arn:aws:lambda:eu-west-1::runtime:" + "0" * 64


@pytest.fixture
def lambda_(lambda_: Harness) -> Harness:
    lambda_.function("orders", versions=1, live="1")
    return lambda_


def test_loops_are_ended_unless_they_are_allowed(lambda_: Harness) -> None:
    def shown() -> dict[str, Any]:
        return lambda_(get_function_recursion_config, FunctionName="orders")

    assert shown() == {"RecursiveLoop": "Terminate"}
    for setting in ("Allow", "Terminate"):
        answer = lambda_(put_function_recursion_config, FunctionName=FUNCTION, RecursiveLoop=setting)
        assert answer == shown() == {"RecursiveLoop": setting}


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        (get_function_recursion_config, {}),
        (put_function_recursion_config, {"RecursiveLoop": "Allow"}),
        (get_runtime_management_config, {}),
        (put_runtime_management_config, {"UpdateRuntimeOn": "Auto"}),
    ],
)
def test_a_function_that_does_not_exist_has_no_settings(
    lambda_: Harness, operation: Any, members: dict[str, str]
) -> None:
    assert lambda_.refused(operation, FunctionName="nope", **members) == (
        "ResourceNotFoundException",
        f"Function not found: {ARN}:function:nope",
    )


def manage(lambda_: Harness, **members: Any) -> dict[str, Any]:
    return lambda_(put_runtime_management_config, FunctionName="orders", **members)


def management(lambda_: Harness, **members: Any) -> dict[str, Any]:
    return lambda_(get_runtime_management_config, FunctionName="orders", **members)


def test_runtimes_are_updated_automatically_unless_told_otherwise(lambda_: Harness) -> None:
    assert management(lambda_) == {"UpdateRuntimeOn": "Auto", "FunctionArn": FUNCTION}
    answer = manage(lambda_, UpdateRuntimeOn="FunctionUpdate")
    assert answer == management(lambda_) == {"UpdateRuntimeOn": "FunctionUpdate", "FunctionArn": FUNCTION}
    assert management(lambda_, Qualifier="$LATEST")["UpdateRuntimeOn"] == "FunctionUpdate"


def test_each_version_has_its_own_runtime_management(lambda_: Harness) -> None:
    answer = manage(lambda_, Qualifier="1", UpdateRuntimeOn="Manual", RuntimeVersionArn=RUNTIME)
    assert answer == {
        "UpdateRuntimeOn": "Manual",
        "RuntimeVersionArn": RUNTIME,
        "FunctionArn": f"{FUNCTION}:1",
    }
    assert management(lambda_, Qualifier="1") == answer
    assert management(lambda_)["UpdateRuntimeOn"] == "Auto"
    manage(lambda_, Qualifier="1", UpdateRuntimeOn="Auto")
    assert management(lambda_, Qualifier="1") == {"UpdateRuntimeOn": "Auto", "FunctionArn": f"{FUNCTION}:1"}


@pytest.mark.parametrize(
    "members",
    [
        {"UpdateRuntimeOn": "Manual"},
        {"UpdateRuntimeOn": "Auto", "RuntimeVersionArn": RUNTIME},
        {"UpdateRuntimeOn": "Auto", "Qualifier": "live"},
    ],
)
def test_runtime_management_that_is_refused(lambda_: Harness, members: dict[str, str]) -> None:
    refusal = lambda_.refused(put_runtime_management_config, FunctionName="orders", **members)
    assert refusal[0] == "InvalidParameterValueException"
    assert management(lambda_) == {"UpdateRuntimeOn": "Auto", "FunctionArn": FUNCTION}


def test_versions_that_do_not_exist_have_no_runtime_management(lambda_: Harness) -> None:
    refusal = lambda_.refused(get_runtime_management_config, FunctionName="orders", Qualifier="7")
    assert refusal == ("ResourceNotFoundException", f"Function not found: {FUNCTION}:7")
