"""`caloric emulate --http`: a function behind HTTP, as a function URL has it."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from caloric._rust import ExecutionEnvironment, HttpFront

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

EXAMPLES = Path(__file__).parents[2] / "examples"
CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")

SOURCE = """
import os, time
import caloric

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)

def echo(event, context):
    event["id_of_context"] = context.aws_request_id
    return event

def responds(event, context):
    path = event["rawPath"]
    if path == "/raises":
        raise ValueError("boom")
    if path == "/unusable":
        return {"statusCode": "none"}
    if path == "/large":
        return {"statusCode": 200, "body": "x" * 6_300_000}
    if path == "/text":
        return "hello"
    if path == "/data":
        return {"hello": "world"}
    if path == "/nothing":
        return {"statusCode": 204}
    if path == "/bytes":
        return caloric.HttpResponse(200, {"content-type": "image/png"}, body=b"\\0\\xff")
    return {
        "statusCode": 201,
        "headers": {"Content-Type": "text/plain", "X-A": "b"},
        "cookies": ["a=1; Path=/", "b=2"],
        "body": "created",
    }

def streams(event, context):
    return caloric.HttpResponse(202, {"x-a": "b"}, ["a=1", "b=2"], pieces(event["rawPath"]))

def pieces(path):
    if path == "/early":
        raise ValueError("boom")
    yield "first "
    wait_for("gate")
    if path == "/raises":
        raise ValueError("boom")
    if path == "/exits":
        os._exit(3)
    yield "second"

def plain_stream(event, context):
    if event["rawPath"] == "/early":
        raise ValueError("boom")
    if event["rawPath"] == "/empty":
        return
    yield b"first "
    wait_for("gate")
    yield b"second"

def broken_prelude(event, context):
    with context.open_stream(content_type="application/vnd.awslambda.http-integration-response") as stream:
        stream.write(b"{" + bytes(8) + b"body")

def meets(event, context):
    mine, others = ("one", "two") if event["rawPath"] == "/one" else ("two", "one")
    open(mine, "w").close()
    wait_for(others)
    return mine
