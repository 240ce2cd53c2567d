"""Functions in a real browser: Debian's Chromium, driven through the DevTools protocol."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.emulator.emulators import Emulator, Reloaded, runtime

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.conftest import WriteFunction

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def served(folder: Path, *options: str, handler: str = "app.handler") -> Emulator:
    return Emulator(
        "caloric",
        folder,
        ["--", *runtime("caloric", handler)],
        options=["--http", "--timeout", "60", *options],
    )


def test_the_example_shows_its_page_and_the_new_text_after_it_was_changed(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "function-url"
    shutil.copytree(EXAMPLES / "function-url", folder)
    code = folder / "app.py"
    with Reloaded(folder, "--http") as emulator:
        page.goto(f"http://127.0.0.1:{emulator.port}/")
        expect(page.get_by_role("heading")).to_have_text("Hello from Lambda!")
        assert page.title() == "Hello"
        text = code.read_text(encoding="utf-8").replace("Hello from", "Good evening from")
        emulator.wait_for_reload(lambda: code.write_text(text, encoding="utf-8"))
        page.reload()
        expect(page.get_by_role("heading")).to_have_text("Good evening from Lambda!")
        page.goto(f"http://127.0.0.1:{emulator.port}/?name=<b>Ada</b>")
        expect(page.get_by_role("heading")).to_have_text("Good evening from <b>Ada</b>!")


def test_events_of_the_example_are_shown_one_by_one(page: Page, tmp_path: Path) -> None:
    # The example, with words of which each is made when the page has shown the one before: a word that is seen has not
    # waited for the next.
    (tmp_path / "gated.py").write_text(
        f"""
import os, sys, time
sys.path.insert(0, {str(EXAMPLES / "token_stream")!r})
import app

def tokens(question):
    for number in range(3):
        while not os.path.exists(f"gate{{number}}"):
            time.sleep(0.002)
        yield f"{{question}}{{number}}"

app.tokens = tokens
handler = app.handler
""",
        encoding="utf-8",
    )
    answer = page.locator("#answer")
    with served(tmp_path, "--stream", handler="gated.handler") as emulator:
        page.goto(f"http://127.0.0.1:{emulator.port}/")
        page.get_by_label("Question").fill("Why?")
        page.get_by_role("button", name="Ask").click()
        for number in range(3):
            (tmp_path / f"gate{number}").touch()
            expect(answer).to_have_text(" ".join(f"Why?{shown}" for shown in range(number + 1)))
            assert page.evaluate("arrivals.length") == number + 1
        expect(page.locator("body")).to_have_attribute("data-done", "yes")


def test_the_example_answers(page: Page) -> None:
    with served(EXAMPLES / "token_stream", "--stream") as emulator:
        page.goto(f"http://127.0.0.1:{emulator.port}/")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("body")).to_have_attribute("data-done", "yes")
        expect(page.locator("#answer")).to_have_text(
            "You asked: Why is the sky blue? Streaming answers while it thinks."
        )


@pytest.mark.parametrize("options", [(), ("--stream",)], ids=["buffered", "streamed"])
def test_headers_and_cookies_reach_the_page_and_come_back(
    options: tuple[str, ...], page: Page, write_function: WriteFunction
) -> None:
    source = """
        import json
        import caloric

        HEADERS = {"content-type": "text/html; charset=utf-8", "x-answer": "forty-two", "cache-control": "no-store"}
        COOKIES = ["sid=abc; Path=/; HttpOnly; SameSite=Strict", "theme=dark; Path=/", "lang=de; Path=/elsewhere"]

        def handler(event, context):
            # Chromium asks for it by itself.
            if event["rawPath"] == "/favicon.ico":
                return caloric.HttpResponse(404, body=iter([""]))
            body = f"<title>Crème brûlée</title><pre>{json.dumps(event.get('cookies', []))}</pre>"
            return caloric.HttpResponse(418, HEADERS, COOKIES, iter([body[:10], body[10:]]))
    """
    with served(write_function(source), *options) as emulator:
        url = f"http://127.0.0.1:{emulator.port}/"
        response = page.goto(url)
        assert response is not None
        assert response.status == 418
        assert response.header_value("x-answer") == "forty-two"
        assert page.title() == "Crème brûlée"
        assert page.locator("pre").inner_text() == "[]"
        # The page's own script sees what it may.
        assert page.evaluate("document.cookie") == "theme=dark"
        asked = "fetch('/').then(answer => [answer.status, answer.headers.get('x-answer')])"
        assert page.evaluate(asked) == [418, "forty-two"]
        kept = {
            (cookie.get("name"), cookie.get("value"), cookie.get("path"), cookie.get("httpOnly"))
            for cookie in page.context.cookies([url, f"{url}elsewhere"])
        }
        assert kept == {
            ("sid", "abc", "/", True),
            ("theme", "dark", "/", False),
            ("lang", "de", "/elsewhere", False),
        }
        page.reload()
        assert page.locator("pre").inner_text() == '["sid=abc", "theme=dark"]'
