"""The service front of the tests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.local.front.service import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.front.service import Service


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="front-") as folder:
        yield Path(folder)


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    """Return a service without functions."""
    with serving(folder) as running:
        yield running
