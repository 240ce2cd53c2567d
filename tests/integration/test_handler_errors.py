"""What is posted and said when a handler fails, beside awslambdaric (spec runtime-api 1.6, 4.3, 4.5, 4.7)."""

from __future__ import annotations

import functools
import json
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.scripted_run import PEER, Run, invoke, invoke_until_exit, peers_invoke
from tests.runtimes import CALORIC
from tests.scripted_api import event

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

pytestmark = pytest.mark.parametrize("way", CALORIC)

HANDLERS = Path(__file__).parent.parent / "handlers"

CASES = [
    "builtin_error",
    "own_error",
    "nested_class",
    "no_message",
    "several_arguments",
    "key_error",
    "os_error",
    "unicode_decode_error",
    "syntax_error_in_eval",
    "two_lines",
    "unicode",
    "caught_and_raised_again",
    "raised_from",
    "raised_in_except",
    "with_traceback_of_another",
    "from_a_comprehension",
    "from_a_lambda",
    "from_generated_code",
    "from_the_standard_library",
    "from_a_generator",
    "stop_iteration",
    "import_error",
    "assertion",
    "multi_line_statement",
    "recursion",
]
GROUPS = ["exception_group", "with_notes"] if sys.version_info >= (3, 11) else []


@functools.cache
def all_cases(way: str) -> Run:
    """One process that fails in every way, one after the other."""
    events = [event(case, f"id-{case}") for case in [*CASES, *GROUPS]]
    return invoke(way, HANDLERS, *events, handler="failures.handler")


def posted(way: str, case: str) -> Any:
    (post,) = (p for p in all_cases(way).posts if p.path == f"/2018-06-01/runtime/invocation/id-{case}/error")
    return post


def comparable(document: Any) -> Any:
    """Without how often a frame was repeated: that depends on how deep the runtime's own stack is."""
    return json.loads(re.sub(r"repeated \d+ more times", "repeated", json.dumps(document)))


@pytest.mark.parametrize("case", [*CASES, *GROUPS])
def test_the_document_is_the_peers(way: str, case: str) -> None:
    ours, peers = posted(way, case).json(), posted(PEER, case).json()
    assert comparable(ours) == comparable(peers)
    assert list(ours) == list(peers) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert ours["requestId"] == f"id-{case}"
    assert "failures.py" in ours["stackTrace"][0], "the first frame is the user's"
    assert not any("^" in entry for entry in ours["stackTrace"]), "there are no marks under the code"


@pytest.mark.parametrize("case", [*CASES, *GROUPS])
def test_the_cause_for_xray_is_the_peers(way: str, case: str) -> None:
    name = "lambda-runtime-function-xray-error-cause"
    ours, peers = (json.loads(posted(who, case).headers[name]) for who in (way, PEER))
    for cause in (ours, peers):
        # The peer's come in no order.
        cause["paths"].sort()
        # We crop to what the platform takes; the peer leaves that to the platform.
        cause["exceptions"][0]["stack"] = cause["exceptions"][0]["stack"][:20]
    assert ours == peers
    assert ours["working_directory"] == str(HANDLERS)


@pytest.mark.parametrize("case", [*CASES, *GROUPS])
def test_headers(way: str, case: str) -> None:
    post = posted(way, case)
    assert post.headers["content-type"] == "application/json"
    assert post.headers["lambda-runtime-function-error-type"] == post.json()["errorType"]
    cause = post.headers["lambda-runtime-function-xray-error-cause"]
    assert cause.isascii()
    assert cause.isprintable()
    assert len(cause) <= 65_536


def test_the_log_is_the_peers(way: str) -> None:
    ours, peers = (
        re.sub(r"repeated \d+ more", "repeated", all_cases(who).masked_stdout) for who in (way, PEER)
    )
    # What we know beyond that comes at a record's end.
    assert re.sub(r"\r(\xa0\xa0)*(Caused by|While handling|Member \d+|Note): [^\n]*", "", ours) == peers
    assert "\rNote: " in ours or sys.version_info < (3, 11)
    assert "\rCaused by: " in ours
    assert "\rWhile handling: " in ours
    assert all_cases(way).stderr == ""


def test_the_document_is_utf8_whatever_the_mode(way: str) -> None:
    run = invoke(
        way, HANDLERS, event("unicode"), handler="failures.handler", AWS_EXECUTION_ENV="AWS_Lambda_python3.12"
    )
    assert json.loads(run.posts[0].body.decode("utf-8"))["errorMessage"] == "größer als 日本 😀"


@pytest.mark.parametrize(
    ("source", "error_type", "message"),
    [
        ("handler = 7", "TypeError", "'int' object is not callable"),
        ("def handler(event): pass", "TypeError", "handler() takes 1 positional argument but 2 were given"),
        ("class handler: pass", "TypeError", "handler() takes no arguments"),
    ],
    ids=["no function", "too few parameters", "class"],
)
def test_a_handler_that_cannot_be_called_fails_each_invocation(
    way: str, write_function: WriteFunction, source: str, error_type: str, message: str
) -> None:
    run = invoke(way, write_function(source), event(1, "a"), event(2, "b"))
    for document in run.results:
        assert document["errorType"] == error_type
        assert message in document["errorMessage"]
        assert not any("caloric" in entry for entry in document["stackTrace"])


