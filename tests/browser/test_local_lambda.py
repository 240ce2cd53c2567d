"""What a web page can do to the local Lambda in a real browser: nothing, unless the page is the service's own."""

from __future__ import annotations

import base64
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.emulators import PATIENCE
from tests.local.cli.commands import Started
from tests.local.conftest import connect
from tests.local.functions import ROLE, RUNTIME, create, zipped
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page, Route

FUNCTIONS = "/2015-03-31/functions"
INVOKE = f"{FUNCTIONS}/orders/invocations"
CONCURRENCY = "/2017-10-31/functions/orders/concurrency"
NEXT = "/2018-06-01/runtime/invocation/next"

# The icon keeps the browser from asking for one.
ELSEWHERE = "<!DOCTYPE html><title>Elsewhere</title><link rel=icon href='data:,'>"

# Each returns what the page's script could read of the answer.
FETCH = f"""async ([url, options]) => {{
    try {{
        const answer = await fetch(url, {{signal: AbortSignal.timeout({PATIENCE * 1000}), ...options}});
        return await answer.text();
    }} catch {{
        return "";
    }}
}}"""
SUBMIT = """([url, event]) => {
    const form = document.createElement("form");
    Object.assign(form, {method: "post", action: url, enctype: "text/plain"});
    const field = document.createElement("input");
    // A form of plain text is sent as name=value: this is JSON then.
    Object.assign(field, {name: '{"from": "form', value: '"}'});
    form.append(field);
    document.body.append(form);
    form.submit();
    return "";
}"""
BEACON = """([url]) => {
    navigator.sendBeacon(url, "{}");
    return "";
}"""
NAVIGATE = """([url]) => {
    location.href = url;
    return "";
}"""
LOAD = """([url, tag]) => new Promise((resolve) => {
    const element = document.createElement(tag);
    element.onerror = () => resolve("");
    element.onload = () => {
        // A frame is loaded whatever the status was, and can be looked into when it is of the page's own origin.
        if (tag !== "iframe") resolve(`${tag} was loaded`);
        else resolve(element.contentDocument === null ? "" : element.contentDocument.body.innerText);
    };
    element.src = url;
    document.body.append(element);
})"""

CREATE = {
    "FunctionName": "planted",
    "Role": ROLE,
    "Runtime": RUNTIME,
    "Handler": "app.handler",
    "Code": {"ZipFile": base64.b64encode(zipped("def handler(event, context): pass\n")).decode()},
}
TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
LIMIT = json.dumps({"ReservedConcurrentExecutions": 0})

ATTEMPTS = {
    "read": (FETCH, FUNCTIONS, {}),
    "read-blindly": (FETCH, FUNCTIONS, {"mode": "no-cors"}),
    "read-the-status": (FETCH, "/_caloric/status", {}),
    "invoke": (FETCH, INVOKE, {"method": "POST", "headers": TEXT, "body": "{}"}),
    "invoke-blindly": (FETCH, INVOKE, {"method": "POST", "mode": "no-cors", "headers": TEXT, "body": "{}"}),
    "invoke-with-preflight": (FETCH, INVOKE, {"method": "POST", "headers": JSON, "body": "{}"}),
    "invoke-through-a-form": (SUBMIT, INVOKE, None),
    "invoke-by-a-beacon": (BEACON, INVOKE, None),
    "create": (FETCH, FUNCTIONS, {"method": "POST", "mode": "no-cors", "body": json.dumps(CREATE)}),
    "configure": (FETCH, CONCURRENCY, {"method": "PUT", "body": LIMIT}),
    "delete": (FETCH, f"{FUNCTIONS}/orders", {"method": "DELETE"}),
    "image": (LOAD, FUNCTIONS, "img"),
    "script": (LOAD, FUNCTIONS, "script"),
    "frame": (LOAD, FUNCTIONS, "iframe"),
    "go-there": (NAVIGATE, FUNCTIONS, None),
}

# The function says where its Runtime API is, and which events it got.
SOURCE = """
    import json, os

    def handler(event, context):
        with open(os.environ["RECORD"], "a") as record:
            print(json.dumps(event), file=record)
        return os.environ["AWS_LAMBDA_RUNTIME_API"]
"""


