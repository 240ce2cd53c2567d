"""Run a function against scripted answers, on any runtime, and look at everything it did."""

from __future__ import annotations

import functools
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.runtimes import start
from tests.scripted_api import ACCEPTED, ScriptedApi, event

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.scripted_api import Request

PEER = "awslambdaric"
# What a function that ends by itself may take, in seconds.
PATIENCE = 20

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


@dataclass(frozen=True)
class Run:
    """What a runtime posted, wrote, and how it ended: None where it was still waiting and was killed."""

    posts: list[Request]
    stdout: str
    stderr: str
    exit_status: int | None

    @property
    def results(self) -> list[Any]:
        """The posted documents, decoded."""
        return [post.json() for post in self.posts]

    @property
    def masked_stdout(self) -> str:
        """Standard output with its times masked."""
        return _TIME.sub("<time>", self.stdout)


def invoke(way: str, folder: Path, *events: bytes, handler: str = "app.handler", **variables: str) -> Run:
    """Serve `events`, answers to `/next` as `scripted_api.event` makes them; by default one, null."""
    return _serve(way, folder, handler, _steps(events or (event(),)), False, variables)


def invoke_until_exit(
    way: str, folder: Path, *events: bytes, handler: str = "app.handler", **variables: str
) -> Run:
    """`invoke` for a function that ends by itself instead of asking for more."""
    return _serve(way, folder, handler, _steps(events), True, variables)


def _steps(events: tuple[bytes, ...]) -> list[bytes]:
    return [step for answer in events for step in (answer, ACCEPTED)]


def initialize(way: str, folder: Path, handler: str = "app.handler", **variables: str) -> Run:
    """Let the function fail to initialize: what it posts first is accepted, and it ends by itself."""
    return _serve(way, folder, handler, [ACCEPTED], True, variables)


def _serve(
    way: str, folder: Path, handler: str, steps: list[bytes], ends: bool, variables: dict[str, str]
) -> Run:
    with (
        ScriptedApi([*steps]) as api,
        start(way, handler, folder, api.address, **variables) as process,
    ):
        output: list[bytes] = []
        # Read all the time: a function that fills the pipe would wait for ever.
        reader = threading.Thread(target=lambda: output.extend(process.communicate()), daemon=True)
        reader.start()
        try:
            if not ends:
                _wait_for_requests(api, len(steps) + 1, process)
                process.kill()
            reader.join(PATIENCE)
        finally:
            process.kill()
        assert output, "the function does not end, or left a child that holds its output open"
        posts = [request for request in api.requests if request.method == "POST"]
        return Run(posts, output[0].decode(), output[1].decode(), process.returncode if ends else None)


def _wait_for_requests(api: ScriptedApi, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            api.wait_for(count, timeout=0.5)
        except AssertionError as error:
            # A process that is gone asks for nothing more.
            if process.poll() is not None:
                raise AssertionError(f"{error}; exit status {process.returncode}") from None
            if time.monotonic() > deadline:
                raise
        else:
            return


# What awslambdaric does is asked once for all of our ways in.


@functools.cache
def peers_initialize(folder: Path, handler: str) -> Run:
    """`initialize` with awslambdaric."""
    return initialize(PEER, folder, handler)


@functools.cache
def peers_invoke(folder: Path, *events: bytes, handler: str = "app.handler", **variables: str) -> Run:
    """`invoke` with awslambdaric."""
    return invoke(PEER, folder, *events, handler=handler, **variables)
