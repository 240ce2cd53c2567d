"""The context object and what else an invocation brings, beside awslambdaric (spec runtime-api 1.3, 4.6, 4.12)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.scripted_run import invoke, peers_invoke
from tests.runtimes import CALORIC
from tests.scripted_api import event

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

pytestmark = pytest.mark.parametrize("way", CALORIC)

HANDLERS = Path(__file__).parent.parent / "handlers"
FUNCTION = {
    "AWS_LAMBDA_FUNCTION_NAME": "größe",
    "AWS_LAMBDA_FUNCTION_VERSION": "7",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[7]abc",
}
CLIENT_CONTEXT = {
    "client": {"installation_id": "i", "app_title": "ü", "app_package_name": "p", "unknown": 1},
    "custom": {"k": [1, {"ü": None}]},
    "env": {"locale": "de"},
    "unknown": 1,
    "w3c": {"traceparent": "00-1", "baggage": "b=ü", "tracestate": 7, "other": "x"},
}
IDENTITY = {"cognitoIdentityId": "id", "cognitoIdentityPoolId": "pool", "unknown": 1}


def utf8(value: object) -> str:
    """JSON for a header: UTF-8 as the platform sends it, one byte a character for the scripted API."""
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {
            "Client_Context": utf8(CLIENT_CONTEXT),
            "Cognito_Identity": utf8(IDENTITY),
            "Aws_Tenant_Id": "tenant",
        },
        {"Client_Context": "{}", "Cognito_Identity": "{}"},
        {"Client_Context": "null", "Cognito_Identity": "null"},
        {"Client_Context": '{"client": null, "custom": 7, "env": [1], "w3c": "no object"}'},
        {"Client_Context": '{"client": {}}'},
        {"Invoked_Function_Arn": ""},
        {"Invoked_Function_Arn": "arn:aws:lambda:eu-west-1:1:function:f:live"},
        {"Deadline_Ms": ""},
        {"Deadline_Ms": "1"},
        {"Trace_Id": "Root=1-2-3;Parent=4;Sampled=1;Lineage=5"},
    ],
    ids=[
        "none",
        "all",
        "empty objects",
        "null",
        "odd types",
        "empty client",
        "no arn",
        "alias",
        "no deadline",
        "long ago",
        "trace id",
    ],
)
def test_the_context_is_the_peers(way: str, headers: dict[str, str]) -> None:
    prefixed = {f"Lambda_Runtime_{name}": value for name, value in headers.items()}
    (described,) = results(way, "describe", event(None, "id-1", **prefixed), **FUNCTION)
    assert described["vars"]["aws_request_id"] == ["str", "id-1"]
    assert described["vars"]["memory_limit_in_mb"] == ["str", "128"]


def test_without_variables_the_attributes_are_none(way: str) -> None:
    (described,) = results(way, "describe", event(None, "id-1"))
    assert described["vars"]["function_name"] == described["vars"]["memory_limit_in_mb"] == ["NoneType", None]


def results(way: str, handler: str, *answers: bytes, **variables: str) -> list[Any]:
    """What a handler says about its invocations, on which we agree with the peer."""
    ours = invoke(way, HANDLERS, *answers, handler=f"contexts.{handler}", **variables).results
    assert ours == peers_invoke(HANDLERS, *answers, handler=f"contexts.{handler}", **variables).results
    return ours


def test_attributes_can_be_set_deleted_and_added(way: str) -> None:
    (result,) = results(way, "change", event(None, "a"))
    assert result == {
        "own": 1,
        "aws_request_id": "changed",
        "tenant_id": "no such attribute",
        "in vars": True,
    }


def test_each_invocation_has_a_context_of_its_own(way: str) -> None:
    assert results(way, "keep", event(1, "a"), event(2, "b")) == [["a"], ["a", "b"]]


def test_copies_and_pickles_are_complete(way: str) -> None:
    headers = {
        "Lambda_Runtime_Client_Context": utf8(CLIENT_CONTEXT),
        "Lambda_Runtime_Cognito_Identity": utf8(IDENTITY),
    }
    (result,) = results(way, "duplicate", event(None, "a", **headers))
    assert result["copy"] == result["deepcopy"] == result["pickle"] == result["original"]


def test_a_context_can_be_made_by_hand(way: str, write_function: WriteFunction) -> None:
    source = """
        from caloric import LambdaContext

        def handler(event, context):
            made = LambdaContext("id", {"custom": 1}, None, 4102444800000, "arn", "tenant")
            return [type(context) is LambdaContext, isinstance(context, LambdaContext), made.aws_request_id,
                    made.client_context.custom, made.invoked_function_arn, made.tenant_id,
                    made.get_remaining_time_in_millis() > 0]
    """
    run = invoke(way, write_function(source))
    assert run.results == [[True, True, "id", 1, "arn", "tenant", True]]


def test_the_remaining_time_is_the_deadline_minus_the_clock(way: str) -> None:
    deadline = int(time.time() * 1000) + 60_000
    answer = event(None, "a", Lambda_Runtime_Deadline_Ms=str(deadline))
    (result,) = invoke(way, HANDLERS, answer, handler="contexts.remaining").results
    assert result["type"] == "int"
    # The function looked at the clock a moment later.
    assert 0 <= result["remaining"] - (deadline - result["now"]) <= 100


def test_the_trace_id_is_in_the_environment_of_its_invocation_only(way: str) -> None:
    answers = [
        event(None, "a", Lambda_Runtime_Trace_Id="Root=1"),
        event(None, "b"),
        event(None, "c", Lambda_Runtime_Trace_Id="Root=3"),
    ]
    # As Python sees it, and as a child process does.
    assert results(way, "trace_id", *answers) == [["Root=1", "Root=1"], [None, ""], ["Root=3", "Root=3"]]


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", "dict"),
        ("application/json; charset=utf-8", "bytes"),
        ("Application/JSON", "bytes"),
        ("text/plain", "bytes"),
        ("application/x-www-form-urlencoded", "bytes"),
    ],
)
def test_only_json_is_decoded(way: str, content_type: str, kind: str) -> None:
    answer = event({"a": "ü"}, "a", Content_Type=content_type)
    assert results(way, "type_and_repr", answer)[0][0] == kind


def test_without_a_content_type_the_event_is_json(way: str) -> None:
    # The peer ends with a segmentation fault.
    run = invoke(way, HANDLERS, event({"a": 1}, "a", Content_Type=""), handler="contexts.type_and_repr")
    assert run.results == [["dict", "{'a': 1}"]]


@pytest.mark.parametrize(
    "name", ["Client-Context", "Cognito-Identity", "Aws-Tenant-Id", "Trace-Id", "Invocation-Id"]
)
def test_an_empty_header_is_an_absent_one(way: str, name: str) -> None:
    head, _, rest = event(None, "a").partition(b"\r\n")
    answer = head + f"\r\nLambda-Runtime-{name}: \r\n".encode() + rest
    empty, absent = (
        invoke(way, HANDLERS, a, handler="contexts.describe") for a in (answer, event(None, "a"))
    )
    assert empty.results == absent.results
    assert "lambda-runtime-invocation-id" not in empty.posts[0].headers


def test_header_names_are_read_in_any_case(way: str) -> None:
    head, _, body = event(None, "a", Lambda_Runtime_Aws_Tenant_Id="tenant").partition(b"\r\n\r\n")
    for changed in (head.lower(), head.upper().replace(b"TENANT\r\n", b"tenant\r\n")):
        answer = changed.replace(b"http/1.1 200 ok", b"HTTP/1.1 200 OK").replace(
            b"APPLICATION/JSON", b"application/json"
        )
        (result,) = invoke(way, HANDLERS, answer + b"\r\n\r\n" + body, handler="contexts.describe").results
        assert result["vars"]["tenant_id"][1].lower() == "tenant"
