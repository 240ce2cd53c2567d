"""Streamed responses for a caller who does not ask for a stream: AWS's emulator knows no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.emulator.emulators import Emulator
from tests.runtimes import COMMANDS

if TYPE_CHECKING:
    from tests.conftest import WriteFunction
    from tests.emulator.emulators import Kind

SOURCE = """
def deep():
    return deep()

def handler(event, context):
    yield "half "
    if event == "deep":
        deep()
    if event == "long":
        raise ValueError("x" * 100_000)
    yield "whole"
"""


def test_a_stream_is_collected_and_an_error_in_it_leaves_the_environment_alone(
    kind: Kind, write_function: WriteFunction
) -> None:
    with Emulator(kind, write_function(SOURCE), [*COMMANDS["fast"], "app.handler"]) as emulator:
        assert emulator.invoke("ok").body == b"half whole"
        for event in ("deep", "long", "deep"):
            # Trailers that are too long would be the last that is heard of this environment.
            answer = emulator.invoke(event)
            assert answer.status == 200
            if kind == "aws":
                assert answer.body == b"half "
            else:
                expected = {"deep": "RecursionError", "long": "ValueError"}[event]
                assert answer.json()["errorType"] == expected
        assert emulator.invoke("ok").body == b"half whole"
