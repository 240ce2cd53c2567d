"""How the commands find the local Lambda and talk to it: plain HTTP, no SDK."""

from __future__ import annotations

import http.client
import json
import os
import socket

from caloric.cli import UserMistake
from caloric.cli.options import whole_number
from caloric.local.service_file import DEFAULT_FOLDER, DEFAULT_PORT, Layout, ServiceFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any


_CANNOT_CONNECT = (ConnectionRefusedError, ConnectionResetError, socket.gaierror, socket.timeout)


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which service is meant."""
    group = parser.add_argument_group("the service")
    group.add_argument(
        "--data",
        metavar="DIR",
        help="the data directory of the service that is meant (default: "
        f"{DEFAULT_FOLDER} here where one runs on it, else the service on port {DEFAULT_PORT})",
    )
    group.add_argument(
        "--port",
        type=whole_number(1, 65535, ""),
        help="the port of the service that is meant, in place of its data directory",
    )


class NotRunningError(UserMistake):
    """No service answers; the message says where it was looked for and how to start one."""


class Refused(UserMistake):
    """The service refused the request, as AWS would have; `name` is the exception's."""

    def __init__(self, name: str, message: str, status: int) -> None:
        super().__init__(f"{message} ({name})" if message else name)
        self.name = name
        self.status = status


class Connection:
    """A service, and a connection to it that is made anew for every request.

    `options` are those of `add_connection_options`. Raises `NotRunningError` where no service runs.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.host, self.port, self._looked, self._service = _find(options)

    @property
    def url(self) -> str:
        """The service's own, for messages."""
        return f"http://{self.host}:{self.port}"

    def open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> http.client.HTTPResponse:
        """Send a request and return the answer, its body still to be read. Whatever its status is.

        Raises `NotRunningError` where nobody answers, `ConnectionError` for who breaks off.
        """
        signed = self._signed(method, path, body, dict(headers or {}))
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.connect()
        except (OSError, *_CANNOT_CONNECT):
            raise NotRunningError(_not_running(self._looked)) from None
        try:
            connection.request(method, path, body, signed)
            return connection.getresponse()
        except http.client.BadStatusLine:
            raise UserMistake(f"what answers at {self.url} is not the local Lambda") from None

    def _signed(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> dict[str, str]:
        """Return the headers with what a service that was started with `--require-auth` asks for."""
        token = self._service.get("token")
        if not token:
            return headers
        if path.startswith("/_caloric/"):
            return {**headers, "Authorization": f"Bearer {token}"}
        from caloric.cli.local.signature import signed

        return signed(method, f"{self.url}{path}", body or b"", headers, self._service["region"])

    def call(
        self, method: str, path: str, document: object = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Send a document, if there is one, and return the answer's.

        Raises `Refused` for an answer that is none of success, `NotRunningError` where nobody answers.
        """
        body = None if document is None else json.dumps(document).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            with self.open(method, path, body, headers, timeout_s=timeout_s) as answer:
                content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise UserMistake(f"the service at {self.url} broke off: {error}") from None
        if answer.status >= 300:
            raise refusal(answer, content)
        try:
            return dict(json.loads(content or b"{}"))
        except (ValueError, TypeError):
            raise UserMistake(f"what answers at {self.url} is not the local Lambda") from None


def refusal(answer: http.client.HTTPResponse, content: bytes) -> Refused:
    """Return the error that an answer of the API holds."""
    try:
        document = json.loads(content)
        message = str(document.get("message") or document.get("Message") or "")
    except (ValueError, AttributeError):
        message = content.decode(errors="replace").strip()
    name = answer.headers.get("x-amzn-ErrorType") or f"status {answer.status}"
    return Refused(name, message, answer.status)


def function_path(name: str, rest: str = "", api: str = "2015-03-31") -> str:
    """Return the path of a function in the API. `name` may be an ARN."""
    from urllib.parse import quote

    return f"/{api}/functions/{quote(name, safe='')}{rest}"


def _find(options: argparse.Namespace) -> tuple[str, int, str, dict[str, Any]]:
    """Return host, port, what to say of where that was looked for, and what the service has announced."""
    if options.port is not None:
        return "127.0.0.1", options.port, f"nothing listens on port {options.port}", {}
    directory = Layout(options.data or DEFAULT_FOLDER)
    service = ServiceFile(directory).running()
    if service is not None:
        host, _, port = str(service["url"]).removeprefix("http://").rpartition(":")
        return host.strip("[]"), int(port), f"{service['url']} does not answer", service
    if options.data is not None:
        raise NotRunningError(_not_running(f"none runs on {os.fspath(directory.folder)!r}"))
    return (
        "127.0.0.1",
        DEFAULT_PORT,
        f"none runs on {os.fspath(directory.folder)!r}, and nothing listens on port {DEFAULT_PORT}",
        {},
    )


def _not_running(looked: str) -> str:
    return f"no local Lambda was found: {looked}; start one with caloric local start"
