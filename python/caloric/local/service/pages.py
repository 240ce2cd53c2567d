"""Pages of a list: `Marker` and `MaxItems` of a request, `NextMarker` of its answer."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from caloric.local.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from caloric.local.service.operations import Members

__all__ = ["PAGE", "Page", "page", "start"]

PAGE = 50
"""So many items has a page at most, whatever `MaxItems` says (spec lambda-service 0.3)."""

Item = TypeVar("Item")


class Page(NamedTuple):
    """Where a page begins and how long it is."""

    after: tuple[Any, ...] | None
    """The key of the last item before it; `None` for the first page."""
    size: int


def start(request: Members, *, most: int = PAGE) -> Page:
    """Return what page `request` asks for, of at most `most` items.

    Raises `ServiceError` when its `Marker` is none that `page` made.
    """
    size = min(request.get("MaxItems") or most, most)
    marker = request.get("Marker")
    if not marker:
        return Page(None, size)
    try:
        after = json.loads(base64.urlsafe_b64decode(marker.encode("ascii")))
    except (ValueError, binascii.Error):
        after = None
    if not (isinstance(after, list) and after and all(isinstance(part, (str, int)) for part in after)):
        raise _invalid()
    return Page(tuple(after), size)


def page(
    request: Members, items: Iterable[tuple[Sequence[str | int], Item]], *, most: int = PAGE
) -> tuple[list[Item], dict[str, str]]:
    """Return the page of `items` that `request` asks for, and `{"NextMarker": …}` if there are more.

    `items` are keys and items in the order of their keys; keys are like those of a `Store`. Those up to the marker are
    passed over, so a caller with many may leave them out (`start(request).after`); no more are taken than the page
    needs and one.
    """
    after, size = start(request, most=most)
    taken: list[Item] = []
    last: Sequence[str | int] = ()
    for key, item in items:
        if after is not None and _is_up_to(key, after):
            continue
        if len(taken) == size:
            return taken, {"NextMarker": _marker(last)}
        taken.append(item)
        last = key
    return taken, {}


def _is_up_to(key: Sequence[str | int], after: tuple[Any, ...]) -> bool:
    try:
        return tuple(key) <= after
    except TypeError:
        # A number where this list has names: the marker is another list's.
        raise _invalid() from None


def _invalid() -> ServiceError:
    return ServiceError(
        "InvalidParameterValueException", "Invalid Marker: it is not the NextMarker of this list."
    )


def _marker(key: Sequence[str | int]) -> str:
    document = json.dumps(list(key), ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(document.encode()).decode("ascii")
