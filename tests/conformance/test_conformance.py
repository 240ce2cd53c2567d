"""Every case, under both ways in, against awslambdaric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.case import Case
from tests.conformance.cases import ALL, SUBJECTS
from tests.conformance.comparison import compare, describe, mistakes
from tests.conformance.differences import DIFFERENCES
from tests.conformance.run import PEER, Runs, applies
from tests.runtimes import CALORIC

if TYPE_CHECKING:
    from collections.abc import Iterator

# A case may wait for each of three runtimes, and on a busy machine for the cases before it.
pytestmark = pytest.mark.timeout(180)

HERE = [
    pytest.param(case, id=f"{subject}: {case.name}")
    for subject, cases in SUBJECTS.items()
    for case in cases
    if applies(case)
]


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Runs of the cases that were chosen, started ahead in the order in which they are asked for."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [spec.params.get("case") for spec in specs if spec is not None]
    cases = [case for case in chosen if isinstance(case, Case)]
    started = Runs(tmp_path_factory.mktemp("conformance"), cases)
    yield started
    started.close()


@pytest.mark.parametrize("case", HERE)
def test_the_peer_does_what_the_case_is_about(case: Case, runs: Runs) -> None:
    found = mistakes(case, runs.of(case)[PEER])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("case", HERE)
def test_nothing_differs_that_is_not_meant_to(case: Case, way: str, runs: Runs) -> None:
    observed = runs.of(case)
    verdict = compare(case, way, observed[PEER], observed[way])
    if verdict.unexplained:
        pytest.fail(
            "\n".join([*verdict.unexplained, "caloric, all of it:", describe(observed[way])]), pytrace=False
        )
    expected = {d.id for d in DIFFERENCES if d.id in case.differs and way in d.ways}
    assert expected <= verdict.used, "the case names differences that it does not show"


@pytest.mark.timeout(900)
def test_every_difference_shows_in_a_case(runs: Runs) -> None:
    here = [case for case in ALL if applies(case)]
    shown = set()
    for case in here:
        observed = runs.of(case)
        for way in CALORIC:
            shown |= compare(case, way, observed[PEER], observed[way]).used
    assert not {d.id for d in DIFFERENCES} - shown, "no case shows these differences any more"


def test_cases_name_differences_that_exist() -> None:
    named = {difference for case in ALL for difference in case.differs}
    assert not named - {d.id for d in DIFFERENCES}


def test_names_are_unique() -> None:
    names = [case.name for case in ALL]
    assert len(names) == len({*names}), sorted(name for name in {*names} if names.count(name) > 1)
