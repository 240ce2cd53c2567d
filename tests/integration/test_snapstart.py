"""SnapStart against scripted answers (spec runtime-api 5).

What is the same as with awslambdaric is in `conformance/cases/snapstart.py`; here is what cannot be compared.
"""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.integration.scripted_run import PEER
from tests.runtimes import CALORIC, COMMANDS, start
from tests.scripted_api import ACCEPTED, CLOSE, HANG, RESET, ScriptedApi, event, status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteFunction
    from tests.scripted_api import Request, Step

SNAPSTART = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
RESTORED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"
PATIENCE = 20

# Says in which order things happen; `{before}` and `{after}` are bodies of hooks.
HOOKS = """
    import os, sys
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    def say(*args, **kwargs):
        print("hook", args, sorted(kwargs.items()))

    @register_before_snapshot
    def before_first():
        print("before first")

    register_before_snapshot(say, 1, "two", three=3)

    @register_before_snapshot
    def before_last():
        print("before last")
        {before}

    @register_after_restore
    def after_first():
        print("after first")
        {after}

    register_after_restore(say, four=4)

    @register_after_restore
    def after_last():
        print("after last")

    def handler(event, context):
        print("handler")
        return event
"""

IN_ORDER = [
    "before last",
    "hook (1, 'two') [('three', 3)]",
    "before first",
    "after first",
    "hook () [('four', 4)]",
    "after last",
    "handler",
]


def hooks(before: str = "pass", after: str = "pass") -> str:
    return dedent(HOOKS).format(before=before, after=after)


@dataclass(frozen=True)
class Run:
    """Everything a runtime asked and wrote, and how it ended: None where it waited for more and was killed."""

    requests: list[Request]
    stdout: str
    stderr: str
    exit_status: int | None

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]


def serve(way: str, folder: Path, *steps: Step, ends: bool = True, **variables: str) -> Run:
    """Answer the runtime's requests with `steps`; without `ends`, stop it at the request after the last of them."""
    with (
        ScriptedApi([*steps]) as api,
        start(way, "app.handler", folder, api.address, **{**SNAPSTART, **variables}) as process,
    ):
        output: list[bytes] = []
        reader = threading.Thread(target=lambda: output.extend(process.communicate()), daemon=True)
        reader.start()
        try:
            if not ends:
                api.wait_for(len(steps) + 1)
                process.kill()
            reader.join(PATIENCE)
        finally:
            process.kill()
        assert output, "the function does not end"
        return Run(
            [*api.requests], output[0].decode(), output[1].decode(), process.returncode if ends else None
        )


# ---- the ordinary course ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", COMMANDS)
def test_hooks_run_in_awss_order_around_the_restore(way: str, write_function: WriteFunction) -> None:
    run = serve(way, write_function(hooks()), RESTORED, event("e"), ACCEPTED, ends=False)
    assert run.asked == [
        "GET /2018-06-01/runtime/restore/next",
        "GET /2018-06-01/runtime/invocation/next",
        "POST /2018-06-01/runtime/invocation/id-1/response",
        "GET /2018-06-01/runtime/invocation/next",
    ]
    assert run.stdout.splitlines() == IN_ORDER
    assert run.requests[2].json() == "e"
    restore, first = run.requests[:2]
    assert restore.body == b""
    assert restore.connection != first.connection, "what was open before the snapshot is not used after it"


@pytest.mark.parametrize("way", COMMANDS)
def test_a_function_without_hooks_is_restored_too(way: str, write_function: WriteFunction) -> None:
    source = """
        import sys
        def handler(event, context):
            return "snapshot_restore_py" in sys.modules
    """
    run = serve(way, write_function(source), RESTORED, event(), ACCEPTED, ends=False)
    assert run.asked[0].endswith("/restore/next")
    # The peer imports the package itself.
    assert run.requests[2].json() == (way == PEER)


