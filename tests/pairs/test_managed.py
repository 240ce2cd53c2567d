"""Managed Instances: several invocations at once, in worker processes, as tasks and in threads (spec runtime-api 6)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.pairs import managed_rie
from tests.pairs.function import PAIRS, PATIENCE, Pair
from tests.runtimes import CALORIC

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

# The same as a coroutine. What fails is told by the event.
ASYNC_SOURCE = """
    import asyncio, os, pathlib
    import caloric

    folder = pathlib.Path(__file__).parent

    async def handler(event, context):
        name = event["name"]
        (folder / f"{name}.begun").touch()
        while not (folder / f"{name}.go").exists():
            await asyncio.sleep(0.002)
        if event.get("fail"):
            raise ValueError(context.aws_request_id)
        if event.get("exit"):
            raise SystemExit(3)
        return {"name": name, "pid": os.getpid(), "id": context.aws_request_id, "trace": caloric.trace_id()}
"""

REFUSALS = [b"Client.InitIncomplete", b"Runtime.Unavailable", b"Runtime.Unknown"]

needs_namespaces = pytest.mark.skipif(
    not managed_rie.can_be_started(),
    reason="AWS's emulator runs Managed Instances as user 993 out of /var/task, which takes root to arrange",
)


def _with_marks(pairs: list[Pair]) -> pytest.MarkDecorator:
    marks = {"rie": needs_namespaces}
    return pytest.mark.parametrize(
        "pair", [pytest.param(pair, id=str(pair), marks=marks.get(pair.endpoint, ())) for pair in pairs]
    )


managed_pairs = _with_marks(PAIRS)
our_managed_pairs = _with_marks([pair for pair in PAIRS if pair.runtime in CALORIC])


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
            # Where ours lets it wait, AWS's emulator refuses what comes before a worker is free, or gives it to one
            # that has hung up.
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


@our_managed_pairs
@pytest.mark.parametrize("how", ["task", "thread"])
def test_invocations_overlap_in_one_process(how: str, pair: Pair, write_function: WriteFunction) -> None:
    folder = write_function(ASYNC_SOURCE if how == "task" else SOURCE)
    names = ["a", "b", "c"]
    with pair.start(folder, "app.handler", max_concurrency=3, CALORIC_CONCURRENCY=how) as function:
        calls = {name: Call(function, name) for name in names}
        for name in names:
            wait_for(folder / f"{name}.begun")
        answers = []
        for name in reversed(names):
            assert not calls[name].is_answered
            (folder / f"{name}.go").touch()
            answers.append(calls[name].answer())
    assert [answer["name"] for answer in answers] == ["c", "b", "a"]
    assert len({answer["pid"] for answer in answers}) == 1
    assert len({answer["id"] for answer in answers}) == 3
    if how == "task" and pair.endpoint == "caloric":
        # AWS's emulator sends none.
        assert len({answer["trace"] for answer in answers}) == 3


@our_managed_pairs
def test_what_one_task_does_wrong_leaves_the_others_alone(pair: Pair, write_function: WriteFunction) -> None:
    folder = write_function(ASYNC_SOURCE)
    with pair.start(folder, "app.handler", max_concurrency=3) as function:
        events: dict[str, dict[str, bool]] = {"fails": {"fail": True}, "exits": {"exit": True}, "other": {}}
        calls = {name: Call(function, name, **event) for name, event in events.items()}
        for name in events:
            wait_for(folder / f"{name}.begun")
        (folder / "fails.go").touch()
        assert calls["fails"].answer()["errorType"] == "ValueError"
        (folder / "exits.go").touch()
        assert calls["exits"].answer()["errorType"] == "Runtime.ExitError"
        assert not calls["other"].is_answered
        (folder / "other.go").touch()
        pid = calls["other"].answer()["pid"]
        # The process ends then, and another one takes its place.
        function.wait_for_log(lambda text: "ended with exit status 3; another one starts" in text)
        (folder / "again.go").touch()
        again = Call(function, "again").answer()
        assert again.get("pid", pid) != pid, again


@our_managed_pairs
def test_a_late_answer_of_a_task_is_refused(pair: Pair, write_function: WriteFunction) -> None:
    folder = write_function(ASYNC_SOURCE)
    with pair.start(folder, "app.handler", max_concurrency=1, timeout_s=2) as function:
        late = Call(function, "late")
        assert late.answer()["errorType"] == "Sandbox.Timedout"
        (folder / "late.go").touch()
        (folder / "next.go").touch()
        assert Call(function, "next").answer()["name"] == "next"
