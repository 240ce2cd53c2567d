"""What a cold start loads (design: the runtime imports nothing it does not need)."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.runtimes import COMMANDS, environment, start
from tests.scripted_api import HANG, ScriptedApi, event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteFunction

# The last one while the first /next is on its way.
OURS = {"caloric", "caloric._rust", "caloric.runtime", "caloric.context"}

# Imports nothing that is not there already, and says what is when a signal asks.
SPY = """
    import _signal, sys

    def say(number, frame):
        sys.stdout.write(" ".join(sys.modules) + "\\n")

    _signal.signal(_signal.SIGUSR1, say)

    def handler(event, context):
        return event
"""


def modules_of(command: list[str], folder: Path) -> set[str]:
    run = subprocess.run(command, cwd=folder, env=environment(""), capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def baseline(way: str, folder: Path) -> set[str]:
    """What CPython itself imports to run a script, or a package, that does nothing but say so."""
    (folder / "nothing").mkdir()
    (folder / "nothing/__init__.py").touch()
    (folder / "nothing/__main__.py").write_text("import sys\nprint(*sys.modules)")
    if way == "module":
        return modules_of([sys.executable, "-m", "nothing"], folder)
    return modules_of([sys.executable, "-S", "nothing/__main__.py"], folder)


@pytest.mark.parametrize("way", ["fast", "module"])
def test_modules_at_the_first_next_are_ours_builtins_and_what_cpython_loaded(
    way: str, write_function: WriteFunction
) -> None:
    folder = write_function(SPY)
    with ScriptedApi([HANG]) as api, start(way, "app.handler", folder, api.address) as process:
        api.wait_for(1)
        assert process.stdout is not None
        loaded: set[str] = set()
        # The request is there before the process waits for its answer, so the first signal may come early.
        for _ in range(100):
            process.send_signal(signal.SIGUSR1)
            loaded = set(process.stdout.readline().decode().split())
            if loaded >= OURS:
                break
            time.sleep(0.01)
        process.kill()
    added = loaded - baseline(way, folder) - set(sys.builtin_module_names)
    assert added == OURS | {"app"}


def test_collection_is_as_python_has_it_when_the_handler_runs(write_function: WriteFunction) -> None:
    import gc

    source = """
        import gc
        during = gc.get_threshold()

        def handler(event, context):
            return {"during": during, "after": gc.get_threshold(), "frozen": gc.get_freeze_count() > 0}
    """
    with ScriptedApi([event({})]) as api:
        process = subprocess.Popen(
            [*COMMANDS["fast"], "app.handler"], cwd=write_function(source), env=environment(api.address)
        )
        answer = api.wait_for(2)[1].json()
        process.kill()
        process.wait()
    assert answer["during"][0] == 100_000
    assert answer["after"] == list(gc.get_threshold())
    assert answer["frozen"]


def test_a_threshold_that_user_code_set_stays(write_function: WriteFunction) -> None:
    source = """
        import gc
        gc.set_threshold(1234, 5, 6)
        gc.disable()

        def handler(event, context):
            return [list(gc.get_threshold()[:2]), gc.isenabled()]
    """
    with ScriptedApi([event({})]) as api:
        process = subprocess.Popen(
            [*COMMANDS["fast"], "app.handler"], cwd=write_function(source), env=environment(api.address)
        )
        answer = api.wait_for(2)[1].json()
        process.kill()
        process.wait()
    assert answer == [[1234, 5], False]
