"""A service front with real functions behind it, and a control plane made for the tests."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvicorn

from caloric._rust import EnvironmentSupply, ExecutionEnvironment, FunctionPool, ServiceFront
from caloric.local.process import function_environment, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from caloric._rust import WantedEnvironment

ACCOUNT = "123456789012"
REGION = "eu-west-1"
# Seconds. Nothing here takes so long unless it is broken.
PATIENCE = 40.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.005)


def arn(name: str, qualifier: str = "") -> str:
    """The ARN of a function here."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}" + (f":{qualifier}" if qualifier else "")


@dataclass
class Answer:
    """One response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def version(self) -> str | None:
        """The version that ran."""
        return self.headers["X-Amz-Executed-Version"]


@dataclass
class Code:
    """What an environment of the tests is made of."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    timeout_ms: int = 20_000


class Backend:
    """A control plane on a Unix socket, with uvicorn: the application below, which tells what it is asked."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.requests: list[dict[str, Any]] = []
        self.disconnected = threading.Event()
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.sent = 0
        self.leave: Callable[[dict[str, Any]], bool] = lambda _request: False
        """Whether the front is to run this invoke."""
        config = uvicorn.Config(
            self._application, uds=self.path, interface="asgi3", log_level="error", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        wait_until(lambda: self._server.started, "the control plane listens")

    def close(self) -> None:
        """Stop it; the socket stays behind as of a process that died."""
        self.go_on.set()
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        request = {
            "method": scope["method"],
            "path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
        }
        self.requests.append(request)
        self.asked.set()
        name = scope["path"].rpartition("/")[2]
        answer = {"upload": self._upload, "download": self._download, "hang": self._hang, "late": self._late}
        if name in answer:
            return await answer[name](receive, send)
        pieces = []
        while (message := await receive())["type"] == "http.request":
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        else:
            return None
        body = b"".join(pieces)
        request["body"] = body
        headers = [(b"content-type", b"application/json"), (b"x-from", b"the control plane")]
        if name in ("invocations", "response-streaming-invocations") and self.leave(request):
            headers.append((b"x-caloric-invoke", b"run"))
        request["body"] = body.decode(errors="replace")
        status = 204 if name == "nothing" else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        content = b"" if status == 204 else json.dumps(request).encode()
        await send({"type": "http.response.body", "body": content})
        return None

    async def _upload(self, receive: Any, send: Any) -> None:
        """Read slowly when told to, and tell what came."""
        digest, length = hashlib.sha256(), 0
        while (message := await receive())["type"] == "http.request":
            digest.update(message.get("body", b""))
            length += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        else:
            self.disconnected.set()
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        content = json.dumps({"length": length, "sha256": digest.hexdigest()}).encode()
        await send({"type": "http.response.body", "body": content})

    async def _late(self, receive: Any, send: Any) -> None:
        """Read the body when the test says so."""
        await asyncio.to_thread(self.go_on.wait, PATIENCE)
        await self._upload(receive, send)

    async def _download(self, _receive: Any, send: Any) -> None:
        """Send without end, as long as somebody reads."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with contextlib.suppress(OSError):
            while not self.go_on.is_set():
                self.sent += 65536
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                await asyncio.sleep(0)

    async def _hang(self, receive: Any, _send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()


class Service:
    """A front, the supply of its pools, and a control plane."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.backend = Backend(folder / "control.sock")
        self.supply = EnvironmentSupply()
        self.pools: list[FunctionPool] = []
        self.made: list[WantedEnvironment] = []
        self.environments: list[ExecutionEnvironment] = []
        self.refuse: dict[str, tuple[str, str, int]] = {}
        """Functions whose environments cannot be made: message, error type and status."""
        settings: dict[str, Any] = {"port": 0, "region": REGION, "account_id": ACCOUNT, **options}
        self.front = ServiceFront(self.backend.path, **settings)
        host, _, port = self.front.address.rpartition(":")
        self.host, self.port = host, int(port)
        self._suppliers = [threading.Thread(target=self._supply) for _ in range(2)]
        for thread in self._suppliers:
            thread.start()

    def _supply(self) -> None:
        while (wanted := self.supply.next_wanted()) is not None:
            if wanted.function_name in self.refuse:
                message, error_type, status = self.refuse[wanted.function_name]
                wanted.give_up(message, error_type=error_type, status=status)
                continue
            self.made.append(wanted)
            code: Code = wanted.subject
            environment = ExecutionEnvironment(
                function_name=wanted.function_name,
                function_version=wanted.function_version,
                region=REGION,
                account_id=ACCOUNT,
                timeout_ms=code.timeout_ms,
            )
            user = {"WHERE": f"{wanted.function_name}:{wanted.function_version}", **code.variables}
            variables = function_environment(
                environment, handler="app.handler", task_root=str(code.folder), user=user
            )
            self.environments.append(environment)
            command = [sys.executable, "-m", "caloric", "app.handler"]
            supervise(environment, command, variables, cwd=str(code.folder))
            try:
                wanted.add(environment)
            except RuntimeError:
                environment.close()

    def code(self, source: str, name: str = "function", **options: Any) -> Code:
        """Code with this module as `app`."""
        root = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        root.mkdir()
        (root / "app.py").write_text(source, encoding="utf-8")
        return Code(root, **options)

    def pool(self, name: str, code: Code, version: str = "$LATEST", **options: Any) -> FunctionPool:
        """A pool that is not published."""
        pool = FunctionPool(
            self.supply,
            code,
            function_name=name,
            function_version=version,
            region=REGION,
            account_id=ACCOUNT,
            **options,
        )
        self.pools.append(pool)
        return pool

    def publish(self, name: str, code: Code, version: str = "$LATEST", **options: Any) -> FunctionPool:
        """A published pool."""
        pool = self.pool(name, code, version, **options)
        self.front.publish(name, version, pool)
        return pool

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the front."""
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)

    def call(
        self,
        path: str,
        body: bytes | None = b"",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """Send one request."""
        used = connection or self.connect()
        try:
            used.request(method, path, body, dict(headers or {}))
            response = used.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            if connection is None:
                used.close()

    def invoke(
        self,
        name: str,
        event: object = None,
        *,
        qualifier: str | None = None,
        connection: http.client.HTTPConnection | None = None,
        **headers: str,
    ) -> Answer:
        """Invoke a function."""
        query = "" if qualifier is None else f"?Qualifier={qualifier}"
        path = f"/2015-03-31/functions/{name}/invocations{query}"
        named = {header.replace("_", "-"): value for header, value in headers.items()}
        return self.call(path, json.dumps(event).encode(), headers=named, connection=connection)

    def close(self) -> None:
        """End it all."""
        self.front.close()
        self.supply.close()
        for pool in self.pools:
            pool.close()
        for thread in self._suppliers:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self.backend.close()


@contextlib.contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Service]:
    """A running service."""
    service = Service(folder, **options)
    try:
        yield service
    finally:
        service.close()
