"""SnapStart hooks that fail, on every pair (spec runtime-api 5.1).

AWS's emulator offers the restore routes, and answers `/restore/next`; but after a restore it hands out no event, to
`awslambdaric` either, so that a function that is served is tested on our endpoint only (`integration/test_restore`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.pairs.function import PAIRS

if TYPE_CHECKING:
    from tests.conftest import WriteFunction
    from tests.pairs.function import Pair

SOURCE = """
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    @register_{when}
    def hook():
        print("hook")
        raise ValueError("on purpose")

    def handler(event, context):
        return event
"""


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_failed_before_snapshot_hook_is_the_invokers_answer(
    pair: Pair, write_function: WriteFunction
) -> None:
    folder = write_function(SOURCE.format(when="before_snapshot"))
    with pair.start(folder, "app.handler", snapstart=True) as function:
        answer = function.invoke()
        log = function.wait_for_log(lambda text: "[ERROR]" in text)
    document = answer.json()
    assert (document["errorType"], document["errorMessage"]) == ("ValueError", "on purpose")
    assert answer.marked_as_error
    assert log.index("hook") < log.index("[ERROR] ValueError: on purpose")


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_failed_after_restore_hook_ends_the_process_and_the_invocation(
    pair: Pair, write_function: WriteFunction
) -> None:
    folder = write_function(SOURCE.format(when="after_restore"))
    with pair.start(folder, "app.handler", snapstart=True) as function:
        answer = function.invoke()
        log = function.wait_for_log(lambda text: "[ERROR]" in text)
    document = answer.json()
    if pair.endpoint == "rie":
        # What was posted does not reach the invoker there.
        assert document["errorType"] == "Runtime.ExitError"
        assert document["errorMessage"].endswith("Runtime exited with error: exit status 65")
    else:
        assert (document["errorType"], document["errorMessage"]) == ("ValueError", "on purpose")
    assert answer.marked_as_error
    assert log.index("hook") < log.index("[ERROR] ValueError: on purpose")
