"""Who may talk to our ports: programs on this machine, and no web page of another origin, under any name."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING

import pytest

from caloric._rust import ExecutionEnvironment
from tests.local.front.service import PATIENCE, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.front.service import Service

INVOKE = "/2015-03-31/functions/echo/invocations"
ECHO = "def handler(event, context):\n    open(event, 'w').close()\n    return 'ran'"


def exchange(
    to: Service | tuple[str, int], method: str, path: str, headers: list[tuple[str, str]], body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """Send exactly these headers."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    address = to if isinstance(to, tuple) else (to.host, to.port)
    with socket.create_connection(address, timeout=PATIENCE) as client:
        client.sendall("\r\n".join(lines).encode("latin-1") + body)
        response = http.client.HTTPResponse(client, method=method)
        response.begin()
        return (
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )


@pytest.mark.parametrize("path", [INVOKE, "/2015-03-31/functions"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "localhost.evil.example:{port}", "192.168.0.1:{port}", ""]
)
def test_a_name_that_was_made_to_point_here_is_refused(service: Service, path: str, host: str) -> None:
    service.publish("echo", service.code(ECHO))
    touched = service.folder / "touched"
    event = json.dumps(str(touched)).encode()
    status, headers, body = exchange(service, "POST", path, [("Host", host.format(port=service.port))], event)
    assert (status, headers["x-amzn-errortype"]) == (421, "AccessDeniedException")
    assert "localhost only" in json.loads(body)["Message"]
    assert not touched.exists()
    assert service.backend.requests == []


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:{port}", "lambda.localhost", "127.0.0.1:{port}", "[::1]:{port}", "LocalHost"],
)
def test_the_names_of_this_machine_are_let_in(service: Service, host: str) -> None:
    assert exchange(service, "GET", "/", [("Host", host.format(port=service.port))])[0] == 200


def test_other_names_can_be_allowed(folder: Path) -> None:
    with serving(folder, allowed_hosts=["lambda.test", "host.docker.internal"]) as service:
        assert exchange(service, "GET", "/", [("Host", f"Lambda.Test:{service.port}")])[0] == 200
        assert exchange(service, "GET", "/", [("Host", "host.docker.internal")])[0] == 200
        assert exchange(service, "GET", "/", [("Host", "other.test")])[0] == 421


@pytest.mark.parametrize(
    "said",
    [
        [("Origin", "https://evil.example")],
        [("Origin", "http://localhost:3000")],
        [("Origin", "null")],
        [("Origin", "http://localhost:{port}"), ("Origin", "https://evil.example")],
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-site")],
    ],
)
@pytest.mark.parametrize("path", [INVOKE, "/2015-03-31/functions"])
def test_a_page_of_another_origin_can_neither_call_nor_read(
    service: Service, path: str, said: list[tuple[str, str]]
) -> None:
    service.publish("echo", service.code(ECHO))
    touched = service.folder / "touched"
    event = json.dumps(str(touched)).encode()
    host = [("Host", f"localhost:{service.port}")]
    given = [(name, value.format(port=service.port)) for name, value in said]
    status, headers, body = exchange(
        service, "POST", path, [*host, *given, ("Content-Type", "text/plain")], event
    )
    assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert "another origin" in json.loads(body)["Message"]
    assert not any(name.startswith("access-control-") for name in headers)
    assert not touched.exists()
    assert service.backend.requests == []


def test_a_preflight_is_refused(service: Service) -> None:
    asked = [
        ("Host", f"localhost:{service.port}"),
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Private-Network", "true"),
    ]
    status, headers, _ = exchange(service, "OPTIONS", INVOKE, asked)
    assert status == 403
    assert not any(name.startswith("access-control-") for name in headers)
    assert service.backend.requests == []


def test_a_page_of_our_own_is_let_in(service: Service) -> None:
    for host in (f"localhost:{service.port}", f"127.0.0.1:{service.port}"):
        said = [("Host", host), ("Origin", f"http://{host}"), ("Sec-Fetch-Site", "same-origin")]
        assert exchange(service, "POST", "/2015-03-31/functions", said)[0] == 200


def test_it_listens_on_the_loopback_only(service: Service) -> None:
    assert service.front.address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    "said",
    [
        [("Host", "127.0.0.1:{port}"), ("Origin", "https://evil.example")],
        [("Host", "127.0.0.1:{port}"), ("Sec-Fetch-Site", "cross-site")],
        [("Host", "evil.example:{port}")],
    ],
)
def test_a_page_cannot_take_an_invocation_away_from_the_runtime(said: list[tuple[str, str]]) -> None:
    with ExecutionEnvironment(by_hand=True) as environment:
        environment.submit(b"{}", lambda _result: None)
        host, _, port = environment.address.rpartition(":")
        headers = [(name, value.format(port=port)) for name, value in said]
        for method, path in (
            ("GET", "/2018-06-01/runtime/invocation/next"),
            ("POST", "/2018-06-01/runtime/init/error"),
            ("POST", "/2020-01-01/extension/register"),
        ):
            status, _, body = exchange((host, int(port)), method, path, headers, b"{}")
            assert (status, json.loads(body)["errorType"]) == (403, "Forbidden")
        assert not environment.wait_until_handed_out(timeout_s=0)
        asked = exchange(
            (host, int(port)), "GET", "/2018-06-01/runtime/invocation/next", [("Host", environment.address)]
        )
        assert (asked[0], asked[2]) == (200, b"{}")
