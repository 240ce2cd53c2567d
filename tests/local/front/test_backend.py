"""What the front hands on to the control plane: bodies of any size both ways, ends, failures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from caloric._rust import ServiceFront
from tests.local.front.service import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.local.front.service import Service


def test_a_request_and_its_answer_are_handed_on_as_they_are(service: Service) -> None:
    headers = {
        "X-Own": "käse".encode().decode("latin-1"),
        "Authorization": "AWS4-HMAC-SHA256 x",
        "Connection": "x-hop",
    }
    answer = service.call(
        "/2015-03-31/functions/a%3Ab%24LATEST/?x=%2F&y",
        b"body",
        "PUT",
        {**headers, "X-Hop": "mine", "X-Forwarded-For": "1.2.3.4", "TE": "trailers"},
    )
    assert (answer.status, answer.headers["x-from"]) == (200, "the control plane")
    seen = answer.document
    assert (seen["method"], seen["path"], seen["query"]) == (
        "PUT",
        "/2015-03-31/functions/a%3Ab%24LATEST/",
        "x=%2F&y",
    )
    assert seen["body"] == "body"
    assert seen["headers"]["host"] == f"127.0.0.1:{service.port}"
    assert seen["headers"]["authorization"] == "AWS4-HMAC-SHA256 x"
    assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert not {"x-hop", "te", "connection"} & set(seen["headers"])


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_every_method_goes_there(service: Service, method: str) -> None:
    assert service.call("/2015-03-31/functions/x/invocations/", None, method).document["method"] == method
    assert service.call("/anything", None, method).document["method"] == method


def test_an_invoke_with_another_method_is_the_control_planes(service: Service) -> None:
    assert service.call("/2015-03-31/functions/x/invocations", None, "GET").document["method"] == "GET"


def test_an_answer_without_a_body_and_a_head(service: Service) -> None:
    connection = service.connect()
    for _ in range(3):
        answer = service.call("/nothing", None, "DELETE", connection=connection)
        assert (answer.status, answer.body) == (204, b"")
        answer = service.call("/x", None, "HEAD", connection=connection)
        assert (answer.status, answer.body) == (200, b"")
    connection.close()


def test_a_large_body_with_and_without_a_length(service: Service) -> None:
    body = bytes(range(256)) * 200_000
    expected = {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert service.call("/upload", body).document == expected

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 1_000_000):
            yield body[start : start + 1_000_000]

    connection = service.connect()
    connection.request(
        "POST", "/upload", pieces(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
    )
    assert json.loads(connection.getresponse().read()) == expected
    connection.close()


LIMIT = 70_167_211


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/2015-03-31/functions", " for the CreateFunction operation"),
        ("PUT", "/2015-03-31/functions/x/code", " for the UpdateFunctionCode operation"),
        ("POST", "/upload", ""),
    ],
)
def test_a_body_is_limited_while_it_comes(service: Service, method: str, path: str, operation: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(80):
            yield bytes(1_000_000)

    message = f"Request must be smaller than {LIMIT} bytes{operation}"
    for headers, body in (({"Content-Length": str(LIMIT + 1)}, iter([bytes(LIMIT + 1)])), ({}, pieces())):
        connection = service.connect()
        # It may be answered before it is read to its end.
        with contextlib.suppress(OSError):
            connection.request(method, path, body, headers, encode_chunked=not headers)
        response = connection.getresponse()
        assert (response.status, response.headers["x-amzn-ErrorType"]) == (
            413,
            "RequestEntityTooLargeException",
        )
        assert json.loads(response.read()) == {"Message": message}
        connection.close()


def test_the_largest_body_arrives(service: Service) -> None:
    assert service.call("/upload", bytes(LIMIT)).document["length"] == LIMIT


def test_a_control_plane_that_does_not_read_holds_the_client_up(service: Service) -> None:
    client = socket.create_connection((service.host, service.port))
    client.sendall(b"POST /late HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n")
    client.settimeout(1)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 60_000_000:
            sent += client.send(bytes(1_000_000))
    assert sent < 30_000_000, "it has stopped taking"
    service.backend.go_on.set()
    client.settimeout(PATIENCE)
    while sent < 60_000_000:
        sent += client.send(bytes(min(1_000_000, 60_000_000 - sent)))
    received = b""
    while b'"length": 60000000' not in received:
        piece = client.recv(65536)
        assert piece, received
        received += piece
    client.close()


def test_a_client_that_does_not_read_holds_the_control_plane_up(service: Service) -> None:
    client = socket.create_connection((service.host, service.port))
    client.sendall(b"GET /download HTTP/1.1\r\nHost: localhost\r\n\r\n")
    before = -1
    while service.backend.sent != before or before == 0:
        before = service.backend.sent
        time.sleep(0.3)
    assert before < 30_000_000
    received = 0
    while received < before + 5_000_000:
        received += len(client.recv(1_000_000))
    client.close()
    service.backend.go_on.set()


def test_a_client_that_goes_away_is_missed_by_the_control_plane(service: Service) -> None:
    client = socket.create_connection((service.host, service.port))
    client.sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert service.backend.asked.wait(PATIENCE)
    assert not service.backend.disconnected.is_set()
    client.close()
    assert service.backend.disconnected.wait(PATIENCE)


def test_a_client_that_goes_away_in_the_middle_of_its_request_too(service: Service) -> None:
    client = socket.create_connection((service.host, service.port))
    client.sendall(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf")
    assert service.backend.asked.wait(PATIENCE)
    client.close()
    assert service.backend.disconnected.wait(PATIENCE)


def test_without_a_control_plane_published_functions_go_on(service: Service) -> None:
    service.publish("echo", service.code("def handler(event, context): return event"))
    assert service.invoke("echo", 1).document == 1
    service.backend.close()
    assert service.invoke("echo", 2).document == 2
    for answer in (service.invoke("nobody"), service.call("/2015-03-31/functions", None, "GET")):
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (502, "ServiceException")
        assert answer.document["Type"] == "Service"
        assert answer.document["Message"] == (
            f"The control plane at {service.backend.path} cannot be reached: Connection refused"
        )


def test_many_at_once_on_kept_connections(service: Service) -> None:
    def ask(number: int) -> bool:
        connection = service.connect()
        bodies = [f"{number}-{turn}".encode() * 100 for turn in range(50)]
        right = [
            service.call("/echo", body, connection=connection).document["body"] == body.decode()
            for body in bodies
        ]
        connection.close()
        return all(right)

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(ask, range(8)))


@pytest.fixture
def scripted(folder: Path) -> Iterator[Callable[[list[bytes | None]], ServiceFront]]:
    """Return a function that starts a control plane which answers each connection with these bytes and closes it."""
    listeners: list[socket.socket] = []
    fronts: list[ServiceFront] = []

    def start(answers: list[bytes | None]) -> ServiceFront:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "scripted.sock"))
        listener.listen()
        listeners.append(listener)

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                connection.recv(65536)
                if answer:
                    connection.sendall(answer)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        front = ServiceFront(str(folder / "scripted.sock"), port=0)
        fronts.append(front)
        return front

    yield start
    for front in fronts:
        front.close()
    for listener in listeners:
        listener.close()


def get(front: ServiceFront, *, count: int = 1) -> bytes:
    """Everything that comes back for some requests on one connection."""
    host, _, port = front.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
        received = b""
        for turn in range(count):
            last = turn == count - 1
            client.sendall(
                b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"Connection: close\r\n" * last + b"\r\n"
            )
            while piece := client.recv(65536):
                received += piece
                if not last:
                    break
        return received


def test_a_control_plane_that_dies_without_an_answer(
    scripted: Callable[[list[bytes | None]], ServiceFront],
) -> None:
    front = scripted([b"", b"nonsense\r\n\r\n"])
    for _ in range(2):
        answer = get(front)
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"ServiceException" in answer
        assert b"scripted.sock ended the connection before it had answered" in answer


def test_a_control_plane_that_dies_in_the_middle_of_its_answer_breaks_the_clients_off(
    scripted: Callable[[list[bytes | None]], ServiceFront],
) -> None:
    front = scripted([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"])
    answer = get(front)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"half")


def test_a_connection_that_the_control_plane_has_closed_is_not_used_again(
    scripted: Callable[[list[bytes | None]], ServiceFront],
) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    front = scripted([whole] * 20)
    assert get(front, count=20).count(b"\r\n\r\nok") == 20


def test_a_control_plane_that_never_was(folder: Path) -> None:
    with ServiceFront(str(folder / "none.sock"), port=0) as front:
        assert b"none.sock cannot be reached: No such file or directory" in get(front)


def test_a_port_that_is_taken_is_named(service: Service, folder: Path) -> None:
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{service.port}: Address already in use"):
        ServiceFront(str(folder / "x"), port=service.port)


def test_a_closed_front_lets_go(service: Service) -> None:
    service.front.close()
    service.front.close()

    def refused() -> bool:
        try:
            socket.create_connection((service.host, service.port)).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(refused, "nobody listens any more")
