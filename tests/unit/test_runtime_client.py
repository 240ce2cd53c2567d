"""`RuntimeClient`, call by call: what `caloric.compat.loop` serves invocations with."""

from __future__ import annotations

import os

import pytest

from caloric._rust import RuntimeClient
from caloric.errors import RuntimeApiError
from tests.scripted_api import ACCEPTED, ScriptedApi, event, status


def test_an_invocation_is_a_dict_of_what_came_with_it() -> None:
    full = event(
        b"<a/>",
        "id-1",
        Content_Type="text/xml",
        Lambda_Runtime_Invocation_Id="attempt-1",
        Lambda_Runtime_Trace_Id="Root=1",
        Lambda_Runtime_Client_Context='{"custom": 1}',
        Lambda_Runtime_Cognito_Identity="{}",
        Lambda_Runtime_Aws_Tenant_Id="blue",
        Lambda_Runtime_Deadline_Ms="1700000000000",
    )
    bare = event(
        None, "id-2", Content_Type="", Lambda_Runtime_Deadline_Ms="", Lambda_Runtime_Invoked_Function_Arn=""
    )
    with ScriptedApi([full, ACCEPTED, bare]) as api:
        client = RuntimeClient(address=api.address, user_agent="test")
        assert (client.aws_request_id, client.tenant_id) == (None, None)
        assert client.next_invocation() == {
            "invoke_id": "id-1",
            "invocation_id": "attempt-1",
            "invoked_function_arn": "arn:aws:lambda:us-east-1:012345678912:function:test_function",
            "deadline_time_in_ms": 1_700_000_000_000,
            "x_amzn_trace_id": "Root=1",
            "client_context": '{"custom": 1}',
            "cognito_identity": "{}",
            "tenant_id": "blue",
            "content_type": "text/xml",
            "event_body": b"<a/>",
        }
        assert (client.aws_request_id, client.tenant_id) == ("id-1", "blue")
        assert os.environ["_X_AMZN_TRACE_ID"] == "Root=1"
        client.post_invocation_response(request_id="id-1", body=b"1", content_type="text/plain")
        assert client.next_invocation() == {
            "invoke_id": "id-2",
            "invocation_id": None,
            "invoked_function_arn": "",
            "deadline_time_in_ms": 0,
            "x_amzn_trace_id": None,
            "client_context": None,
            "cognito_identity": None,
            "tenant_id": None,
            "content_type": "application/json",
            "event_body": b"null",
        }
        assert (client.aws_request_id, client.tenant_id) == ("id-2", None)
        assert "_X_AMZN_TRACE_ID" not in os.environ


def test_answers_are_posted_with_their_headers() -> None:
    with ScriptedApi([ACCEPTED, ACCEPTED]) as api:
        client = RuntimeClient(api.address, "test")
        client.post_invocation_response(
            request_id="id-1", body=b"1", content_type="text/plain", invocation_id="attempt-1"
        )
        client.post_invocation_error(
            request_id="id-2", body=b"{}", error_type="E", xray_cause='{"a":1}', invocation_id="attempt-2"
        )
        response, error = api.requests
    assert (response.path, response.body) == ("/2018-06-01/runtime/invocation/id-1/response", b"1")
    assert response.headers["content-type"] == "text/plain"
    assert response.headers["lambda-runtime-invocation-id"] == "attempt-1"
    assert (error.path, error.body) == ("/2018-06-01/runtime/invocation/id-2/error", b"{}")
    assert error.headers["lambda-runtime-function-error-type"] == "E"
    assert error.headers["lambda-runtime-function-xray-error-cause"] == '{"a":1}'
    assert error.headers["lambda-runtime-invocation-id"] == "attempt-2"


def test_a_refused_answer_is_told_and_a_failed_one_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedApi([status(413), status(500)]) as api:
        client = RuntimeClient(api.address, "test")
        client.post_invocation_response("id-1", b"1", "text/plain")
        assert capsys.readouterr().err.startswith("caloric: the answer to id-1 was not accepted: 413")
        with pytest.raises(RuntimeApiError, match="500"):
            client.post_invocation_error("id-1", b"{}", "E", "")


@pytest.mark.parametrize("raises", [False, True])
def test_run_leaves_the_answer_to_its_caller_once_it_was_told_to_hand_over(raises: bool) -> None:
    error = ValueError("boom")

    def handler(payload: object, context: object) -> object:
        if payload == "last":
            client.hand_over()
            if raises:
                raise error
        return [payload]

    with ScriptedApi(
        [event("first", "id-1"), ACCEPTED, event("last", "id-2", Lambda_Runtime_Invocation_Id="attempt-2")]
    ) as api:
        client = RuntimeClient(api.address, "test")
        unanswered = client.run(handler=handler)
        assert [request.call for request in api.requests] == ["next", "response", "next"]
    *answer, called_with = unanswered
    assert answer == ["id-2", "attempt-2", None if raises else ["last"], error if raises else None]
    assert called_with is not None
    assert (called_with[0], called_with[1].aws_request_id) == ("last", "id-2")
