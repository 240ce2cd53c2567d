"""What the service asks of the environments, so that neither has to know how the other works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from caloric._rust import InvokeResult

__all__ = ["Environments", "FunctionVersion", "NotPublishedError", "ProvisionedEnvironments"]


class NotPublishedError(LookupError):
    """There is no such function here, or no such version or alias of it."""


@dataclass(frozen=True)
class FunctionVersion:
    """All that an execution environment is made of: `$LATEST` at one moment, or a published version.

    Two that are equal need no new environments; a difference means that those of the earlier one are drained.
    """

    function_name: str
    version: str
    """`$LATEST` or a number."""
    function_arn: str
    """Unqualified."""
    runtime: str
    """Such as `python3.12` or `provided.al2023`."""
    handler: str
    code: Path
    """The unpacked deployment package: what is `/var/task` in AWS."""
    timeout_s: int
    memory_mb: int
    ephemeral_storage_mb: int
    layers: tuple[Path, ...] = ()
    """The unpacked layers in their order: later ones win."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The function's own environment variables. Never logged."""
    log_format: str = "Text"
    application_log_level: str | None = None
    system_log_level: str | None = None
    log_group: str = ""
    tenant_isolation: bool = False
    watched: bool = False
    """`code` is the user's own folder: what is saved there is what the next invocation runs."""


@dataclass(frozen=True)
class ProvisionedEnvironments:
    """How far the environments are that `Environments.provision` asked for."""

    allocated: int = 0
    """So many exist: they are being initialised, wait for an invocation or run one."""
    available: int = 0
    """So many of them are initialised."""
    failure: str | None = None
    """Why the rest will not come, such as `FUNCTION_ERROR_INIT_FAILURE`; `None` while they still may."""


class Environments(Protocol):
    """Runs function versions. Each call returns at once, and is for any thread; what takes time goes on behind it."""

    def publish(self, function: FunctionVersion) -> None:
        """Let invocations of this function and version run on `function` from now on.

        Environments of what was published before in its place finish what they run and are shut down.
        """

    def withdraw(self, function_name: str, version: str | None = None) -> None:
        """Let this version be invoked no more, or the whole function with its aliases and settings."""

    def route(self, function_name: str, alias: str, weights: Mapping[str, float] | None) -> None:
        """Let `alias` lead to versions by weight (they add up to 1); `None` removes it."""

    def reserve(self, function_name: str, concurrency: int | None) -> None:
        """Reserve so many environments of the account's for this function; `None` gives them back."""

    def provision(self, function_name: str, qualifier: str, environments: int) -> None:
        """Keep so many environments of this version or alias started; 0 for none."""

    def provisioned(self, function_name: str, qualifier: str) -> ProvisionedEnvironments:
        """Return how far the environments are that `provision` asked for; none where it did not."""

    def submit(
        self,
        function_name: str,
        qualifier: str | None,
        event: bytes,
        callback: Callable[[InvokeResult], object],
        *,
        request_id: str | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
    ) -> str | None:
        """Run one invocation, of a version or an alias, `None` for `$LATEST`: for events, which no front hands over.

        Returns `None` if it is taken: `callback` is called when it is finished, on a thread that must not be held up.
        An invocation that no environment could be made for has a result with `service_error`. Otherwise it returns the
        `Reason` of the `TooManyRequestsException` for which it was not taken.

        Raises `NotPublishedError` for what is not published, and `ValueError` for a value that cannot be sent, a
        missing tenant id, or one that the function has no use for.
        """
