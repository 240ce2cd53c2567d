"""The service, put together: state, environments, API and front, from a data directory."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caloric._rust import ServiceFront
from caloric.local.api_server import ApiServer
from caloric.local.service_file import Layout, ServiceFile

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

    from starlette.types import ASGIApp

__all__ = ["CannotStartError", "LocalLambda", "Settings"]


class CannotStartError(Exception):
    """The service cannot be started; the message is one sentence that says why."""


@dataclass(frozen=True)
class Settings:
    """What a service is started with."""

    data: str | os.PathLike[str]
    """The data directory, which is made where it is missing."""
    host: str = "127.0.0.1"
    port: int = 9001
    """0 for any that is free."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which requests may reach it."""
    region: str = "us-east-1"
    account: str = "012345678912"
    credentials: tuple[str, str] | None = None
    """Access key and secret key that requests have to be signed with; `None` for no check."""
    runtime_client: str = "caloric"
    min_environments: int = 0
    """So many environments of each published version are kept started."""
    idle_s: float = 600.0
    """An environment that has not been used for so long is ended."""
