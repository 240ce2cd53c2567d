"""An answer that comes too late, on our endpoint: 410, which the runtime logs and survives (spec runtime-api 1.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from caloric._rust import ExecutionEnvironment
from tests.integration.scripted_run import PEER
from tests.runtimes import COMMANDS, start

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

# Waits for a file that the test makes when the invocation has timed out.
SOURCE = """
    import os, time

    def handler(event, context):
        while event == "late" and not os.path.exists("timed out"):
            time.sleep(0.01)
        if event == "late" and os.path.exists("fail"):
            raise ValueError(event)
        return [event, os.getpid()]
"""


@pytest.mark.parametrize("way", COMMANDS)
@pytest.mark.parametrize("kind", ["response", "error"])
def test_a_late_answer_is_refused_and_the_next_invocation_served(
    way: str, kind: str, write_function: WriteFunction
) -> None:
    folder = write_function(SOURCE)
    if kind == "error":
        (folder / "fail").touch()
    with (
        # The runtime is nobody's child to this environment, which therefore cannot kill it.
        ExecutionEnvironment(timeout_ms=20_000) as environment,
        start(way, "app.handler", folder, environment.address) as process,
    ):
        assert environment.invoke(b'"first"').status == "success"
        late = environment.invoke(b'"late"', timeout_ms=100)
        assert (late.status, late.error_type) == ("timeout", "Sandbox.Timedout")
        (folder / "timed out").touch()
        if way == PEER:
            # It does not survive that.
            _, err = process.communicate(timeout=20)
            assert process.returncode == 1
            assert f"Failed to post invocation {kind}" in err.decode()
            return
        served = environment.invoke(b'"next"')
        process.kill()
        _, err = process.communicate(timeout=20)
    assert served.payload == f'["next",{process.pid}]'.encode()
    text = err.decode()
    line = f"caloric: the answer to {late.request_id} was not accepted: 410 "
    assert [found for found in text.splitlines() if found.startswith(line)]
    assert "Traceback" not in text
