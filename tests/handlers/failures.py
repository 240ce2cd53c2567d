"""Ways to fail, chosen by the event."""

from __future__ import annotations

import json
import os
import sys
import tempfile


class OwnError(Exception):
    pass


class Outer:
    class NestedError(Exception):
        pass


class OddError(Exception):
    def __init__(self, answer):
        self.answer = answer

    def __str__(self):
        return self.answer()


def handler(event, context):
    if isinstance(event, dict):
        raise ValueError(event["message"])
    return globals()[event]()


def builtin_error():
    raise ValueError("a value")


def own_error():
    raise OwnError("own")


def nested_class():
    raise Outer.NestedError("nested")


def no_message():
    raise ValueError


def several_arguments():
    raise ValueError("one", 2, None)


def key_error():
    return {}["missing"]


def os_error():
    os.stat("/no/such/file")


def unicode_decode_error():
    return b"\xff".decode()


def syntax_error_in_eval():
    return eval("1 +")


def two_lines():
    raise ValueError("two\nlines")


def unicode():
    raise ValueError("größer als 日本 😀")


def caught_and_raised_again():
    try:
        builtin_error()
    except ValueError:
        raise


def raised_from():
    try:
        builtin_error()
    except ValueError as error:
        raise OwnError("effect") from error


def raised_in_except():
    try:
        builtin_error()
    except ValueError:
        raise OwnError("in except")


def with_traceback_of_another():
    try:
        builtin_error()
    except ValueError as error:
        raise OwnError("borrowed").with_traceback(error.__traceback__) from None


def from_a_comprehension():
    return [1 // n for n in (1, 0)]


def from_a_lambda():
    return (lambda: 1 // 0)()


def from_generated_code():
    exec("def generated():\n    raise ValueError('generated')\ngenerated()", {})


def from_the_standard_library():
    return json.loads("{")


def from_a_generator():
    def numbers():
        yield 1
        raise OwnError("in a generator")

    return list(numbers())


def stop_iteration():
    return next(iter(()))


def import_error():
    import no_such_dependency

    return no_such_dependency


def assertion():
    assert 1 == 2, "sums"


def multi_line_statement():
    return [
        1,
        1 // 0,
        3,
    ]


def recursion():
    return recursion()


def exception_group():
    raise ExceptionGroup("several", [ValueError(1), OwnError(2)])


def with_notes():
    error = ValueError("noted")
    error.add_note("a note")
    raise error


def huge():
    raise ValueError("h" * 3_000_000)


def deep():
    """Frames that are all different, and have long names, so that nothing is summed up."""
    sys.setrecursionlimit(5000)
    space = {"innermost": innermost}
    name = "innermost"
    for depth in range(1200):
        caller = f"function_with_a_long_name_to_fill_the_stack_trace_{depth:04}"
        exec(compile(f"def {caller}():\n    return {name}()\n", f"/generated/{depth:04}.py", "exec"), space)
        name = caller
    return space[name]()


def innermost():
    raise ValueError("deep down")


def lone_surrogate():
    raise ValueError("\ud800")


def str_fails():
    raise OddError(key_error)


def str_returns_no_str():
    raise OddError(lambda: 7)


def no_working_directory():
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
    try:
        raise RuntimeError("nowhere")
    finally:
        if False:
            os.chdir(before)