class Deployed:
    """`caloric local start` with the function `orders`, which was invoked once by boto3, with the event "mine"."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._record = folder / "record"
        self._started = Started(folder, "--data", str(folder / "data"), *arguments)
        self.url, self.port = self._started.url, self._started.port
        try:
            self._client = connect(self.url)
            create(self._client, "orders", SOURCE, Environment={"Variables": {"RECORD": str(self._record)}})
            self.runtime_api: str = self.invoke("mine")
        except BaseException:
            self.close()
            raise
        self.before = self.state()
        assert self.events == ["mine"]

    @property
    def events(self) -> list[Any]:
        """What the function was invoked with."""
        return [json.loads(line) for line in self._record.read_text(encoding="utf-8").splitlines()]

    def invoke(self, event: object) -> Any:
        """Invoke by boto3 and return the response."""
        answer = self._client.invoke(FunctionName="orders", Payload=json.dumps(event).encode())
        assert "FunctionError" not in answer
        return json.loads(answer["Payload"].read())

    def state(self) -> object:
        """Return all that a page could have changed."""
        limit = self._client.get_function_concurrency(FunctionName="orders")
        return (
            self.events,
            self._client.list_functions()["Functions"],
            limit.get("ReservedConcurrentExecutions"),
        )

    def close(self) -> None:
        """End the service."""
        self._started.__exit__(None, None, None)


@contextmanager
def deployed(folder: Path, *arguments: str) -> Iterator[Deployed]:
    service = Deployed(folder, *arguments)
    try:
        yield service
    finally:
        service.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with deployed(tmp_path_factory.mktemp("service")) as service:
        yield service


class _Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(ELSEWHERE.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def site(port: int = 0) -> Iterator[int]:
    """Serve a page at every path of 127.0.0.1, and yield the port."""
    with ThreadingHTTPServer(("127.0.0.1", port), _Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    with site() as port:
        yield port


class Answers:
    """The statuses of all answers that a page gets from now on.

    DevTools sees them also where the page's script is told nothing: of preflights, and of what the browser withholds.
    """

    def __init__(self, page: Page) -> None:
        self.statuses: list[int] = []
        self._page = page
        session = page.context.new_cdp_session(page)
        session.on(
            "Network.responseReceivedExtraInfo", lambda event: self.statuses.append(event["statusCode"])
        )
        session.send("Network.enable")

    def wait(self) -> set[int]:
        """Wait for the first one, and return the different ones."""
        deadline = time.monotonic() + PATIENCE
        while not self.statuses:
            assert time.monotonic() < deadline, "the request was not answered"
            self._page.wait_for_timeout(10)
        return set(self.statuses)


# `localhost` is another site than 127.0.0.1; another port of that is another origin of the same site.
@pytest.mark.parametrize("host", ["elsewhere.example", "localhost", "127.0.0.1"])
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_page_of_another_origin_can_neither_read_nor_call(
    page: Page, service: Deployed, elsewhere: int, attempt: str, host: str
) -> None:
    script, path, options = ATTEMPTS[attempt]
    page.goto(f"http://{host}:{elsewhere}/")
    answers = Answers(page)
    assert page.evaluate(script, [service.url + path, options]) == ""
    assert answers.wait() == {403}
    assert service.state() == service.before


def test_an_address_that_is_typed_is_answered_and_its_page_may_go_on(page: Page, tmp_path: Path) -> None:
    with deployed(tmp_path) as service:
        for host in ("127.0.0.1", "localhost"):
            response = page.goto(f"http://{host}:{service.port}{FUNCTIONS}")
            assert response is not None
            assert response.status == 200
            assert [each["FunctionName"] for each in response.json()["Functions"]] == ["orders"]
        call_from_a_page_that_may(page, service)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_name_that_points_here_since_its_page_was_loaded_is_refused(
    page: Page, service: Deployed, attempt: str
) -> None:
    script, path, options = ATTEMPTS[attempt]
    origin = f"http://rebound.example:{service.port}"
    visit_before_the_name_points_here(page, origin)
    answers = Answers(page)
    # For the browser this is no other origin: it lets the page read the refusal.
    read = page.evaluate(script, [origin + path, options])
    assert "orders" not in read
    assert "arn:" not in read
    assert answers.wait() == {421}
    assert service.state() == service.before


def visit_before_the_name_points_here(page: Page, origin: str) -> None:
    """Load the page that the name's owner served under `origin` from a machine of their own."""

    def answer(route: Route) -> None:
        route.fulfill(body=ELSEWHERE, content_type="text/html")

    page.route(f"{origin}/", answer)
    page.goto(f"{origin}/")
    page.unroute(f"{origin}/")


