"""The API's thread: it listens at once, answers when its application is there, and ends when it is told to."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from caloric.local.api_server import ApiServer

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response


def application() -> Starlette:
    async def hello(_request: Request) -> Response:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/", hello)])


def unexpected(error: BaseException) -> None:
    raise AssertionError(error)


def send(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(path)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def test_a_request_that_comes_before_the_application_is_answered_when_that_is_there(tmp_path: Path) -> None:
    let_go = threading.Event()

    def make() -> Starlette:
        let_go.wait(30)
        return application()

    server = ApiServer(tmp_path / "api.sock", make, unexpected)
    server.start()
    try:
        with send(server.path) as connection:
            let_go.set()
            assert connection.recv(10_000).startswith(b"HTTP/1.1 200 OK\r\n")
    finally:
        server.close()


def test_it_makes_itself_ready_when_nobody_asks(tmp_path: Path) -> None:
    made = threading.Event()

    def make() -> Starlette:
        made.set()
        return application()

    server = ApiServer(tmp_path / "api.sock", make, unexpected, quiet_s=0.05)
    server.start()
    assert made.wait(30)
    server.close()


def test_it_leaves_the_processor_to_others_until_somebody_asks(tmp_path: Path) -> None:
    made = threading.Event()

    def make() -> Starlette:
        made.set()
        return application()

    server = ApiServer(tmp_path / "api.sock", make, unexpected, quiet_s=60)
    server.start()
    assert not made.wait(0.2)
    with send(server.path) as connection:
        assert connection.recv(10_000)
    server.close()


def test_it_can_be_closed_while_it_waits_for_the_first_request(tmp_path: Path) -> None:
    server = ApiServer(tmp_path / "api.sock", application, unexpected, quiet_s=60)
    server.start()
    begin = time.monotonic()
    server.close()
    assert time.monotonic() - begin < 4


def test_a_data_directory_may_have_a_name_longer_than_a_socket_can(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    server = ApiServer(folder / "api.sock", application, unexpected)
    server.start()
    try:
        with send(server.path) as connection:
            assert connection.recv(10_000).startswith(b"HTTP/1.1 200 OK\r\n")
    finally:
        server.close()


def test_closing_does_not_wait_for_who_keeps_a_connection(tmp_path: Path) -> None:
    server = ApiServer(tmp_path / "api.sock", application, unexpected)
    server.start()
    with send(server.path) as connection:
        received = b""
        while not received.endswith(b"hello"):
            received += connection.recv(10_000)
        server.close()
        assert connection.recv(10) == b""


def test_a_server_that_was_never_started_can_be_closed(tmp_path: Path) -> None:
    ApiServer(tmp_path / "api.sock", application, unexpected).close()


def test_what_keeps_the_application_from_being_made_is_reported_and_nobody_is_left_waiting(
    tmp_path: Path,
) -> None:
    reported: list[BaseException] = []
    let_go, done = threading.Event(), threading.Event()

    def report(error: BaseException) -> None:
        reported.append(error)
        done.set()

    def make() -> Starlette:
        let_go.wait(30)
        raise RuntimeError("no model")

    server = ApiServer(tmp_path / "api.sock", make, report)
    server.start()
    with send(server.path) as connection:
        let_go.set()
        assert done.wait(30)
        # Either of the two, as the system likes: the request was never read.
        with suppress(ConnectionResetError):
            assert connection.recv(10) == b""
    server.close()
    assert [str(error) for error in reported] == ["no model"]


def test_a_socket_that_is_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "api.sock").touch()
    with pytest.raises(OSError, match="in use"):
        ApiServer(tmp_path / "api.sock", application, unexpected)
