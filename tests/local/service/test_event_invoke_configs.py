"""How asynchronous invocations are handled (spec lambda-service 3.3)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from caloric.local.service.event_invoke_configs import (
    delete_function_event_invoke_config,
    get_function_event_invoke_config,
    list_function_event_invoke_configs,
    put_function_event_invoke_config,
    update_function_event_invoke_config,
)
from tests.local.service.harness import ARN, Harness

FUNCTION = f"{ARN}:function:orders"
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:failed"
NO_FUNCTION = ("ResourceNotFoundException", "The function doesn't exist.")
NOWHERE: dict[str, Any] = {"OnSuccess": {}, "OnFailure": {}}


@pytest.fixture
def lambda_(lambda_: Harness) -> Harness:
    lambda_.function("orders", versions=1, live="1")
    lambda_.function("other")
    return lambda_


def put(lambda_: Harness, name: str = "orders", **members: Any) -> dict[str, Any]:
    return lambda_(put_function_event_invoke_config, FunctionName=name, **members)


def get(lambda_: Harness, name: str = "orders", **members: Any) -> dict[str, Any]:
    return lambda_(get_function_event_invoke_config, FunctionName=name, **members)


def not_configured(arn: str) -> tuple[str, str]:
    return "ResourceNotFoundException", f"The function {arn} doesn't have an EventInvokeConfig"


def test_a_config_is_set_and_shown(lambda_: Harness) -> None:
    begin = time.time()
    answer = put(
        lambda_,
        MaximumRetryAttempts=1,
        MaximumEventAgeInSeconds=3600,
        DestinationConfig={"OnFailure": {"Destination": QUEUE}},
    )
    assert begin - 0.001 <= answer["LastModified"] <= time.time() + 0.001
    assert {name: value for name, value in answer.items() if name != "LastModified"} == {
        "FunctionArn": f"{FUNCTION}:$LATEST",
        "MaximumRetryAttempts": 1,
        "MaximumEventAgeInSeconds": 3600,
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {"Destination": QUEUE}},
    }
    assert get(lambda_) == get(lambda_, Qualifier="$LATEST") == answer


@pytest.mark.parametrize(
    ("name", "qualifier", "shown"),
    [
        ("orders", "1", "1"),
        ("orders", "live", "live"),
        ("orders:live", None, "live"),
        (f"{FUNCTION}:live", "live", "live"),
    ],
)
def test_each_qualifier_has_its_own_config(
    lambda_: Harness, name: str, qualifier: str | None, shown: str
) -> None:
    answer = put(lambda_, name, Qualifier=qualifier, MaximumRetryAttempts=0)
    assert answer["FunctionArn"] == f"{FUNCTION}:{shown}"
    assert get(lambda_, Qualifier=shown) == answer
    assert lambda_.refused(get_function_event_invoke_config, FunctionName="orders") == not_configured(
        f"{FUNCTION}:$LATEST"
    )


def test_put_replaces_and_update_merges(lambda_: Harness) -> None:
    put(lambda_, MaximumRetryAttempts=2, MaximumEventAgeInSeconds=60)
    assert "MaximumEventAgeInSeconds" not in put(lambda_, MaximumRetryAttempts=0)
    put(lambda_, MaximumRetryAttempts=2, MaximumEventAgeInSeconds=60)
    updated = lambda_(update_function_event_invoke_config, FunctionName="orders", MaximumRetryAttempts=0)
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (0, 60)
    destination = {"OnSuccess": {"Destination": QUEUE}}
    updated = lambda_(
        update_function_event_invoke_config, FunctionName="orders", DestinationConfig=destination
    )
    assert (updated["MaximumRetryAttempts"], updated["DestinationConfig"]["OnSuccess"]) == (
        0,
        {"Destination": QUEUE},
    )
    assert get(lambda_) == updated


def test_a_config_is_deleted(lambda_: Harness) -> None:
    put(lambda_, MaximumRetryAttempts=0)
    assert lambda_(delete_function_event_invoke_config, FunctionName="orders") == {}
    for operation in (get_function_event_invoke_config, delete_function_event_invoke_config):
        assert lambda_.refused(operation, FunctionName="orders") == not_configured(f"{FUNCTION}:$LATEST")


def test_configs_are_listed_in_order_and_page_by_page(lambda_: Harness) -> None:
    for qualifier in ("live", "1", None):
        put(lambda_, Qualifier=qualifier, MaximumRetryAttempts=0)
    arns = [f"{FUNCTION}:{qualifier}" for qualifier in ("$LATEST", "1", "live")]

    def listed(**members: Any) -> tuple[list[str], str | None]:
        answer = lambda_(list_function_event_invoke_configs, FunctionName="orders", **members)
        return [config["FunctionArn"] for config in answer["FunctionEventInvokeConfigs"]], answer.get(
            "NextMarker"
        )

    assert listed() == (arns, None)
    first, marker = listed(MaxItems=2)
    assert first == arns[:2]
    assert listed(MaxItems=2, Marker=marker) == (arns[2:], None)
    assert lambda_(list_function_event_invoke_configs, FunctionName="other") == {
        "FunctionEventInvokeConfigs": []
    }
    assert lambda_.refused(list_function_event_invoke_configs, FunctionName="nope") == NO_FUNCTION


@pytest.mark.parametrize("operation", [put_function_event_invoke_config, update_function_event_invoke_config])
@pytest.mark.parametrize("name", ["nope", "orders:gone", "orders:42"])
def test_what_does_not_exist_is_not_configured(lambda_: Harness, operation: Any, name: str) -> None:
    assert lambda_.refused(operation, FunctionName=name, MaximumRetryAttempts=1) == NO_FUNCTION


@pytest.mark.parametrize("operation", [get_function_event_invoke_config, delete_function_event_invoke_config])
@pytest.mark.parametrize(
    ("name", "arn"),
    [
        ("nope", f"{ARN}:function:nope:$LATEST"),
        ("orders:gone", f"{FUNCTION}:gone"),
        ("orders:42", f"{FUNCTION}:42"),
    ],
)
def test_what_does_not_exist_has_no_config(lambda_: Harness, operation: Any, name: str, arn: str) -> None:
    assert lambda_.refused(operation, FunctionName=name) == not_configured(arn)


def test_there_must_be_a_config_to_update(lambda_: Harness) -> None:
    for name, qualifier in (("orders", "$LATEST"), ("orders:live", "live")):
        assert lambda_.refused(
            update_function_event_invoke_config, FunctionName=name, MaximumRetryAttempts=1
        ) == not_configured(f"{FUNCTION}:{qualifier}")


@pytest.mark.parametrize("operation", [put_function_event_invoke_config, update_function_event_invoke_config])
def test_something_must_be_set(lambda_: Harness, operation: Any) -> None:
    assert lambda_.refused(operation, FunctionName="orders") == (
        "InvalidParameterValueException",
        "You must specify at least one of error handling or destination setting.",
    )


def test_two_different_qualifiers(lambda_: Harness) -> None:
    refusal = lambda_.refused(
        put_function_event_invoke_config, FunctionName="orders:1", Qualifier="live", MaximumRetryAttempts=1
    )
    assert refusal == (
        "InvalidParameterValueException",
        "The derived qualifier from the function name does not match the specified qualifier.",
    )


@pytest.mark.parametrize(
    "destination",
    [
        QUEUE,
        "arn:aws:sns:eu-west-1:123456789012:topic",
        "arn:aws:events:eu-west-1:123456789012:event-bus/default",
        f"{ARN}:function:other",
        f"{ARN}:function:other:live",
    ],
)
def test_results_go_to_queues_topics_buses_and_functions(lambda_: Harness, destination: str) -> None:
    config = {condition: {"Destination": destination} for condition in ("OnSuccess", "OnFailure")}
    assert put(lambda_, DestinationConfig=config)["DestinationConfig"] == config


def test_failures_go_to_a_bucket_too(lambda_: Harness) -> None:
    bucket = {"Destination": "arn:aws:s3:::failed"}
    assert put(lambda_, DestinationConfig={"OnFailure": bucket})["DestinationConfig"]["OnFailure"] == bucket


@pytest.mark.parametrize("config", [NOWHERE, {"OnSuccess": {}}, {"OnFailure": {"Destination": ""}}])
def test_no_destination_is_a_setting_too(lambda_: Harness, config: dict[str, Any]) -> None:
    shown = put(lambda_, DestinationConfig=config)["DestinationConfig"]
    assert set(shown) == {"OnSuccess", "OnFailure"}
    assert not any(destination.get("Destination") for destination in shown.values())


@pytest.mark.parametrize(
    "destination",
    [
        "arn:aws:iam:eu-west-1:123456789012:function:other",
        "arn:aws:s3:::bucket",
        f"{QUEUE}.fifo",
        "kafka://topic",
    ],
)
def test_results_go_nowhere_else(lambda_: Harness, destination: str) -> None:
    refusal = lambda_.refused(
        put_function_event_invoke_config,
        FunctionName="orders",
        DestinationConfig={"OnSuccess": {"Destination": destination}},
    )
    assert refusal == (
        "InvalidParameterValueException",
        "The provided destination config DestinationConfig("
        f"onSuccess=OnSuccess(destination={destination}), onFailure=null) is invalid.",
    )


@pytest.mark.parametrize("destination", [f"{ARN}:function:nope", f"{ARN.replace('eu', 'us')}:function:other"])
def test_the_function_they_go_to_must_exist(lambda_: Harness, destination: str) -> None:
    refusal = lambda_.refused(
        put_function_event_invoke_config,
        FunctionName="orders",
        DestinationConfig={"OnFailure": {"Destination": destination}},
    )
    assert refusal == ("InvalidParameterValueException", f"The destination ARN {destination} is invalid.")


@pytest.mark.parametrize("destination", [FUNCTION, f"{FUNCTION}:live"])
def test_results_do_not_go_to_the_function_itself(lambda_: Harness, destination: str) -> None:
    refusal = lambda_.refused(
        put_function_event_invoke_config,
        FunctionName="orders",
        DestinationConfig={"OnSuccess": {"Destination": destination}},
    )
    assert refusal == (
        "InvalidParameterValueException",
        "You can't specify the function as a destination for itself.",
    )
    assert lambda_.refused(get_function_event_invoke_config, FunctionName="orders") == not_configured(
        f"{FUNCTION}:$LATEST"
    )


def test_updates_made_at_once_are_all_kept(lambda_: Harness) -> None:
    put(lambda_, DestinationConfig=NOWHERE)
    changes: list[dict[str, Any]] = [
        {"MaximumRetryAttempts": 1},
        {"MaximumEventAgeInSeconds": 77},
        {"DestinationConfig": {"OnSuccess": {"Destination": QUEUE}}},
    ]
    with ThreadPoolExecutor(3) as threads:
        list(
            threads.map(
                lambda change: lambda_(update_function_event_invoke_config, FunctionName="orders", **change),
                changes,
            )
        )
    config = get(lambda_)
    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (1, 77)
    assert config["DestinationConfig"]["OnSuccess"] == {"Destination": QUEUE}