"""


class Url:
    """`caloric emulate --http` on a free port."""

    def __init__(self, folder: Path, *options: str, handler: str = "app.handler", **variables: str) -> None:
        runtime = [sys.executable, "-m", "caloric", handler]
        self.process = subprocess.Popen(
            [CALORIC, "emulate", "--http", "--port", "0", "--timeout", "20", *options, "--", *runtime],
            cwd=folder,
            env={**os.environ, **variables},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"listening on http://127\.0\.0\.1:(\d+)/$", line)
        assert found, line
        self.port = int(found[1])
        self._connections: list[http.client.HTTPConnection] = []
        # Nobody else reads what the function prints.
        self._reader = threading.Thread(target=self.process.stderr.read, daemon=True)
        self._reader.start()

    def open(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self._connections.append(connection)
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        return connection.getresponse()

    def get(self, path: str, method: str = "GET") -> tuple[int, http.client.HTTPMessage, bytes]:
        with self.open(path, method) as response:
            return response.status, response.headers, response.read()

    def __enter__(self) -> Url:
        return self

    def __exit__(self, *exception: object) -> None:
        for connection in self._connections:
            connection.close()
        self.process.terminate()
        self.process.wait(30)
        self._reader.join(30)
        assert self.process.stderr is not None
        self.process.stderr.close()


def test_a_request_becomes_an_event(write_function: WriteFunction) -> None:
    with Url(write_function(SOURCE), handler="app.echo") as url:
        with url.open(
            "/a%20b/items?x=1&x=2&q=%2Fz",
            "POST",
            b'{"id":17}',
            Content_Type="application/json",
            Cookie="sid=abc; theme=dark",
            X_Multi="One",
        ) as response:
            event: dict[str, Any] = json.loads(response.read())
            headers = response.headers
        assert event["version"] == "2.0"
        assert event["rawPath"] == "/a%20b/items"
        assert event["rawQueryString"] == "x=1&x=2&q=%2Fz"
        assert event["queryStringParameters"] == {"x": "1,2", "q": "/z"}
        assert event["cookies"] == ["sid=abc", "theme=dark"]
        assert event["headers"]["x-multi"] == "One"
        assert event["headers"]["host"] == f"127.0.0.1:{url.port}"
        assert event["headers"]["x-forwarded-port"] == str(url.port)
        assert (event["body"], event["isBase64Encoded"]) == ('{"id":17}', False)
        context = event["requestContext"]
        assert context["http"]["path"] == "/a b/items"
        assert context["http"]["method"] == "POST"
        assert context["http"]["sourceIp"] == "127.0.0.1"
        # One id for the request, the invocation and the answer.
        assert context["requestId"] == event["id_of_context"] == headers["x-amzn-requestid"]
        root = event["headers"]["x-amzn-trace-id"]
        assert headers["x-amzn-trace-id"] == f"{root};Sampled=0"
        assert headers["connection"] == "keep-alive"
        assert "date" in headers


def test_a_result_becomes_a_response(write_function: WriteFunction) -> None:
    with Url(write_function(SOURCE), handler="app.responds") as url:
        status, headers, body = url.get("/")
        assert (status, body, headers["content-type"], headers["x-a"]) == (201, b"created", "text/plain", "b")
        assert headers.get_all("set-cookie") == ["a=1; Path=/", "b=2"]
        assert headers["content-length"] == "7"
        assert url.get("/text")[2] == b"hello"
        status, headers, body = url.get("/data")
        assert (status, body, headers["content-type"]) == (200, b'{"hello":"world"}', "application/json")
        assert url.get("/bytes")[2] == b"\0\xff"
        assert url.get("/nothing")[::2] == (204, b"")
        status, headers, body = url.get("/", "HEAD")
        assert (status, headers["x-a"], body) == (201, "b", b"")


def test_a_function_that_fails_is_a_bad_gateway(write_function: WriteFunction) -> None:
    with Url(write_function(SOURCE), handler="app.responds") as url:
        for path in ("/raises", "/unusable", "/large"):
            assert url.get(path)[::2] == (502, b"Internal Server Error"), path
        assert url.get("/")[0] == 201


def test_a_request_that_is_too_large_is_refused(write_function: WriteFunction) -> None:
    with Url(write_function(SOURCE), handler="app.responds") as url:
        # The event counts: in base64 the second one is too large.
        for size in (6_291_457, 5_000_000):
            with url.open("/", "POST", b"x" * size, Content_Type="image/png") as response:
                assert response.status == 413
                assert response.headers["x-amzn-errortype"] == "RequestEntityTooLargeException"
                message = "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
                assert json.loads(response.read()) == {"Message": message}


@pytest.mark.parametrize(
    ("handler", "status", "content_type"),
    [
        ("streams", 202, "text/plain; charset=utf-8"),
        ("plain_stream", 200, "application/octet-stream"),
    ],
)
def test_a_stream_leaves_as_it_comes(
    handler: str, status: int, content_type: str, write_function: WriteFunction
) -> None:
    folder = write_function(SOURCE)
    with Url(folder, "--stream", handler=f"app.{handler}") as url, url.open("/") as response:
        assert (response.status, response.headers["content-type"]) == (status, content_type)
        assert response.headers["transfer-encoding"] == "chunked"
        if handler == "streams":
            assert response.headers["x-a"] == "b"
            assert response.headers.get_all("set-cookie") == ["a=1", "b=2"]
        # The function does not go on before the gate is there.
        assert response.read(6) == b"first "
        (folder / "gate").touch()
        assert response.read() == b"second"


@pytest.mark.parametrize("path", ["/raises", "/exits"])
def test_a_stream_that_fails_ends_early(path: str, write_function: WriteFunction) -> None:
    folder = write_function(SOURCE)
    with Url(folder, "--stream", handler="app.streams") as url:
        with url.open(path) as response:
            assert response.read(6) == b"first "
            (folder / "gate").touch()
            with pytest.raises(http.client.IncompleteRead):
                response.read()
        assert url.get("/")[::2] == (202, b"first second")


@pytest.mark.parametrize(
    ("handler", "path"), [("streams", "/early"), ("plain_stream", "/early"), ("broken_prelude", "/")]
)
def test_a_failure_before_the_first_byte_is_a_bad_gateway(
    handler: str, path: str, write_function: WriteFunction
) -> None:
    with Url(write_function(SOURCE), "--stream", handler=f"app.{handler}") as url:
        assert url.get(path)[::2] == (502, b"Internal Server Error")


def test_who_hangs_up_on_a_stream_holds_nobody_up(write_function: WriteFunction) -> None:
    folder = write_function(SOURCE)
    with Url(folder, "--stream", handler="app.streams") as url:
        response = url.open("/")
        assert response.read(6) == b"first "
        response.close()
        (folder / "gate").touch()
        assert url.get("/", "HEAD")[::2] == (202, b"")
        assert url.get("/")[2] == b"first second"


def test_a_stream_is_collected_for_a_url_that_does_not_stream(write_function: WriteFunction) -> None:
    folder = write_function(SOURCE)
    (folder / "gate").touch()
    with Url(folder, handler="app.streams") as url:
        status, headers, body = url.get("/")
        assert (status, headers["x-a"], body) == (202, "b", b"first second")
        assert headers["content-length"] == "12"


def test_a_result_is_the_body_on_a_url_that_streams(write_function: WriteFunction) -> None:
    with Url(write_function(SOURCE), "--stream", handler="app.responds") as url:
        status, headers, body = url.get("/")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(body)["statusCode"] == 201
        assert url.get("/raises")[0] == 502


def test_requests_run_at_once_in_several_environments(write_function: WriteFunction) -> None:
    with Url(write_function(SOURCE), "--concurrency", "2", handler="app.meets") as url:
        one: list[bytes] = []
        thread = threading.Thread(target=lambda: one.append(url.get("/one")[2]))
        thread.start()
        assert url.get("/two")[2] == b"two"
        thread.join(30)
        assert one == [b"one"]


def test_only_streams_of_http_are_asked_for(tmp_path: Path) -> None:
    run = subprocess.run(
        [CALORIC, "emulate", "--stream", "--", "true"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode == 2
    assert "--stream goes with --http" in run.stderr


def test_an_unknown_invoke_mode_is_refused() -> None:
    with (
        ExecutionEnvironment() as environment,
        pytest.raises(ValueError, match='BUFFERED or RESPONSE_STREAM, not "STREAM"'),
    ):
        HttpFront(environment, host="127.0.0.1", port=0, invoke_mode="STREAM")


def test_the_page_of_the_example() -> None:
    with Url(EXAMPLES / "function-url") as url:
        status, headers, body = url.get("/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"<h1>Hello from Lambda!</h1>" in body
        assert b"<h1>Hello from &lt;b&gt;!</h1>" in url.get("/?name=%3Cb%3E")[2]


def test_events_of_the_example_arrive_one_by_one(tmp_path: Path) -> None:
    # The example with words that come when the reader has seen those before.
    (tmp_path / "gated.py").write_text(
        f"""
import os, sys, time
sys.path.insert(0, {str(EXAMPLES / "token_stream")!r})
import app

def tokens(question):
    for number in range(3):
        while not os.path.exists(f"gate{{number}}"):
            time.sleep(0.01)
        yield f"{{question}}{{number}}"

app.tokens = tokens
handler = app.handler
"""
    )
    with Url(tmp_path, "--stream", handler="gated.handler") as url:
        status, headers, page = url.get("/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"EventSource" in page
        (tmp_path / "gate0").touch()
        with url.open("/events?question=Why%3F") as response:
            assert response.headers["content-type"] == "text/event-stream"
            for number in range(3):
                assert response.readline() == f'data: "Why?{number}"\n'.encode()
                assert response.readline() == b"\n"
                (tmp_path / f"gate{number + 1}").touch()
            assert response.read() == b"event: end\ndata: {}\n\n"
