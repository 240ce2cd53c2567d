"""How the processes of an execution environment are confined, behind one interface.

`process` needs nothing installed. What a sandbox cannot enforce it says in `limits`; the service prints it at its
start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from caloric._rust import ExecutionEnvironment

__all__ = ["Launch", "Limit", "Places", "Sandbox", "Sandboxed"]


@dataclass(frozen=True)
class Limit:
    """One of Lambda's limits on what an environment may do, and what becomes of it here."""

    name: str
    enforced: bool
    how: str
    """One sentence: how it is enforced, or what happens instead."""


@dataclass(frozen=True)
class Places:
    """Where the function finds its folders: the paths as its processes see them."""

    task_root: str
    """`/var/task` on AWS."""
    opt: str | None
    """`/opt` on AWS; `None` without layers."""


@dataclass(frozen=True)
class Launch:
    """What is started in an environment. All paths are as the processes see them."""

    command: Sequence[str]
    variables: Mapping[str, str]
    """The whole environment of the runtime's process, of which extensions get their part."""
    places: Places
    extensions: Mapping[str, str]
    """The executables of the external extensions by their names."""


class Sandboxed(Protocol):
    """The processes of one environment, from its start to its end."""

    environment: ExecutionEnvironment

    def memory_mb(self) -> float:
        """Return how much memory the processes have now, in MB; pages that they share count once."""


class Sandbox(Protocol):
    """A way to run environments. Its methods are for any thread."""

    name: str

    def limits(self) -> Sequence[Limit]:
        """Return what it enforces of Lambda's limits, and what it cannot enforce on this machine."""

    def places(self, code: Path, opt: Path | None, *, writable_code: bool) -> Places:
        """Make `code` and `opt` ready to be used by environments, and return where these find them.

        With `writable_code` the code is the user's own folder, which is not changed.

        Raises `OSError`.
        """

    def start(
        self, environment: ExecutionEnvironment, launch: Launch, on_end: Callable[[Sandboxed], object]
    ) -> Sandboxed:
        """Supply `environment` with its processes from now on: runtime and extensions, anew after a reset.

        `on_end` is called once, on a thread of the sandbox, when the environment was closed and nothing of it is left.
        What cannot be started is told to the environment, not raised.
        """
