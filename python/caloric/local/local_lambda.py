"""The service, put together: state, environments, API and front, on a data directory."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caloric._rust import ServiceFront, __version__
from caloric.local.api_server import ApiServer
from caloric.local.environments.controller import LocalEnvironments
from caloric.local.environments.layer_folders import LayerFolders
from caloric.local.environments.logs import LogStreams
from caloric.local.environments.maker import EnvironmentMaker
from caloric.local.environments.runtimes import Runtimes
from caloric.local.environments.variables import CredentialsSource
from caloric.local.sandbox.process import ProcessSandbox
from caloric.local.service.names import LATEST
from caloric.local.service.service import LambdaService
from caloric.local.service_file import Layout, ServiceFile
from caloric.local.state.data_directory import DataDirectory
from caloric.local.state.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from starlette.applications import Starlette

    from caloric.local.environments.interface import FunctionVersion
    from caloric.local.sandbox import Limit

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
    """So many environments of each function's `$LATEST` are kept started."""
    idle_s: float = 600.0
    """An environment that has not been used for so long is ended."""


class LocalLambda:
    """A running service, from the moment it is made until `close`.

    It listens, and what was stored can be invoked, when this returns. The API comes up behind it: whoever asks it
    before it is ready waits. `end` is called, on a thread of the API, by who asks the service to stop.

    Raises `CannotStartError` for a data directory that another service has or that cannot be used, and for an address
    that cannot be listened on.
    """

    def __init__(self, settings: Settings, *, end: Callable[[], object] = lambda: None) -> None:
        self.settings = settings
        self.layout = Layout(settings.data)
        self._end = end
        self._began = time.monotonic()
        self._token = None if settings.credentials is None else os.urandom(24).hex()
        self._file = ServiceFile(self.layout)
        self.failure: str | None = None
        """Why the service cannot go on; `end` is called then, too."""
        with ExitStack() as made:
            try:
                self._start(made)
            except StateError as error:
                raise CannotStartError(str(error)) from None
            except OSError as error:
                what = (
                    f"{error.filename} cannot be used: {error.strerror}"
                    if error.filename
                    else str(error.strerror)
                )
                raise CannotStartError(what or str(error)) from None
            self._made = made.pop_all()

    def _start(self, made: ExitStack) -> None:
        settings, layout = self.settings, self.layout
        layout.make()
        state = made.enter_context(DataDirectory(layout.folder))
        # Ours alone from here on: what a killed service left behind may go.
        layout.socket.unlink(missing_ok=True)
        made.callback(layout.socket.unlink, missing_ok=True)
        made.callback(self._file.withdraw)
        api = ApiServer(layout.socket, self._application, self._report)
        made.callback(api.close)
        self._front = self._listen(api.path)
        made.callback(self._front.close)
        self.url = _url(self._front.address)
        """Where it is reached from this machine, without a slash at the end."""
        self.sandbox = ProcessSandbox()
        maker = EnvironmentMaker(
            runtimes=Runtimes(layout.runtimes, runtime_client=settings.runtime_client),
            layers=LayerFolders(layout.layers),
            logs=LogStreams(layout.logs),
            sandbox=self.sandbox,
            credentials=CredentialsSource(),
            region=settings.region,
            account=settings.account,
        )
        self.environments = _Environments(self._front, maker, settings)
        made.callback(self.environments.close)
        self._service = LambdaService(
            region=settings.region,
            account=settings.account,
            store=state.store,
            blobs=state.blobs,
            environments=self.environments,
            endpoint=self.url,
        )
        made.callback(self._service.activation.close)
        self._service.activation.start()
        api.start()
        self._file.announce(
            url=self.url,
            data=str(layout.folder),
            region=settings.region,
            account=settings.account,
            token=self._token,
        )
        # Once more, to be the first thing at the end: nobody comes in while the rest is being closed.
        made.callback(self._front.close)

    def _listen(self, backend: str) -> ServiceFront:
        settings = self.settings
        try:
            return ServiceFront(
                backend,
                host=settings.host,
                port=settings.port,
                region=settings.region,
                account_id=settings.account,
                allowed_hosts=settings.allowed_hosts,
                hot_path=settings.credentials is None,
            )
        except OSError as error:
            raise CannotStartError(
                f"{error.strerror or error}; choose another with --port or --host"
            ) from None

    def _application(self) -> Starlette:
        """Make the API's application, on the API's thread: most of what is imported is imported here."""
        from caloric.local.http.application import application
        from caloric.local.http.downloads import download_route
        from caloric.local.http.own_routes import own_routes
        from caloric.local.service import offered

        authentication = None
        if self.settings.credentials is not None:
            from caloric.local.http.authentication import Authentication

            authentication = Authentication(dict([self.settings.credentials]), self.settings.region)
        api = application(self._service, operations=offered.OPERATIONS, authentication=authentication)
        api.router.routes += [
            download_route(self._service),
            *own_routes(self.status, self._end, token=self._token),
        ]
        return api

    def _report(self, error: BaseException) -> None:
        self.failure = f"the API cannot be served: {error!r}"
        self._end()

    @property
    def limits(self) -> Sequence[Limit]:
        """What the sandbox enforces of Lambda's limits, and what it cannot."""
        return self.sandbox.limits()

    def status(self) -> dict[str, Any]:
        """Return what the service has and does, as a document (`caloric local status --json`)."""
        concurrency = self._front.concurrency()
        return {
            "version": __version__,
            "url": self.url,
            "pid": os.getpid(),
            "data": str(self.layout.folder),
            "region": self.settings.region,
            "account": self.settings.account,
            "uptimeSeconds": round(time.monotonic() - self._began, 1),
            "memoryMB": _resident_mb(),
            "concurrency": {
                name: concurrency[name] for name in ("limit", "reserved", "provisioned", "running")
            },
            "sandbox": {
                "name": self.sandbox.name,
                "limits": [
                    {"name": limit.name, "enforced": limit.enforced, "how": limit.how}
                    for limit in self.limits
                ],
            },
            "functions": self.environments.status()["functions"],
        }

    def abandon(self) -> None:
        """Take the announcement back, and nothing else: for a process that is about to end at once."""
        self._file.withdraw()

    def close(self) -> None:
        """Stop listening, end all environments and what they run, and give the data directory back. Idempotent."""
        self._made.close()

    def __enter__(self) -> LocalLambda:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _url(address: str) -> str:
    """Return the URL for what listens on `address`, by a name that is good on this machine."""
    host, _, port = address.rpartition(":")
    if host in ("0.0.0.0", "[::]", "::"):
        host = "127.0.0.1"
    return f"http://{host}:{port}"


class _Environments(LocalEnvironments):
    """Environments of which a few are kept started for every function, where the settings say so."""

    def __init__(self, front: ServiceFront, maker: EnvironmentMaker, settings: Settings) -> None:
        super().__init__(
            front, maker, region=settings.region, account=settings.account, idle_s=settings.idle_s
        )
        self._minimum = settings.min_environments

    def publish(self, function: FunctionVersion) -> None:
        """Publish it as `LocalEnvironments` does."""
        super().publish(function)
        if self._minimum and function.version == LATEST:
            self.keep(function.function_name, LATEST, self._minimum)


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)
