"""Debian's Chromium, driven through the DevTools protocol."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.emulator.emulators import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]

expect.set_options(timeout=PATIENCE * 1000)


# Not for the session: as long as it is there, an event loop runs in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Where there is none this fails, and says what to install.
    found = subprocess.run(
        [ROOT / "tools" / "toolchain", "chromium"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    with sync_playwright() as playwright:
        # As root it has no sandbox of its own; /dev/shm is small in containers. The names that nobody owns (RFC 2606)
        # are those whose owner lets them point at this machine. Chromium keeps the pages of other machines from this
        # one by itself; not every browser does, and what is looked at here is whether our ports refuse them.
        options = [
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--host-resolver-rules=MAP *.example 127.0.0.1",
            "--disable-features=LocalNetworkAccessChecks",
        ]
        browser = playwright.chromium.launch(executable_path=found.stdout.strip(), args=options)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a page in a browser of its own, as far as cookies and caches go."""
    with browser.new_context() as context:
        yield context.new_page()
