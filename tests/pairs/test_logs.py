"""What a function prints and logs, as text (spec runtime-api 4.8, 4.11)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.pairs.test_errors import frame

if TYPE_CHECKING:
    from tests.pairs.function import Function

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
NBSP = "\u00a0"


def test_output_appears_in_the_order_in_which_it_was_written(function: Function) -> None:
    _, log = function.invoke_logged({"case": "printing"})
    assert (
        log == "first\nsecond\nthird, in two pieces\nfourth, without a line end\nfifth, past Python\nsixth\n"
    )


def test_log_records_have_level_time_and_request_id(function: Function) -> None:
    answer, log = function.invoke_logged({"case": "logging_lines"})
    request_id = answer.json()
    lines = [
        (r"\[WARNING\]", "shown: 1 ü"),
        (r"\[ERROR\]", "two\nlines"),
        (r"\[CRITICAL\]", "from the root"),
        (r"\[Level 45\]", "a level of its own"),
    ]
    assert re.fullmatch("".join(f"{level}\t{TIME}\t{request_id}\t{text}\n" for level, text in lines), log)


def test_a_logged_exception_has_its_traceback(function: Function) -> None:
    _, log = function.invoke_logged({"case": "logging_exception"})
    records = re.split(rf"\[(ERROR|WARNING)\]\t{TIME}\t[0-9a-f-]{{36}}\t", log)
    assert records[0] == ""
    assert records[1::2] == ["ERROR", "WARNING"]
    assert records[2].startswith("while testing\nTraceback (most recent call last):\n")
    assert frame("logging_exception", 'deeper("caught")') in records[2]
    assert records[2].endswith("behaviours.TeapotError: caught")
    assert records[4] == "the next record\n"


def test_an_error_is_one_line_that_cloudwatch_keeps_together(function: Function) -> None:
    _, log = function.invoke_logged({"case": "raising", "message": "ü"})
    frames = [
        frame("handler", 'return CASES[event["case"]](event, context)'),
        frame("raising", 'deeper(event["message"])'),
        frame("deeper", "raise TeapotError(message)"),
    ]
    lines = "".join(frames).replace("    ", NBSP * 4).replace("  File", NBSP * 2 + "File").splitlines()
    assert log == "\r".join(["[ERROR] TeapotError: ü", "Traceback (most recent call last):", *lines]) + "\n"


def test_a_fault_is_logged_without_frames(function: Function) -> None:
    _, log = function.invoke_logged({"case": "python_value", "value": "set"})
    message = "Unable to marshal response: Object of type set is not JSON serializable"
    assert log == f"[ERROR] Runtime.MarshalError: {message}\rTraceback (most recent call last):\n"


def test_nothing_is_logged_where_nothing_happens(function: Function) -> None:
    assert function.invoke_logged("quiet")[1] == ""
