"""`python -m tests.conformance.document`: writes `docs/differences.md` from the list of differences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance.differences import DIFFERENCES

if TYPE_CHECKING:
    from tests.conformance.differences import Difference

PATH = Path(__file__).parents[2] / "docs" / "differences.md"

_HEAD = """\
# Differences from awslambdaric

Swapping `python -m awslambdaric` (4.2.2) for `python -m caloric` changes what stands here, and nothing else that we
know of: each case in `tests/conformance` runs under both, and every request, log line, exit code and value that the
handler sees is compared. A difference that is not in this list fails the tests, and so does an entry here that no
case shows any more.

This page is made from `tests/conformance/differences.py` by `python -m tests.conformance.document`.
"""


def document() -> str:
    """Return the page's text."""
    areas: dict[str, list[Difference]] = {}
    for difference in DIFFERENCES:
        areas.setdefault(difference.area, []).append(difference)
    parts = [_HEAD]
    for area, differences in areas.items():
        parts.append(f"\n## {area}\n\n| awslambdaric | Caloric | why |\n|---|---|---|\n")
        parts.extend(_row(difference) for difference in differences)
    return "".join(parts)


def _row(difference: Difference) -> str:
    cells = (difference.peer, difference.ours, difference.why)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    PATH.write_text(document(), encoding="utf-8")
