"""From method and path to an operation of the API model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from caloric.local.http.model import ModelOperation

__all__ = ["Match", "Query", "Routes"]

Query = list[tuple[str, str]]
"""Names and values of a query in their order, decoded."""


class Match(NamedTuple):
    """An operation, and what the path says of its members."""

    operation: ModelOperation
    path_members: dict[str, str]
    """By their names in the path, decoded."""


class _Route(NamedTuple):
    segments: tuple[str, ...]
    """Literal, or a member's name in braces."""
    query: Query
    operation: ModelOperation


class Routes:
    """The routes of `operations`, from their `requestUri`.

    Each part of a path between slashes is one literal or one member. A query in the `requestUri` tells operations of
    one path apart: `ListLayers` from `GetLayerVersionByArn`.
    """

    def __init__(self, operations: Iterable[ModelOperation]) -> None:
        routes: dict[tuple[str, int], list[_Route]] = {}
        for operation in operations:
            path, _, query = operation.uri.partition("?")
            segments = tuple(_segments(path))
            routes.setdefault((operation.method, len(segments)), []).append(
                _Route(segments, parse_qsl(query, keep_blank_values=True), operation)
            )
        for candidates in routes.values():
            # The more particular first: with a query of its own, with fewer members.
            candidates.sort(key=lambda route: (-len(route.query), sum(map(_is_member, route.segments))))
        self._routes = routes

    def match(self, method: str, path: str, query: Query) -> Match | None:
        """Return what `path`, percent-encoded, leads to; `None` if the model has nothing there.

        A slash at the end makes no difference: older API models have one.
        """
        segments = _segments(path)
        for route in self._routes.get((method, len(segments)), ()):
            members = _path_members(route.segments, segments)
            if members is not None and all(pair in query for pair in route.query):
                return Match(route.operation, members)
        return None


def _segments(path: str) -> list[str]:
    return path.removesuffix("/").split("/")[1:]


def _is_member(segment: str) -> bool:
    return segment.startswith("{")


def _path_members(template: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    members: dict[str, str] = {}
    for expected, encoded in zip(template, segments, strict=True):
        # Decoded after the split: an encoded slash is part of a member.
        segment = unquote(encoded, errors="replace")
        if _is_member(expected):
            if not segment:
                return None
            members[expected[1:-1]] = segment
        elif segment != expected:
            return None
    return members