def test_a_name_is_refused_whose_owner_had_the_port_before(page: Page, tmp_path: Path) -> None:
    port = free_port()
    origin = f"http://rebound.example:{port}"
    with site(port):
        page.goto(f"{origin}/")
    with deployed(tmp_path, "--port", str(port)) as service:
        read = page.evaluate(FETCH, [INVOKE, {"method": "POST", "body": "{}"}])
        assert "localhost only" in read
        response = page.reload()
        assert response is not None
        assert response.status == 421
        assert service.state() == service.before


def test_a_name_that_was_allowed_is_let_in(page: Page, tmp_path: Path) -> None:
    with deployed(tmp_path, "--allow-host", "allowed.example") as service:
        response = page.goto(f"http://allowed.example:{service.port}{FUNCTIONS}")
        assert response is not None
        assert response.status == 200
        call_from_a_page_that_may(page, service)


def call_from_a_page_that_may(page: Page, service: Deployed) -> None:
    """See the attempts succeed: where they are refused, it is not because they are no good."""

    def attempt(name: str) -> str:
        script, path, options = ATTEMPTS[name]
        return str(page.evaluate(script, [path, options]))

    assert "orders" in attempt("read")
    assert "orders" in attempt("read-the-status")
    assert "orders" in attempt("frame")
    for name in ("invoke", "invoke-blindly", "invoke-with-preflight"):
        assert json.loads(attempt(name)) == service.runtime_api
    answers = Answers(page)
    attempt("invoke-by-a-beacon")
    assert answers.wait() == {200}
    assert service.events == ["mine", {}, {}, {}, {}]
    with page.expect_navigation():
        attempt("invoke-through-a-form")
    assert service.events[5:] == [{"from": "form="}]
    page.goto(f"{page.url.partition(FUNCTIONS)[0]}{FUNCTIONS}")
    assert "planted" in attempt("create")
    assert json.loads(attempt("configure")) == {"ReservedConcurrentExecutions": 0}
    attempt("delete")
    assert "orders" not in attempt("read")


RUNTIME_API_ATTEMPTS = {
    "take": (FETCH, NEXT, {}),
    "take-blindly": (FETCH, NEXT, {"mode": "no-cors"}),
    "take-by-an-image": (LOAD, NEXT, "img"),
    "take-by-a-script": (LOAD, NEXT, "script"),
    "fail": (FETCH, "/2018-06-01/runtime/init/error", {"method": "POST", "mode": "no-cors", "body": "{}"}),
    "register": (FETCH, "/2020-01-01/extension/register", {"method": "POST", "headers": JSON, "body": "{}"}),
}


@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1", "rebound.example"])
@pytest.mark.parametrize("attempt", RUNTIME_API_ATTEMPTS)
def test_a_page_cannot_take_an_invocation_away_from_its_runtime(
    page: Page, service: Deployed, elsewhere: int, attempt: str, host: str
) -> None:
    script, path, options = RUNTIME_API_ATTEMPTS[attempt]
    target = f"http://{service.runtime_api}"
    if host == "rebound.example":
        target = f"http://{host}:{service.runtime_api.rpartition(':')[2]}"
        visit_before_the_name_points_here(page, target)
    else:
        page.goto(f"http://{host}:{elsewhere}/")
    answers = Answers(page)
    read = page.evaluate(script, [target + path, options])
    assert answers.wait() == {403}
    assert read == "" or json.loads(read)["errorType"] == "Forbidden"
    assert service.state() == service.before
    # By the same environment: it is not one that was started in place of one that a page has broken.
    assert service.invoke("mine") == service.runtime_api
    service.before = service.state()
