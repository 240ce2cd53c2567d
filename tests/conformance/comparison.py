"""Compares two observations, and says what is not explained by a known difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conformance.differences import DIFFERENCES, Look
from tests.conformance.json_tokens import render, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.case import Case
    from tests.conformance.observation import Observation

# A long text is shown around the first place that differs.
_SHOWN = 600


@dataclass
class Verdict:
    """What a comparison found: the ids of the differences that showed, and what none of them explains."""

    used: set[str]
    unexplained: list[str]


def compare(case: Case, way: str, peer: Observation, ours: Observation) -> Verdict:
    """Compare a run of awslambdaric with one of ours."""
    verdict = Verdict(set(), [])
    # What a case names comes before what may show anywhere, and after the spelling of JSON, which all of them rest on.
    named = [d for d in DIFFERENCES if d.id in case.differs]
    anywhere = [d for d in DIFFERENCES if d.everywhere and d.id not in case.differs]
    applicable = [d for d in (anywhere[0], *named, *anywhere[1:]) if way in d.ways]
    names = {**dict.fromkeys(peer.values), **dict.fromkeys(ours.values)}
    for name in names:
        theirs, own = peer.values.get(name), ours.values.get(name)
        if theirs == own:
            continue
        for difference in applicable:
            explained = difference.explain(Look(case, name, theirs or "", own or "", peer, ours))
            if explained is not None:
                verdict.used.add(difference.id)
                theirs, own = explained
                if theirs == own:
                    break
        else:
            verdict.unexplained.append("\n".join(_show(name, theirs, own)))
    return verdict


def _show(name: str, theirs: str | None, own: str | None) -> Iterator[str]:
    theirs, own = theirs or "", own or ""
    at = next(
        (i for i, (a, b) in enumerate(zip(theirs, own, strict=False)) if a != b), min(len(theirs), len(own))
    )
    yield f"{name} (first difference at character {at}):"
    start = max(0, at - _SHOWN // 2)
    for who, text in (("awslambdaric", theirs), ("caloric", own)):
        shown = text[start : at + _SHOWN]
        yield f"  {who + ':':13} {'…' if start else ''}{shown!r}{'…' if at + _SHOWN < len(text) else ''}"


def mistakes(case: Case, peer: Observation) -> list[str]:
    """Say where the case itself is not what its author meant."""
    found = []
    if case.posts is not None and peer.posts != case.posts:
        found.append(f"the peer is expected to post {case.posts}, and posted {peer.posts}")
    if case.shows is not None and not any(case.shows in text for text in _readable(peer)):
        found.append(f"nothing shows {case.shows!r}")
    return [f"{line}\n{describe(peer)}" for line in found]


def _readable(seen: Observation) -> Iterator[str]:
    for name, text in seen.values.items():
        yield text
        if name.endswith("body") and (found := tokens(text)) is not None:
            yield render(found, blanks=True, escapes=False)


def describe(seen: Observation) -> str:
    """Return an observation as text."""
    return "\n".join(f"  {name}: {text[:_SHOWN]!r}" for name, text in seen.values.items())
