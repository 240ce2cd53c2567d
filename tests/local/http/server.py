"""The API behind a real server, with operations that the test brings."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import boto3
import uvicorn
from botocore.config import Config

from caloric.local.http.application import application

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from caloric.local.http.authentication import Authentication
    from caloric.local.http.model import Model
    from caloric.local.service.operations import Operation
    from caloric.local.service.service import LambdaService

REGION = "eu-west-1"


class Reply(NamedTuple):
    """An answer as it came."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Server(NamedTuple):
    """A server that runs."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Any:
        """Return boto3's client of this server, which tries everything once."""
        return boto3.client(
            "lambda",
            endpoint_url=self.url,
            region_name=REGION,
            **{"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret", **options},
            config=Config(retries={"max_attempts": 0}, parameter_validation=False, read_timeout=30),
        )

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request as it stands; a `body` that is no bytes goes as JSON."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, content, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()


@contextmanager
def serving(
    operations: Mapping[str, Operation],
    *,
    service: LambdaService | None = None,
    model: Model | None = None,
    authentication: Authentication | None = None,
) -> Iterator[Server]:
    """Run a server with these operations, by the names that the API model has for them."""
    app = application(
        # Operations of a test need no service.
        cast("LambdaService", service),
        operations=operations,
        model=model,
        authentication=authentication,
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        # The socket listens already: what connects now is answered when the server is up.
        yield Server(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
