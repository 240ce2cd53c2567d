from __future__ import annotations

from caloric.local.service.offered import OPERATIONS
from tests.local.http.document import NOT_OFFERED, PATH, document


def test_the_page_is_what_the_operations_say() -> None:
    assert PATH.read_text(encoding="utf-8") == document(), "run: python -m tests.local.http.document"


def test_each_operation_is_on_the_page_once() -> None:
    table = document().partition("## Operations")[2]
    for name in OPERATIONS:
        assert table.count(f"`{name}`,") + table.count(f"`{name}` |") == 1, name


def test_what_is_said_not_to_be_offered_is_not() -> None:
    assert not set(OPERATIONS) & {name for names in NOT_OFFERED.values() for name in names}
