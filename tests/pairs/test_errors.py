"""What a function does wrong reaches the caller as AWS's document (spec runtime-api 4.3, 4.5, 4.7)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pairs.conftest import HANDLERS
from tests.pairs.differences import assert_function_error

if TYPE_CHECKING:
    from tests.pairs.function import Function, Pair

BEHAVIOURS = str(HANDLERS / "behaviours.py")
REQUEST_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def source_line(text: str) -> int:
    """The line number at which the sample handler says `text`."""
    lines = Path(BEHAVIOURS).read_text(encoding="utf-8").splitlines()
    (number,) = [n for n, line in enumerate(lines, 1) if line.strip() == text]
    return number


def frame(function: str, code: str) -> str:
    return f'  File "{BEHAVIOURS}", line {source_line(code)}, in {function}\n    {code}\n'


@pytest.mark.parametrize(
    "message",
    ["plain", "", "two\nlines", 'quotes " \\ \x00 \x7f', "ümläut 日本 😀", "m" * 100_000],
    ids=["plain", "empty", "two lines", "escapes", "unicode", "long"],
)
def test_an_exception_is_the_answer_with_its_stack_trace(
    pair: Pair, function: Function, message: str
) -> None:
    document = assert_function_error(pair, function.invoke({"case": "raising", "message": message}))
    assert list(document) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert document["errorMessage"] == message
    assert document["errorType"] == "TeapotError"
    assert re.fullmatch(REQUEST_ID, document["requestId"])
    assert document["stackTrace"] == [
        frame("handler", 'return CASES[event["case"]](event, context)'),
        frame("raising", 'deeper(event["message"])'),
        frame("deeper", "raise TeapotError(message)"),
    ]


def test_a_cause_is_not_reported(pair: Pair, function: Function) -> None:
    document = assert_function_error(pair, function.invoke({"case": "raising_from"}))
    assert (document["errorType"], document["errorMessage"]) == ("KeyError", "'effect'")
    assert [entry.partition(", in ")[2].partition("\n")[0] for entry in document["stackTrace"]] == [
        "handler",
        "raising_from",
    ]


def test_endless_recursion_is_an_error_and_not_a_flood(pair: Pair, function: Function) -> None:
    answer = function.invoke({"case": "recursing"})
    document = assert_function_error(pair, answer)
    assert document["errorType"] == "RecursionError"
    assert document["errorMessage"].startswith("maximum recursion depth exceeded")
    assert re.fullmatch(r"  \[Previous line repeated \d+ more times\]\n", document["stackTrace"][-1])
    assert len(answer.payload) < 2000
    assert function.invoke("still there").json() == "still there"


@pytest.mark.parametrize(
    ("handler", "error_type", "message"),
    [
        (
            "no_such_module.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'no_such_module': {missing}",
        ),
        (
            "imports_missing.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'imports_missing': {wanted}",
        ),
        ("behaviours.no_such", "Runtime.HandlerNotFound", "Handler 'no_such' missing on module 'behaviours'"),
        (
            "syntax_error.handler",
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'syntax_error': {syntax}",
        ),
        ("raises_at_import.handler", "ValueError", "höher als 日本"),
        (
            "behaviours",
            "Runtime.MalformedHandlerName",
            "Bad handler 'behaviours': not enough values to unpack (expected 2, got 1)",
        ),
        ("sys.exit", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
    ],
    ids=[
        "missing module",
        "missing dependency",
        "missing handler",
        "syntax error",
        "raises at import",
        "malformed name",
        "built-in module",
    ],
)
def test_a_handler_that_cannot_be_loaded_is_the_answer_to_every_invocation(
    pair: Pair, handler: str, error_type: str, message: str
) -> None:
    expected = message.format(
        missing="No module named 'no_such_module'",
        wanted="No module named 'no_such_dependency'",
        syntax="invalid syntax (syntax_error.py, line 5)",
    )
    with pair.start(HANDLERS, handler) as function:
        for _ in range(2):
            answer = function.invoke()
            assert answer.marked_as_error
            document = answer.json()
            assert (document["errorType"], document["errorMessage"]) == (error_type, expected)
            assert document["requestId"] == ""
            assert list(document) == ["errorMessage", "errorType", "requestId", "stackTrace"]
            check_init_trace(handler, document["stackTrace"])


def check_init_trace(handler: str, stack_trace: list[str]) -> None:
    if handler == "syntax_error.handler":
        path = HANDLERS / "syntax_error.py"
        assert stack_trace == [f'  File "{path}" Line 5\n        return = event\n']
    elif handler == "raises_at_import.handler":
        path = HANDLERS / "raises_at_import.py"
        assert (
            stack_trace[-1]
            == f'  File "{path}", line 3, in <module>\n    raise ValueError("höher als 日本")\n'
        )
        assert all(
            "<frozen importlib._bootstrap" in entry for entry in stack_trace[:-1] if "importlib/" not in entry
        )
        assert len(stack_trace) > 1, "the frames of the import are there"
    else:
        assert stack_trace == []