@pytest.mark.parametrize("way", COMMANDS)
def test_signals_are_served_while_the_snapshot_is_waited_for(way: str, write_function: WriteFunction) -> None:
    source = """
        import signal
        signal.signal(signal.SIGUSR1, lambda number, frame: print("signal", flush=True))
        def handler(event, context): pass
    """
    with (
        ScriptedApi([HANG]) as api,
        start(way, "app.handler", write_function(source), api.address, **SNAPSTART) as process,
    ):
        api.wait_for(1)
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert process.stdout.readline() == b"signal\n"
        assert api.calls() == ["next"], "the same request is still being waited for"
        process.kill()


@pytest.mark.parametrize("way", COMMANDS)
def test_ctrl_c_while_the_snapshot_is_waited_for_is_reported(way: str, write_function: WriteFunction) -> None:
    with (
        ScriptedApi([HANG, ACCEPTED]) as api,
        start(way, "app.handler", write_function(hooks()), api.address, **SNAPSTART) as process,
    ):
        api.wait_for(1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 64
    assert api.requests[1].json()["errorType"] == "KeyboardInterrupt"


SEEDED = """
    import random
    {seeded}
    def handler(event, context):
        return random.random()
"""


@pytest.mark.parametrize("way", CALORIC)
def test_random_numbers_differ_between_copies_of_a_snapshot(way: str, write_function: WriteFunction) -> None:
    # Two processes with the same seed are what two copies of one snapshot are.
    folder = write_function(SEEDED.format(seeded="random.seed(7)"))
    numbers = [
        serve(way, folder, RESTORED, event(), ACCEPTED, ends=False).requests[2].json() for _ in range(2)
    ]
    assert numbers[0] != numbers[1]
    (unrestored,) = {
        serve(way, folder, event(), ACCEPTED, ends=False, AWS_LAMBDA_INITIALIZATION_TYPE="on-demand")
        .requests[1]
        .json()
        for _ in range(2)
    }
    assert unrestored == 0.32383276483316237


# ---- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(403), "was refused: 403"),
        (status(404), "was refused: 404"),
        (status(500), "the Runtime API failed: 500"),
        (ACCEPTED, "unexpected answer: 202"),
        (CLOSE, "the connection was closed without an answer"),
        (RESET, "the connection failed"),
        ((CUT, CLOSE), "the answer ended after 2 of 5 body bytes"),
    ],
    ids=["403", "404", "500", "202", "close", "reset", "cut"],
)
def test_a_restore_that_does_not_come_is_an_init_error(
    way: str, answer: Step, said: str, write_function: WriteFunction
) -> None:
    run = serve(way, write_function(hooks()), answer, ACCEPTED)
    assert run.asked[1] == "POST /2018-06-01/runtime/init/error"
    assert run.exit_status == 64
    document = run.requests[1].json()
    assert document["errorType"] == "RuntimeApiError"
    assert document["errorMessage"].startswith("GET /runtime/restore/next")
    assert said in document["errorMessage"]
    assert document["stackTrace"] == []
    assert f"[ERROR] RuntimeApiError: {document['errorMessage']}" in run.stdout


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize(
    "refusal", [status(403), status(404), status(500), CLOSE], ids=["403", "404", "500", "close"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_report_that_is_not_accepted_ends_the_process_with_one_clear_line(
    way: str, when: str, refusal: Step, write_function: WriteFunction
) -> None:
    folder = write_function(hooks(**{when: "raise ValueError('on purpose')"}))
    run = serve(way, folder, *([RESTORED, refusal] if when == "after" else [refusal]))
    assert run.exit_status == 1
    name = "restore/error" if when == "after" else "init/error"
    assert run.stderr.startswith(f"caloric: POST /runtime/{name}")
    assert run.stderr.count("\n") == 1
    assert "[ERROR] ValueError: on purpose" in run.stdout


@pytest.mark.parametrize("way", COMMANDS)
def test_the_log_of_a_failed_hook_can_be_json(way: str, write_function: WriteFunction) -> None:
    source = hooks(after="raise ValueError('on purpose')")
    run = serve(way, write_function(source), RESTORED, ACCEPTED, AWS_LAMBDA_LOG_FORMAT="JSON")
    line = json.loads(run.stdout.splitlines()[-1])
    assert (line["level"], line["errorType"], line["errorMessage"], line["requestId"]) == (
        "ERROR",
        "ValueError",
        "on purpose",
        "",
    )
