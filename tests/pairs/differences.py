"""Where pairs legitimately differ, and why. Everything that is not here holds for every pair."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.pairs.function import Answer, Pair


class EndpointFacts(NamedTuple):
    """What a caller sees of an endpoint, beyond what the runtime answered."""

    marks_function_errors: bool
    timeout: bytes
    """Pattern of the payload after a timeout of three seconds."""
    too_large: str
    """Pattern of the message when a response of 7 000 002 bytes was too large."""
    log_group_name: str
    log_stream_name: str
    sends_trace_id: bool
    sends_cognito_identity: bool


ENDPOINTS = {
    "rie": EndpointFacts(
        # It answers 200 without X-Amz-Function-Error (spec runtime-api 1.10), and 502 only where the runtime
        # failed to start or ended.
        marks_function_errors=False,
        # Plain text, status 200 (1.10): not what the service says, so not copied by us.
        timeout=rb"Task timed out after 3\.00 seconds",
        # The size is in the message of newer platform code only (1.4); both forms are AWS's.
        too_large=r"Response payload size exceeded maximum allowed payload size \(6291556 bytes\)\.",
        # Its defaults (1.10).
        log_group_name=r"/aws/lambda/Functions",
        log_stream_name=r"\$LATEST",
        # Its tracer does nothing (1.3).
        sends_trace_id=False,
        # It reads no header for one (1.10).
        sends_cognito_identity=False,
    ),
    "caloric": EndpointFacts(
        marks_function_errors=True,
        # The service's own document (spec lambda-service 1.4).
        timeout=rb'\{"errorType":"Sandbox\.Timedout","errorMessage":'
        rb'"RequestId: [0-9a-f-]{36} Error: Task timed out after 3\.00 seconds"\}',
        too_large=r"Response payload size \(7000002 bytes\) exceeded maximum allowed payload size "
        r"\(6291556 bytes\)\.",
        # Named as the service names them.
        log_group_name=r"/aws/lambda/test_function",
        log_stream_name=r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}",
        sends_trace_id=True,
        sends_cognito_identity=True,
    ),
}


def facts(pair: Pair) -> EndpointFacts:
    """Return what is different about the pair's endpoint."""
    return ENDPOINTS[pair.endpoint]


def survives_a_refused_answer(pair: Pair) -> bool:
    """Whether the process goes on after a 413. awslambdaric ends with any answer that is not 2xx (1.7)."""
    return pair.runtime != "awslambdaric"


def unmarshal_message(pair: Pair, json_message: str, simplejson_message: str) -> str:
    """Return the message about an event that is no JSON.

    awslambdaric has simplejson's wording, we have the standard library's (design section 3).
    """
    return simplejson_message if pair.runtime == "awslambdaric" else json_message


def assert_function_error(pair: Pair, answer: Answer) -> dict[str, Any]:
    """Return the error document, after a look at what the endpoint says about it."""
    document: dict[str, Any] = answer.json()
    assert {"errorMessage", "errorType"} <= document.keys()
    if facts(pair).marks_function_errors:
        assert answer.marked_as_error
    return document


def assert_result(pair: Pair, answer: Answer) -> bytes:
    """Return the payload of an invocation that did not fail, as far as the endpoint can tell."""
    assert answer.marked_as_error is (False if facts(pair).marks_function_errors else None), answer.payload
    return answer.payload


def assert_timeout(pair: Pair, answer: Answer) -> None:
    """Check what the caller is told when three seconds were not enough."""
    assert re.fullmatch(facts(pair).timeout, answer.payload), answer.payload
    if facts(pair).marks_function_errors:
        assert answer.marked_as_error


def assert_exit(answer: Answer, how: str) -> None:
    """Check what the caller is told when the runtime ended, in the same words and marked everywhere."""
    document = answer.json()
    assert document.keys() == {"errorType", "errorMessage"}
    assert document["errorType"] == "Runtime.ExitError"
    assert re.fullmatch(rf"RequestId: [0-9a-f-]{{36}} Error: Runtime exited {how}", document["errorMessage"])
    assert answer.marked_as_error
