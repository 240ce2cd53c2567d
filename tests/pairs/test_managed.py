"""Managed Instances: several invocations at once, in worker processes (spec runtime-api 6)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.pairs import managed_rie
from tests.pairs.function import PAIRS, PATIENCE, Pair

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteFunction
    from tests.pairs.function import Answer, Function

# Says that it has begun, and waits to be told to go on: what overlaps is a matter of files, not of time.
SOURCE = """
    import os, pathlib, time

    folder = pathlib.Path(__file__).parent

    def handler(event, context):
        name = event["name"]
        (folder / f"{name}.begun").touch()
        while not (folder / f"{name}.go").exists():
            time.sleep(0.002)
        if event.get("crash"):
            os._exit(9)
        return {"name": name, "pid": os.getpid(), "id": context.aws_request_id}
"""

REFUSALS = [b"Client.InitIncomplete", b"Runtime.Unavailable"]

needs_namespaces = pytest.mark.skipif(
    not managed_rie.can_be_started(),
    reason="AWS's emulator runs Managed Instances as user 993 out of /var/task, which takes root to arrange",
)
managed_pairs = pytest.mark.parametrize(
    "pair",
    [
        pytest.param(pair, id=str(pair), marks=needs_namespaces if pair.endpoint == "rie" else ())
        for pair in PAIRS
    ],
)


class Call:
    """An invocation that runs in a thread."""

    def __init__(self, function: Function, name: str, **event: object) -> None:
        self._answer: list[Answer] = []
        self._thread = threading.Thread(
            target=self._invoke, args=(function, {"name": name, **event}), daemon=True
        )
        self._thread.start()

    def _invoke(self, function: Function, event: dict[str, object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = function.invoke(event)
            # Where ours lets it wait, AWS's emulator refuses what comes before a worker is free.
            if not any(refusal in answer.payload for refusal in REFUSALS) or time.monotonic() > deadline:
                self._answer.append(answer)
                return
            time.sleep(0.01)

    @property
    def is_answered(self) -> bool:
        return bool(self._answer)

    def answer(self) -> Any:
        self._thread.join(PATIENCE)
        assert self._answer, "no answer came"
        return self._answer[0].json()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.002)


@managed_pairs
def test_invocations_overlap_and_are_answered_in_any_order(pair: Pair, write_function: WriteFunction) -> None:
    folder = write_function(SOURCE)
    names = ["a", "b", "c"]
    with pair.start(folder, "app.handler", max_concurrency=3) as function:
        calls = {name: Call(function, name) for name in names}
        for name in names:
            wait_for(folder / f"{name}.begun")
        answers = []
        for name in reversed(names):
            assert not calls[name].is_answered
            (folder / f"{name}.go").touch()
            answers.append(calls[name].answer())
    assert [answer["name"] for answer in answers] == ["c", "b", "a"]
    assert len({answer["pid"] for answer in answers}) == 3
    assert len({answer["id"] for answer in answers}) == 3


@managed_pairs
def test_the_crash_of_a_worker_leaves_the_others_serving(pair: Pair, write_function: WriteFunction) -> None:
    folder = write_function(SOURCE)
    with pair.start(folder, "app.handler", max_concurrency=2, timeout_s=5) as function:
        victim = Call(function, "victim", crash=True)
        other = Call(function, "other")
        wait_for(folder / "victim.begun")
        wait_for(folder / "other.begun")
        (folder / "victim.go").touch()
        (folder / "other.go").touch()
        pid = other.answer()["pid"]
        # Nobody knows that its worker is gone: the caller hears of it at the time limit.
        answer = victim.answer()
        assert answer["errorType"] == "Sandbox.Timedout"
        assert "Task timed out after 5.00 seconds" in answer["errorMessage"]
        (folder / "again.go").touch()
        again = Call(function, "again").answer()
        if pair.runtime == "awslambdaric":
            assert again["pid"] == pid, "the peer replaces no worker"
        else:
            first, second = Call(function, "first"), Call(function, "second")
            wait_for(folder / "first.begun")
            wait_for(folder / "second.begun")
            (folder / "first.go").touch()
            (folder / "second.go").touch()
            assert len({first.answer()["pid"], second.answer()["pid"], pid}) == 2


@managed_pairs
def test_a_time_limit_ends_the_invocation_and_not_the_code(pair: Pair, write_function: WriteFunction) -> None:
    folder = write_function(SOURCE)
    with pair.start(folder, "app.handler", max_concurrency=1, timeout_s=2) as function:
        late = Call(function, "late")
        assert late.answer()["errorType"] == "Sandbox.Timedout"
        (folder / "late.go").touch()
        (folder / "next.go").touch()
        # The one worker there is has had its late answer refused, and goes on.
        assert Call(function, "next").answer()["name"] == "next"


@managed_pairs
def test_a_failed_import_is_reported(pair: Pair, write_function: WriteFunction) -> None:
    folder = write_function("import nowhere_to_be_found")
    if pair.endpoint == "rie":
        # It starts the runtime before anybody invokes, and ends with it.
        with pair.start(folder, "app.handler", max_concurrency=2) as function:
            function.wait_for_log(
                lambda text: "nowhere_to_be_found" in text and "Runtime.ImportModuleError" in text
            )
        return
    with pair.start(folder, "app.handler", max_concurrency=2) as function:
        answer = function.invoke({}).json()
        assert answer["errorType"] == "Runtime.ImportModuleError"
        assert (
            answer["errorMessage"] == "Unable to import module 'app': No module named 'nowhere_to_be_found'"
        )
