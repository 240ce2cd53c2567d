"""The context object and the environment (spec runtime-api 4.12, 3)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.pairs.conftest import HANDLERS
from tests.pairs.differences import facts
from tests.pairs.function import FUNCTION_ARN, FUNCTION_NAME, MEMORY_SIZE_MB

if TYPE_CHECKING:
    from tests.pairs.function import Function, Pair

CONTEXT = b'{"case": "context_values"}'
CLIENT_CONTEXT = {
    "custom": {"größe": [1, 2]},
    "env": {"platform": "日本"},
    "client": {"installation_id": "i", "app_title": "t", "app_version_code": "1", "nobody knows": 1},
    "services": {"dropped": True},
}


def test_attributes_have_awss_values_and_types(pair: Pair, function: Function) -> None:
    values = function.invoke_bytes(CONTEXT).json()
    attributes = values["attributes"]
    assert attributes.pop("aws_request_id")[0] == "str"
    group, stream = attributes.pop("log_group_name"), attributes.pop("log_stream_name")
    assert (group[0], stream[0]) == ("str", "str")
    assert re.fullmatch(facts(pair).log_group_name, group[1])
    assert re.fullmatch(facts(pair).log_stream_name, stream[1])
    assert attributes == {
        "function_name": ["str", FUNCTION_NAME],
        "function_version": ["str", "$LATEST"],
        "invoked_function_arn": ["str", FUNCTION_ARN],
        "memory_limit_in_mb": ["str", str(MEMORY_SIZE_MB)],
        "tenant_id": ["NoneType", None],
    }
    assert values["identity"] == [None, None]
    assert values["client_context"] is None


def test_the_request_id_is_the_platforms_and_new_each_time(function: Function) -> None:
    ids = []
    for _ in range(3):
        answer, _ = function.invoke_logged({"case": "context_values"})
        ids.append(answer.json()["attributes"]["aws_request_id"][1])
    assert len(set(ids)) == 3
    log = function.wait_for_log(lambda text: True)
    assert [f"START RequestId: {request_id} " in log for request_id in ids] == [True] * 3


def test_an_error_carries_the_id_of_its_invocation(function: Function) -> None:
    answer, _ = function.invoke_logged({"case": "raising", "message": ""})
    log = function.wait_for_log(lambda text: True)
    assert re.findall(r"^START RequestId: (\S+)", log, re.MULTILINE)[-1] == answer.json()["requestId"]


def test_the_remaining_time_counts_down_from_the_timeout(function: Function) -> None:
    first, second = function.invoke_bytes(CONTEXT).json()["remaining"]
    assert 10_000 < second <= first <= 15_000


def test_a_client_context_arrives_decoded(function: Function) -> None:
    text = json.dumps(CLIENT_CONTEXT)
    assert function.invoke_bytes(CONTEXT, client_context=text).json()["client_context"] == {
        "custom": {"größe": [1, 2]},
        "env": {"platform": "日本"},
        "client": {
            "installation_id": "i",
            "app_title": "t",
            "app_version_code": "1",
            "app_version_name": None,
            "app_package_name": None,
        },
    }
    assert function.invoke_bytes(CONTEXT).json()["client_context"] is None, "it is the invocation's own"


def test_a_cognito_identity_arrives_where_the_endpoint_can_send_one(pair: Pair, function: Function) -> None:
    if facts(pair).sends_cognito_identity:
        identity = json.dumps({"cognitoIdentityId": "eu:1", "cognitoIdentityPoolId": "pool"})
        assert function.invoke_bytes(CONTEXT, cognito_identity=identity).json()["identity"] == [
            "eu:1",
            "pool",
        ]
    assert function.invoke_bytes(CONTEXT).json()["identity"] == [None, None]


def test_the_environment_is_the_functions(pair: Pair) -> None:
    with pair.start(HANDLERS, "behaviours.handler", MY_VARIABLE="wert 日本", TZ="UTC") as function:
        variables = function.invoke({"case": "environment"}).json()
        again = function.invoke({"case": "environment"}).json()
    assert variables["MY_VARIABLE"] == "wert 日本"
    assert variables["_HANDLER"] == "behaviours.handler"
    assert variables["AWS_LAMBDA_FUNCTION_NAME"] == FUNCTION_NAME
    assert variables["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == str(MEMORY_SIZE_MB)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", variables["AWS_LAMBDA_RUNTIME_API"])
    if facts(pair).sends_trace_id:
        trace_ids = [variables["_X_AMZN_TRACE_ID"], again["_X_AMZN_TRACE_ID"]]
        assert all(
            re.match(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]", t)
            for t in trace_ids
        )
        assert trace_ids[0] != trace_ids[1]
    else:
        assert "_X_AMZN_TRACE_ID" not in variables | again
