from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.local.service.harness import Harness
from tests.local.service.recording import Lambda

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Lambda]:
    """The service in a folder of its own."""
    service = Lambda(tmp_path / "data")
    yield service
    service.close()


@pytest.fixture
def lambda_(tmp_path: Path) -> Iterator[Harness]:
    """The service in a folder of its own, for the tests of what is configured besides functions."""
    service = Harness(tmp_path / "data")
    yield service
    service.close()
