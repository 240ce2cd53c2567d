"""Fixtures that make a test run once with each emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.emulator.emulators import Kind


@pytest.fixture(params=["aws", "caloric"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Return which emulator the test is about."""
    chosen: Kind = request.param
    return chosen
