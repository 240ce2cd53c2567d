"""Signals reach Python while the runtime waits for the next invocation (spec runtime-api 4.13)."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.runtimes import CALORIC, start
from tests.scripted_api import ACCEPTED, HANG, ScriptedApi, event

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

# A signal that only the fallback timer of the wait notices takes up to a second; one that interrupts it takes about
# a millisecond. On a busy machine the difference must still show.
AT_ONCE = 0.6

PYTHON_HANDLER = """
    import signal, sys, time

    def on_term(number, frame):
        print("term", flush=True)
        {what}

    signal.signal(signal.SIGTERM, on_term)
    {then}

    def handler(event, context):
        return event
"""


def end_by(
    sent: signal.Signals, way: str, source: str, write_function: WriteFunction
) -> tuple[int, bytes, bytes]:
    """Start the function, send a signal while it waits for `/next`, and return how and with what output it ended."""
    with (
        ScriptedApi([HANG]) as api,
        start(way, "app.handler", write_function(source), api.address) as process,
    ):
        api.wait_for(1)
        # The request is on its way before the wait begins.
        time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(sent)
        out, err = process.communicate(timeout=20)
        took = time.monotonic() - began
        assert took < AT_ONCE, f"the signal was noticed after {took:.3f} s"
        return process.returncode, out, err


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize(
    "then", ["", "signal.siginterrupt(signal.SIGTERM, False)"], ids=["plain", "SA_RESTART"]
)
def test_a_python_handler_runs_at_once_while_idle(way: str, then: str, write_function: WriteFunction) -> None:
    source = PYTHON_HANDLER.format(what="sys.exit(7)", then=then)
    code, out, _ = end_by(signal.SIGTERM, way, source, write_function)
    assert (code, out) == (7, b"term\n")


@pytest.mark.parametrize("way", CALORIC)
def test_a_python_handler_that_returns_leaves_the_wait_going_on(
    way: str, write_function: WriteFunction
) -> None:
    source = PYTHON_HANDLER.format(what="", then="")
    folder = write_function(source)
    with ScriptedApi([HANG]) as api, start(way, "app.handler", folder, api.address) as process:
        api.wait_for(1)
        for _ in range(3):
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert process.poll() is None
        assert len(api.requests) == 1, "the same request is still being waited for"
        process.kill()
        out, _ = process.communicate(timeout=20)
        assert out == b"term\n" * 3


@pytest.mark.parametrize("way", CALORIC)
def test_an_event_loops_handler_runs_at_once_while_idle(way: str, write_function: WriteFunction) -> None:
    source = """
        import asyncio, os, signal

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)

        def on_term():
            print("term", flush=True)
            os._exit(5)

        loop.add_signal_handler(signal.SIGTERM, on_term)

        def handler(event, context):
            return loop.run_until_complete(asyncio.sleep(0, event))
    """
    code, out, _ = end_by(signal.SIGTERM, way, source, write_function)
    assert (code, out) == (5, b"term\n")


@pytest.mark.parametrize("way", CALORIC)
def test_an_event_loop_is_left_alone_between_invocations(way: str, write_function: WriteFunction) -> None:
    source = """
        import asyncio

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        turns = 0

        async def background():
            global turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = loop.create_task(background())

        def handler(event, context):
            return turns
    """
    folder = write_function(source)
    with (
        ScriptedApi([event({}, "a"), ACCEPTED, event({}, "b"), ACCEPTED, HANG]) as api,
        start(way, "app.handler", folder, api.address) as process,
    ):
        answers = [request.json() for request in api.wait_for(5) if request.call == "response"]
        process.kill()
    assert answers == [0, 0]


@pytest.mark.parametrize("way", CALORIC)
def test_a_handler_runs_when_other_threads_could_take_the_signal(
    way: str, write_function: WriteFunction
) -> None:
    then = "import threading; [threading.Thread(target=time.sleep, args=(60,), daemon=True).start() for _ in '1234']"
    source = PYTHON_HANDLER.format(what="sys.exit(7)", then=then)
    code, out, _ = end_by(signal.SIGTERM, way, source, write_function)
    assert (code, out) == (7, b"term\n")


@pytest.mark.parametrize("way", CALORIC)
def test_without_a_python_handler_sigterm_ends_the_process(way: str, write_function: WriteFunction) -> None:
    code, out, err = end_by(signal.SIGTERM, way, "def handler(event, context): pass", write_function)
    assert (code, out, err) == (-signal.SIGTERM, b"", b"")


@pytest.mark.parametrize("way", CALORIC)
def test_ctrl_c_ends_an_idle_runtime(way: str, write_function: WriteFunction) -> None:
    code, _, err = end_by(signal.SIGINT, way, "def handler(event, context): pass", write_function)
    assert code == -signal.SIGINT
    assert err.endswith(b"KeyboardInterrupt\n")


@pytest.mark.parametrize("way", CALORIC)
def test_what_a_signal_handler_raises_ends_the_process_as_an_uncaught_error(
    way: str, write_function: WriteFunction
) -> None:
    source = PYTHON_HANDLER.format(what="raise RuntimeError('on purpose')", then="")
    code, _, err = end_by(signal.SIGTERM, way, source, write_function)
    assert code == 1
    assert err.endswith(b"RuntimeError: on purpose\n")


@pytest.mark.parametrize("way", CALORIC)
def test_signals_are_not_blocked_while_the_handler_runs(way: str, write_function: WriteFunction) -> None:
    source = """
        import signal, subprocess, sys

        def handler(event, context):
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            print(len(blocked), flush=True)
            code = "import signal; print(len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
            subprocess.run([sys.executable, "-c", code], check=True)
    """
    folder = write_function(source)
    with ScriptedApi([event({})]) as api, start(way, "app.handler", folder, api.address) as process:
        api.wait_for(2)
        process.kill()
        out, _ = process.communicate(timeout=20)
        assert out == b"0\n0\n"