def test_a_file_called_bootstrap_keeps_its_frames(way: str, write_function: WriteFunction) -> None:
    # The peer goes by that name and drops them (spec 4.7); we know our own files.
    folder = write_function("def handler(event, context): raise ValueError", "bootstrap.py")
    (document,) = invoke(way, folder, handler="bootstrap.handler").results
    path = folder / "bootstrap.py"
    code = "def handler(event, context): raise ValueError"
    assert document["stackTrace"] == [f'  File "{path}", line 1, in handler\n    {code}\n']


@pytest.mark.parametrize(
    ("statement", "exit_status"),
    [
        ("sys.exit(7)", 7),
        ("sys.exit()", 0),
        ("sys.exit('a message')", 1),
        ("exit(5)", 5),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("raise Mine('on purpose')", 1),
        ("raise GeneratorExit", 1),
        ("raise asyncio.CancelledError", 1),
        ("os._exit(9)", 9),
    ],
)
def test_what_is_no_exception_ends_the_process_unreported(
    way: str, write_function: WriteFunction, statement: str, exit_status: int
) -> None:
    source = f"""
        import asyncio, os, sys

        class Mine(BaseException):
            pass

        def handler(event, context):
            {statement}
    """
    folder = write_function(source)
    ours, peers = (invoke_until_exit(who, folder, event()) for who in (way, PEER))
    assert ours.posts == peers.posts == []
    assert ours.exit_status == peers.exit_status == exit_status
    # The peer's traceback has other frames in the middle; the last line says what happened.
    assert ours.stderr.splitlines()[-1:] == peers.stderr.splitlines()[-1:]


@pytest.mark.parametrize(
    ("header", "value", "error_type", "message"),
    [
        (
            "Client_Context",
            "{",
            "Runtime.LambdaContextUnmarshalError",
            "Unable to parse Client Context JSON: ",
        ),
        (
            "Cognito_Identity",
            "no",
            "Runtime.LambdaContextUnmarshalError",
            "Unable to parse Cognito Identity JSON: ",
        ),
        ("Client_Context", "[1]", "AttributeError", "'list' object has no attribute 'get'"),
        ("Client_Context", '"text"', "AttributeError", "'str' object has no attribute 'get'"),
        ("Cognito_Identity", "7", "AttributeError", "'int' object has no attribute 'get'"),
        ("Client_Context", '{"client": 7}', "AttributeError", "'int' object has no attribute 'get'"),
    ],
)
def test_a_context_that_cannot_be_made_is_reported(
    way: str, header: str, value: str, error_type: str, message: str
) -> None:
    broken = event("unicode", "a", **{f"Lambda_Runtime_{header}": value})
    run = invoke(way, HANDLERS, broken, event("two_lines", "b"), handler="failures.handler")
    peer = peers_invoke(HANDLERS, broken, handler="failures.handler")
    for document in (run.results[0], peer.results[0]):
        assert document["errorType"] == error_type
        assert document["errorMessage"].startswith(message)
        assert document["requestId"] == "a"
    assert run.results[1]["errorMessage"] == "two\nlines"


def test_a_huge_message_is_cropped(way: str) -> None:
    run = invoke(way, HANDLERS, event("huge"), event("two_lines"), handler="failures.handler")
    assert len(run.posts[0].body) < 256 * 1024
    assert run.results[0]["errorMessage"].startswith("hhhh")
    assert run.results[0]["errorType"] == "ValueError"
    assert run.results[0]["stackTrace"]
    assert len(run.posts[0].headers["lambda-runtime-function-xray-error-cause"]) <= 65_536


def test_a_deep_stack_of_different_frames_is_cropped(way: str) -> None:
    run = invoke(way, HANDLERS, event("deep"), event("two_lines"), handler="failures.handler")
    cause = run.posts[0].headers["lambda-runtime-function-xray-error-cause"]
    assert len(cause) <= 65_536
    (exception,) = json.loads(cause)["exceptions"]
    assert 10 < len(exception["stack"]) < 1200
    assert len(run.posts[0].body) < 256 * 1024
    trace = run.results[0]["stackTrace"]
    assert "in handler" in trace[0]
    assert "in innermost" in trace[-1]


@pytest.mark.parametrize("text", ["\x7f", "\r\nInjected: yes", "\x00", "\u2028", "\ufeff", "ÿ"], ids=ascii)
def test_the_cause_for_xray_is_a_legal_header_for_every_message(way: str, text: str) -> None:
    failing = event({"message": text}, "a")
    (post,) = invoke(way, HANDLERS, failing, handler="failures.handler").posts
    cause = post.headers["lambda-runtime-function-xray-error-cause"]
    assert cause.isascii()
    assert cause.isprintable()
    assert json.loads(cause)["exceptions"][0]["message"] == text
    assert "injected" not in post.headers


@pytest.mark.parametrize(
    "case", ["lone_surrogate", "str_fails", "str_returns_no_str", "no_working_directory"]
)
def test_an_error_that_is_hard_to_write_is_reported_all_the_same(way: str, case: str) -> None:
    # With the peer each of them ends the process.
    run = invoke(way, HANDLERS, event(case, "a"), event("two_lines", "b"), handler="failures.handler")
    first, second = run.results
    error_type = {"lone_surrogate": "ValueError", "no_working_directory": "RuntimeError"}.get(
        case, "OddError"
    )
    assert first["errorType"] == error_type
    assert first["requestId"] == "a"
    assert first["stackTrace"]
    assert second["errorMessage"] == "two\nlines"
    if case == "lone_surrogate":
        assert first["errorMessage"] == "\ud800"
