from __future__ import annotations

import pytest

from caloric.local.service.errors import ServiceError
from caloric.local.service.pages import PAGE, page

FUNCTIONS = [((f"f{number:03}",), number) for number in range(120)]


def test_a_list_is_read_page_by_page_to_its_end() -> None:
    request: dict[str, object] = {}
    read = []
    lengths = []
    while True:
        items, rest = page(request, FUNCTIONS)
        read += items
        lengths.append(len(items))
        if not rest:
            break
        request = {"Marker": rest["NextMarker"]}
    assert read == list(range(120))
    assert lengths == [50, 50, 20]


def test_a_page_that_ends_with_the_list_has_no_next_one() -> None:
    assert page({"MaxItems": 120}, FUNCTIONS[:PAGE]) == (list(range(PAGE)), {})
    assert page({}, []) == ([], {})


def test_max_items_makes_a_page_shorter_and_never_longer() -> None:
    assert page({"MaxItems": 2}, FUNCTIONS)[0] == [0, 1]
    assert len(page({"MaxItems": 10_000}, FUNCTIONS)[0]) == PAGE
    assert len(page({"MaxItems": 100}, FUNCTIONS, most=100)[0]) == 100


def test_the_next_page_begins_where_an_item_was_deleted_meanwhile() -> None:
    _, rest = page({"MaxItems": 2}, FUNCTIONS)
    assert page({"MaxItems": 2, "Marker": rest["NextMarker"]}, FUNCTIONS[3:])[0] == [3, 4]


def test_keys_of_several_parts_are_compared_part_by_part() -> None:
    versions = [(("a", 2), "a2"), (("a", 10), "a10"), (("ü", 1), "ü1")]
    _, rest = page({"MaxItems": 2}, versions)
    assert page({"Marker": rest["NextMarker"]}, versions) == (["ü1"], {})


def test_the_marker_of_a_list_with_other_keys_is_refused() -> None:
    _, rest = page({"MaxItems": 1}, [((-2,), "newest"), ((-1,), "oldest")])
    with pytest.raises(ServiceError, match="Invalid Marker"):
        page({"Marker": rest["NextMarker"]}, FUNCTIONS)


@pytest.mark.parametrize("marker", ["x", "ü", "e30=", "W10=", "W251bGxd", "////"])
def test_a_marker_of_another_make_is_refused(marker: str) -> None:
    with pytest.raises(ServiceError, match="Invalid Marker"):
        page({"Marker": marker}, FUNCTIONS)
