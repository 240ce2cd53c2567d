"""The configuration of function URLs (spec lambda-service 4.1)."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from caloric.local.service.aliases import create_alias, delete_alias
from caloric.local.service.function_urls import (
    create_function_url_config,
    delete_function_url_config,
    get_function_url_config,
    list_function_url_configs,
    update_function_url_config,
)
from caloric.local.service.policies import add_permission, get_policy
from tests.local.service.harness import ARN, Harness

if TYPE_CHECKING:
    from pathlib import Path

FUNCTION = f"{ARN}:function:orders"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
NO_FUNCTION = ("ResourceNotFoundException", "Function does not exist")
NOT_THERE = ("ResourceNotFoundException", "The resource you requested does not exist.")
CORS = {"AllowOrigins": ["https://shop.example"], "AllowMethods": ["GET", "POST"], "MaxAge": 60}


@pytest.fixture
def lambda_(lambda_: Harness) -> Harness:
    lambda_.function("orders", versions=1, live="1", next="1")
    return lambda_


def create(lambda_: Harness, name: str = "orders", **members: Any) -> dict[str, Any]:
    return lambda_(create_function_url_config, FunctionName=name, **{"AuthType": "NONE"} | members)


def update(lambda_: Harness, **members: Any) -> dict[str, Any]:
    return lambda_(update_function_url_config, FunctionName="orders", **members)


def get(lambda_: Harness, **members: Any) -> dict[str, Any]:
    return lambda_(get_function_url_config, FunctionName="orders", **members)


def test_a_url_is_made_and_shown(lambda_: Harness) -> None:
    answer = create(lambda_)
    url = answer["FunctionUrl"]
    assert re.fullmatch(r"http://[a-z0-9]{32}\.lambda-url\.eu-west-1\.localhost:9001/", url)
    created = answer["CreationTime"]
    assert re.fullmatch(TIME, created)
    shown = {"FunctionUrl": url, "FunctionArn": FUNCTION, "AuthType": "NONE", "CreationTime": created}
    assert answer == shown
    assert get(lambda_) == shown | {"InvokeMode": "BUFFERED", "LastModifiedTime": created}


def test_the_url_is_where_the_service_is_reached(tmp_path: Path) -> None:
    elsewhere = Harness(tmp_path / "elsewhere", endpoint="https://lambda.example")
    elsewhere.function("orders")
    answer = create(elsewhere)
    elsewhere.close()
    assert re.fullmatch(r"https://[a-z0-9]{32}\.lambda-url\.eu-west-1\.localhost/", answer["FunctionUrl"])


def test_what_the_request_had_is_echoed(lambda_: Harness) -> None:
    answer = create(lambda_, AuthType="AWS_IAM", InvokeMode="RESPONSE_STREAM", Cors=CORS)
    assert (answer["AuthType"], answer["InvokeMode"], answer["Cors"]) == ("AWS_IAM", "RESPONSE_STREAM", CORS)
    shown = get(lambda_)
    assert (shown["AuthType"], shown["InvokeMode"], shown["Cors"]) == ("AWS_IAM", "RESPONSE_STREAM", CORS)


def test_an_alias_has_a_url_of_its_own(lambda_: Harness) -> None:
    of_function = create(lambda_)
    of_alias = create(lambda_, f"{FUNCTION}:live")
    assert of_alias["FunctionArn"] == f"{FUNCTION}:live"
    assert of_alias["FunctionUrl"] != of_function["FunctionUrl"]
    assert get(lambda_, Qualifier="live")["FunctionUrl"] == of_alias["FunctionUrl"]
    lambda_(delete_function_url_config, FunctionName="orders")
    assert get(lambda_, Qualifier="live")["FunctionUrl"] == of_alias["FunctionUrl"]


def test_a_function_has_one_url(lambda_: Harness) -> None:
    create(lambda_)
    assert lambda_.refused(create_function_url_config, FunctionName="orders", AuthType="NONE") == (
        "ResourceConflictException",
        f"Failed to create function url config for [functionArn = {FUNCTION}]. "
        "Error message:  FunctionUrlConfig exists for this Lambda function",
    )


def test_of_urls_made_at_once_there_is_one(lambda_: Harness) -> None:
    def attempt(_: int) -> str:
        try:
            url: str = create(lambda_)["FunctionUrl"]
        except Exception as error:
            return getattr(error, "name", repr(error))
        return url

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(attempt, range(8)))
    assert outcomes.count("ResourceConflictException") == 7
    assert get(lambda_)["FunctionUrl"] in outcomes


def test_a_change_keeps_the_address_and_what_it_leaves_out(lambda_: Harness) -> None:
    created = create(lambda_, InvokeMode="RESPONSE_STREAM", Cors=CORS)
    answer = update(lambda_, AuthType="AWS_IAM")
    assert re.fullmatch(TIME, answer.pop("LastModifiedTime"))
    assert answer == {
        "FunctionUrl": created["FunctionUrl"],
        "FunctionArn": FUNCTION,
        "AuthType": "AWS_IAM",
        "CreationTime": created["CreationTime"],
    }
    shown = get(lambda_)
    assert (shown["InvokeMode"], shown["Cors"]) == ("RESPONSE_STREAM", CORS)
    assert update(lambda_, InvokeMode="BUFFERED")["InvokeMode"] == "BUFFERED"


def test_a_change_has_a_time(lambda_: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    created = create(lambda_)["CreationTime"]
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)
    changed = update(lambda_, AuthType="AWS_IAM")
    assert (changed["CreationTime"], get(lambda_)["CreationTime"]) == (created, created)
    assert changed["LastModifiedTime"] == get(lambda_)["LastModifiedTime"] > created


def test_cors_is_replaced_and_removed(lambda_: Harness) -> None:
    create(lambda_, Cors=CORS)
    other = {"AllowOrigins": ["*"]}
    assert update(lambda_, Cors=other)["Cors"] == other
    update(lambda_, Cors={})
    assert "Cors" not in get(lambda_)


def test_cors_names_origins(lambda_: Harness) -> None:
    refusal = (
        "InvalidParameterValueException",
        "You can't leave AllowOrigins as empty when Cors is enabled.",
    )
    attempts: list[dict[str, Any]] = [{"MaxAge": 1}, {"AllowOrigins": []}]
    for cors in attempts:
        assert (
            lambda_.refused(create_function_url_config, FunctionName="orders", AuthType="NONE", Cors=cors)
            == refusal
        )
    create(lambda_)
    assert lambda_.refused(update_function_url_config, FunctionName="orders", Cors={"MaxAge": 1}) == refusal


def test_a_deleted_url_is_gone_and_the_next_one_is_another(lambda_: Harness) -> None:
    first = create(lambda_)["FunctionUrl"]
    grant = {"StatementId": "public", "Action": "lambda:InvokeFunctionUrl", "Principal": "*"}
    lambda_(add_permission, FunctionName="orders", FunctionUrlAuthType="NONE", **grant)
    assert lambda_(delete_function_url_config, FunctionName="orders") == {}
    for operation in (get_function_url_config, delete_function_url_config):
        assert lambda_.refused(operation, FunctionName="orders") == NOT_THERE
    assert create(lambda_)["FunctionUrl"] != first
    # Who may use it was said of the function.
    assert "public" in lambda_(get_policy, FunctionName="orders")["Policy"]


def test_the_url_outlives_its_alias(lambda_: Harness) -> None:
    url = create(lambda_, Qualifier="live")["FunctionUrl"]
    lambda_(delete_alias, FunctionName="orders", Name="live")
    listed = lambda_(list_function_url_configs, FunctionName="orders")["FunctionUrlConfigs"]
    assert [config["FunctionUrl"] for config in listed] == [url]
    assert (
        lambda_.refused(update_function_url_config, FunctionName="orders", Qualifier="live", AuthType="NONE")
        == NO_FUNCTION
    )
    lambda_(create_alias, FunctionName="orders", Name="live", FunctionVersion="1")
    assert get(lambda_, Qualifier="live")["FunctionUrl"] == url


def test_urls_are_listed_page_by_page(lambda_: Harness) -> None:
    assert lambda_(list_function_url_configs, FunctionName="orders") == {"FunctionUrlConfigs": []}
    for qualifier in ("next", None, "live"):
        create(lambda_, Qualifier=qualifier)
    expected = [get(lambda_), get(lambda_, Qualifier="live"), get(lambda_, Qualifier="next")]
    assert lambda_(list_function_url_configs, FunctionName="orders") == {"FunctionUrlConfigs": expected}
    first = lambda_(list_function_url_configs, FunctionName="orders", MaxItems=2)
    second = lambda_(list_function_url_configs, FunctionName="orders", Marker=first["NextMarker"])
    assert first["FunctionUrlConfigs"] + second["FunctionUrlConfigs"] == expected
    assert lambda_.refused(list_function_url_configs, FunctionName="nope") == NO_FUNCTION


@pytest.mark.parametrize("name", ["nope", "orders:gone", f"{ARN}:function:nope"])
def test_what_does_not_exist_has_no_url(lambda_: Harness, name: str) -> None:
    for operation in (create_function_url_config, update_function_url_config):
        assert lambda_.refused(operation, FunctionName=name, AuthType="NONE") == NO_FUNCTION
    for operation in (get_function_url_config, delete_function_url_config):
        assert lambda_.refused(operation, FunctionName=name) == NOT_THERE


def test_there_must_be_a_url_to_change(lambda_: Harness) -> None:
    assert lambda_.refused(update_function_url_config, FunctionName="orders", AuthType="NONE") == NOT_THERE


@pytest.mark.parametrize("operation", [create_function_url_config, get_function_url_config])
def test_two_different_qualifiers(lambda_: Harness, operation: Any) -> None:
    assert lambda_.refused(operation, FunctionName="orders:live", Qualifier="next", AuthType="NONE") == (
        "InvalidParameterValueException",
        "The derived qualifier from the function name does not match the specified qualifier.",
    )
