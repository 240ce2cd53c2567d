"""Which test shows what the table in docs/emulate.md says.

Each row that says "same" has a test that runs with both emulators and expects the same of them; it names its rows with
`shows`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs" / "emulate.md"
SHOWN: dict[str, list[str]] = {}
"""The tests of each row, by the text of its first column."""

_Test = TypeVar("_Test", bound="Callable[..., None]")


def shows(*rows: str) -> Callable[[_Test], _Test]:
    """Say that the decorated test, which takes the fixture `kind`, shows these rows."""

    def note(test: _Test) -> _Test:
        for row in rows:
            SHOWN.setdefault(row, []).append(test.__name__)
        return test

    return note


def rows() -> dict[str, str]:
    """Return what the page's table says of `caloric emulate`, by the text of the first column."""
    text = PAGE.read_text(encoding="utf-8").partition("\n## Beside AWS's emulator\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {first: ours for first, _aws, ours in cells[2:]}
