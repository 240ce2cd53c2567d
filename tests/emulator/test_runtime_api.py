"""The Runtime API as a runtime finds it behind each emulator: what is accepted when, and with which words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.emulator.emulators import Emulator, script
from tests.emulator.rows import shows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emulator.emulators import Kind

# Notes what is answered, and hands it over as the answer of the last invocation.
NOTES = """
notes = {}

def note(name, answer):
    notes[name] = [answer[0], answer[2].decode()]

def error(request_id):
    return call("POST", f"/runtime/invocation/{request_id}/error", b"{}")

"""


def notes(kind: Kind, folder: Path, source: str, invocations: int = 2) -> dict[str, Any]:
    """What a runtime notes that runs `source`, invocation by invocation, and then hands over its notes."""
    end = "\nrid, _ = take()\nrespond(rid, notes)\ntake()\n"
    with Emulator(kind, folder, script(folder, NOTES + source + end)) as emulator:
        for _ in range(invocations - 1):
            emulator.invoke()
        found: dict[str, Any] = emulator.invoke().json()
    return found


def failure(error_type: str, message: str) -> dict[str, str]:
    return {"errorType": error_type, "errorMessage": message}


def document(noted: list[Any]) -> tuple[int, Any]:
    return noted[0], json.loads(noted[1])


INVALID_ID = (400, failure("InvalidRequestID", "Invalid request ID"))


def forbidden(before: str, after: str) -> tuple[int, dict[str, str]]:
    message = f"State transition from {before} to {after} failed for runtime. Error: State transition is not allowed"
    return 403, failure("InvalidStateTransition", message)


@shows("Runtime API: paths and methods")
def test_paths_and_methods(kind: Kind, tmp_path: Path) -> None:
    source = """
note("ping", call("GET", "/ping"))
note("path", call("POST", "/runtime/unsupported"))
note("method", call("DELETE", "/runtime/invocation/ABC/error"))
note("restore", call("GET", "/runtime/restore/next"))
note("restore error", call("POST", "/runtime/restore/error", b"{}"))
"""
    found = notes(kind, tmp_path, source, invocations=1)
    assert found["ping"] == [200, "pong"]
    assert found["path"] == found["restore"] == found["restore error"] == [404, "404 page not found\n"]
    assert found["method"] == [405, ""]


@shows("Runtime API: the same event for who asks again")
def test_the_event_is_handed_out_until_it_is_answered(kind: Kind, tmp_path: Path) -> None:
    source = """
first, second = take(), take()
notes["same"] = first == second
note("answered", respond(first[0], 1))
"""
    found = notes(kind, tmp_path, source)
    assert found["same"]
    assert document(found["answered"]) == (202, {"status": "OK"})


@shows("Runtime API: request ids")
def test_an_answer_names_the_invocation_that_runs(kind: Kind, tmp_path: Path) -> None:
    source = """
note("before any", respond("some-id", 1))
rid, _ = take()
note("other response", respond("some-id", 1))
note("other error", error("some-id"))
api.request("POST", "/2018-06-01/runtime/invocation/some-id/error", b"", {"Accept": "application/xml"})
response = api.getresponse()
notes["xml"] = [response.status, response.read().decode(), response.headers["Content-Type"]]
note("right", respond(rid, 1))
old = rid
rid, _ = take()
note("old response", respond(old, 1))
note("old error", error(old))
note("right again", error(rid))
"""
    found = notes(kind, tmp_path, source, invocations=3)
    names = ("before any", "other response", "other error", "old response", "old error")
    assert {name: document(found[name]) for name in names} == dict.fromkeys(names, INVALID_ID)
    assert document(found["xml"][:2]) == INVALID_ID
    assert found["xml"][2] == "application/json"
    assert document(found["right"]) == document(found["right again"]) == (202, {"status": "OK"})


@shows("Runtime API: one answer for each invocation")
def test_a_second_answer_is_refused(kind: Kind, tmp_path: Path) -> None:
    source = """
for first, answer in (("response", lambda rid: respond(rid, 1)), ("error", error)):
    rid, _ = take()
    answer(rid)
    note(f"response after {first}", respond(rid, 2))
    note(f"error after {first}", error(rid))
"""
    found = notes(kind, tmp_path, source, invocations=3)
    for first in ("response", "error"):
        for second, state in (("response", "InvocationResponse"), ("error", "InvocationErrorResponse")):
            assert document(found[f"{second} after {first}"]) == forbidden("RuntimeResponseSentState", state)


@shows("Runtime API: `init/error`")
def test_an_init_error_comes_before_the_first_event(kind: Kind, tmp_path: Path) -> None:
    source = """
rid, _ = take()
note("late", call("POST", "/runtime/init/error", b"{}"))
respond(rid, 1)
"""
    assert document(notes(kind, tmp_path, source)["late"]) == forbidden("Running", "InitError")


@shows("Runtime API: an answer over 6 MB")
def test_too_large_an_answer_is_refused_and_the_runtime_goes_on(kind: Kind, tmp_path: Path) -> None:
    source = NOTES + (
        "rid, _ = take()\n"
        "note('large', call('POST', f'/runtime/invocation/{rid}/response', b'x' * 6_291_557))\n"
        "rid, _ = take()\nrespond(rid, notes)\ntake()\n"
    )
    with Emulator(kind, tmp_path, script(tmp_path, source)) as emulator:
        answer = emulator.invoke()
        assert (answer.status, answer.json()["errorType"]) == (200, "Function.ResponseSizeTooLarge")
        noted = emulator.invoke().json()["large"]
    message = "Exceeded maximum allowed payload size (6291556 bytes)."
    assert document(noted) == (413, failure("RequestEntityTooLarge", message))


@shows("Runtime API: the headers of an event")
def test_an_event_comes_with_its_headers(kind: Kind, tmp_path: Path) -> None:
    source = """
status, headers, _ = call("GET", "/runtime/invocation/next")
respond(headers["Lambda-Runtime-Aws-Request-Id"], [dict(headers), time.time()])
take()
"""
    variables = {"AWS_LAMBDA_FUNCTION_TIMEOUT": "60"}
    with Emulator(kind, tmp_path, script(tmp_path, source), variables=variables) as emulator:
        headers, now = emulator.invoke().json()
    assert headers["Content-Type"] == "application/json"
    assert headers["Lambda-Runtime-Invoked-Function-Arn"].endswith(":function:test_function")
    assert len(headers["Lambda-Runtime-Aws-Request-Id"]) == 36
    assert 0 < int(headers["Lambda-Runtime-Deadline-Ms"]) / 1000 - now <= 60
    for absent in ("Client-Context", "Cognito-Identity", "Tenant-Id"):
        assert f"Lambda-Runtime-{absent}" not in headers
        assert f"Lambda-Runtime-Aws-{absent}" not in headers


def test_the_telemetry_api_is_a_stub_there_and_real_here(kind: Kind, tmp_path: Path) -> None:
    # Nobody has registered: here that counts, there nothing is looked at.
    source = """
api.request("PUT", "/2022-07-01/telemetry", b"{}")
response = api.getresponse()
notes["telemetry"] = [response.status, response.read().decode()]
"""
    status, _ = notes(kind, tmp_path, source, invocations=1)["telemetry"]
    assert status == (202 if kind == "aws" else 403)
