"""What of the benchmark can be wrong without anybody noticing."""

from __future__ import annotations

import json
import sys
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import cli, report
from bench.contest import Contestant, Results, WrongAnswerError, contest
from bench.goals import FAST, FLOOR, GOALS, METRICS, PEER, Goal, Outcome, Rule, judge, verdicts
from bench.measures.cycle import SMALL_EVENT
from bench.measures.start import Start
from bench.runtimes import Runtime, Session, check_answer, cpu_time_ns, resident_memory_mb
from bench.summary import Summary, estimate, percentile, summarize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.conftest import WriteFunction

PLAIN_RUNTIME = """
    import http.client, os

    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

    def ask(method, path, body=None):
        connection.request(method, "/2018-06-01/runtime/invocation/" + path, body)
        return connection.getresponse()

    while True:
        invocation = ask("GET", "next")
        event = invocation.read()
        ask("POST", invocation.headers["Lambda-Runtime-Aws-Request-Id"] + "/response", ANSWER).read()
"""


def summary(median: float, *rounds: float, p99: float | None = None) -> Summary:
    return Summary(median, median / 2, p99, count=10, round_medians=rounds or (median,))


@pytest.fixture
def report_of() -> report.Report:
    environment = {
        "cpu": "Model 1",
        "cores": 2,
        "kernel": "6.1",
        "machine": "x86_64",
        "governor": None,
        "load_average": [0.1, 0.2, 0.3],
        "python": "3.12.1",
        "commit": "0123456789ab",
        "dirty": False,
        "packages": {"caloric": "0.1.0"},
    }
    summaries = {"start": {FLOOR: summary(10), PEER: summary(30), FAST: summary(10.5, p99=12)}}
    return report.Report("2026-01-02 03:04", environment, False, Results(summaries, {"start: x": "said no"}))


# ---- figures ---------------------------------------------------------------------------------------------------


def test_summary_is_over_the_samples_of_all_rounds() -> None:
    found = summarize([[5.0, 1.0], [2.0, 3.0, 100.0]])
    assert (found.median, found.minimum, found.count) == (3.0, 1.0, 5)
    assert found.round_medians == (3.0, 3.0)


def test_median_of_an_even_number_of_samples_is_between_the_middle_ones() -> None:
    assert summarize([[1.0, 2.0], [3.0, 10.0]]).median == 2.5


def test_p99_is_left_out_where_it_would_be_the_maximum() -> None:
    assert summarize([[float(n) for n in range(299)]]).p99 is None
    assert summarize([[float(n) for n in range(1, 1001)]]).p99 == 990


def test_percentile_is_a_sample() -> None:
    assert percentile([1, 2, 3, 4], 50) == 2
    assert percentile([7], 99) == 7
    assert percentile([1, 2, 3, 4], 100) == 4


def test_no_samples_are_no_summary() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarize([[], []])
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)


# ---- goals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "limit", "reference", "ours", "outcome", "figure"),
    [
        (Rule.AT_MOST, 45, "", 45.0, Outcome.MET, "45 ms"),
        (Rule.AT_MOST, 45, "", 45.01, Outcome.NOT_MET, "45 ms"),
        (Rule.AT_MOST_TIMES, 1.1, "other", 11.0, Outcome.MET, "1.100 ×"),
        (Rule.AT_MOST_TIMES, 1.1, "other", 11.1, Outcome.NOT_MET, "1.110 ×"),
        (Rule.AT_MOST_ABOVE, 1, "other", 11.0, Outcome.MET, "+1.00 ms"),
        (Rule.AT_MOST_ABOVE, 1, "other", 11.5, Outcome.NOT_MET, "+1.50 ms"),
        (Rule.FASTER, 4, "other", 2.5, Outcome.MET, "4.00 ×"),
        (Rule.FASTER, 4, "other", 2.6, Outcome.NOT_MET, "3.85 ×"),
    ],
)
def test_goal_is_judged_exactly(
    rule: Rule, limit: float, reference: str, ours: float, outcome: Outcome, figure: str
) -> None:
    found = judge(
        Goal("start", "ours", rule, limit, reference), {"ours": summary(ours), "other": summary(10)}
    )
    assert (found.outcome, found.figure) == (outcome, figure)


def test_goal_is_undecided_when_rounds_lie_on_both_sides_of_it() -> None:
    goal = Goal("start", "ours", Rule.AT_MOST_TIMES, 1.15, "other")
    found = judge(goal, {"ours": summary(11, 10.5, 11, 12), "other": summary(10, 10, 10, 10)})
    assert (found.outcome, found.figure) == (Outcome.UNDECIDED, "1.100 × (1.050 to 1.200)")


def test_rounds_are_compared_with_each_other_and_not_with_the_average() -> None:
    goal = Goal("start", "ours", Rule.AT_MOST_TIMES, 1.15, "other")
    found = judge(goal, {"ours": summary(22, 11, 22, 33), "other": summary(20, 10, 20, 30)})
    assert (found.outcome, found.figure) == (Outcome.MET, "1.100 ×")


@pytest.mark.parametrize(
    ("metric", "outcome"), [("cycle", Outcome.UNDECIDED), ("start", Outcome.UNDECIDED), ("cpu", Outcome.MET)]
)
def test_figure_below_a_strict_floor_proves_nothing(metric: str, outcome: Outcome) -> None:
    goal = Goal(metric, FAST, Rule.AT_MOST_TIMES, 1.15, FLOOR)
    assert judge(goal, {FAST: summary(9.65), FLOOR: summary(10)}).outcome is outcome


@pytest.mark.parametrize("names", [[], ["ours"], ["other"]])
def test_goal_without_both_figures_is_not_measured(names: list[str]) -> None:
    found = judge(Goal("start", "ours", Rule.FASTER, 2, "other"), {name: summary(1) for name in names})
    assert found.outcome is Outcome.NOT_MEASURED


def test_interval_is_that_of_the_sign_test() -> None:
    # Ranks from the usual tables: 1 and 6 of 6, 2 and 9 of 10, 14 and 27 of 40.
    for count, low, high in ((3, 1, 3), (6, 1, 6), (10, 2, 9), (40, 14, 27)):
        found = estimate([float(value) for value in range(count, 0, -1)])
        assert (found.low, found.high) == (low, high)
    with pytest.raises(ValueError, match="no rounds"):
        estimate([])


def test_goals_name_metrics_and_say_what_they_ask() -> None:
    assert {goal.metric for goal in GOALS} <= set(METRICS)
    assert str(GOALS[0]) == "≤ 1.1 × floor"
    assert str(Goal("memory", FAST, Rule.AT_MOST_ABOVE, 1, FLOOR)) == "≤ floor + 1 MB"
    assert str(Goal("cpu", FAST, Rule.AT_MOST, 45)) == "≤ 45 µs"
    assert str(Goal("cpu", FAST, Rule.FASTER, 3, PEER)) == "≥ 3 × faster than awslambdaric"


def test_only_goals_of_what_was_measured_are_judged() -> None:
    assert {verdict.goal.metric for verdict in verdicts({"cpu": {FAST: summary(40)}})} == {"cpu"}


# ---- contests --------------------------------------------------------------------------------------------------


class Scripted(Contestant):
    """Notes each turn, and fails in the round it is told to (0 is the check)."""

    def __init__(self, name: str, samples: Iterable[float], turns: list[str], wrong_in: int = -1) -> None:
        super().__init__(name)
        self._samples = iter(samples)
        self._turns = turns
        self._wrong_in = wrong_in
        self._round = 0
        self.closed = 0

    def check(self) -> None:
        if self._wrong_in == 0:
            raise WrongAnswerError("answered 42")

    def sample(self) -> Mapping[str, Sequence[float]]:
        self._round += 1
        self._turns.append(self.name)
        if self._round == self._wrong_in:
            raise WrongAnswerError("answered 43")
        return {"start": [next(self._samples)]}

    def close(self) -> None:
        self.closed += 1


def test_everybody_has_a_turn_in_each_round_and_everybody_else_before_it() -> None:
    turns: list[str] = []
    results = Results()
    contest("m", [Scripted(name, cycle([1.0]), turns) for name in "abcd"], 40, results)
    assert all(sorted(turns[first : first + 4]) == list("abcd") for first in range(0, 160, 4))
    for name in "abcd":
        before = {turns[index - 1] for index in range(1, 160) if turns[index] == name}
        assert before >= set("abcd") - {name}
    assert list(results.summaries["start"]) == list("abcd")
    assert not results.wrong


def test_who_answers_wrongly_is_listed_and_has_no_figures() -> None:
    turns: list[str] = []
    results = Results()
    steps: list[None] = []
    contestants = [
        Scripted("wrong from the start", cycle([1.0]), turns, wrong_in=0),
        Scripted("right", [3.0, 5.0, 4.0], turns),
        Scripted("wrong later", cycle([1.0]), turns, wrong_in=2),
    ]
    contest("m", contestants, 3, results, lambda: steps.append(None))
    assert results.wrong == {"m: wrong from the start": "answered 42", "m: wrong later": "answered 43"}
    assert set(results.summaries["start"]) == {"right"}
    assert results.summaries["start"]["right"].median == 4.0
    assert [contestant.closed for contestant in contestants] == [1, 1, 1]
    assert len(steps) == 3 + 2 + 2 + 1


# ---- answers ---------------------------------------------------------------------------------------------------


def test_answers_are_compared_as_json() -> None:
    check_answer(b'{ "b": [1.0], "a": "\\u00e4" }', {"a": "ä", "b": [1.0]})


@pytest.mark.parametrize("payload", [b"", b"nonsense", b'"Hello"', b'{"errorType": "E"}', b"\xff"])
def test_other_answers_are_wrong(payload: bytes) -> None:
    with pytest.raises(WrongAnswerError, match="answered"):
        check_answer(payload, "hello", b"its log")


def runtime(write_function: WriteFunction, answer: str) -> Runtime:
    folder = write_function(PLAIN_RUNTIME.replace("ANSWER", answer))
    return Runtime("test", (sys.executable, "-I", str(folder / "app.py")), takes_handler=False)


def test_start_of_a_runtime_that_answers_is_timed(write_function: WriteFunction) -> None:
    start = Start("start", runtime(write_function, "b'\"hello\"'"), "app.handler", "hello")
    try:
        ((milliseconds,),) = start.sample().values()
    finally:
        start.close()
    assert 1 < milliseconds < 20_000


def test_start_leaves_the_working_directory_alone(
    write_function: WriteFunction, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    start = Start("start", runtime(write_function, "b'\"hello\"'"), "app.handler", "hello")
    try:
        start.sample()
    finally:
        start.close()
    assert Path.cwd() == tmp_path


def test_start_with_a_wrong_answer_is_not_timed(write_function: WriteFunction) -> None:
    start = Start("start", runtime(write_function, "b'\"bye\"'"), "app.handler", "hello")
    try:
        with pytest.raises(WrongAnswerError, match='answered "bye"'):
            start.sample()
    finally:
        start.close()


def test_runtime_that_never_polls_is_wrong_and_its_message_shown() -> None:
    command = (sys.executable, "-I", "-c", "raise SystemExit('no such thing')")
    start = Start("start", Runtime("test", command, takes_handler=False), "app.handler", "hello")
    try:
        with pytest.raises(WrongAnswerError, match="did not poll: no such thing"):
            start.sample()
    finally:
        start.close()


def test_session_counts_cycles_and_sees_what_the_process_uses(write_function: WriteFunction) -> None:
    session = Session(runtime(write_function, "event"), "app.handler")
    try:
        session.expect(SMALL_EVENT, json.loads(SMALL_EVENT))
        before = cpu_time_ns(session.pid)
        assert len(session.cycles(SMALL_EVENT, 5)) == 5
        assert cpu_time_ns(session.pid) - before > 10_000
        assert 4 < resident_memory_mb(session.pid) < 200
        with pytest.raises(WrongAnswerError, match="answered"):
            session.expect(b"{}", "something else")
    finally:
        session.close()


def test_small_event_has_54_bytes() -> None:
    assert len(SMALL_EVENT) == 54


# ---- reports ---------------------------------------------------------------------------------------------------


def test_rows_compare_with_floor_and_peer(report_of: report.Report) -> None:
    assert report.rows("start", report_of.results.summaries["start"]) == [
        ("floor", "10.0", "5.00", "", "", ""),
        ("awslambdaric", "30.0", "15.0", "", "3.00", ""),
        ("caloric, fast way in", "10.5", "5.25", "12.0", "1.05", "2.86 × less"),
    ]


def test_figures_have_three_digits() -> None:
    figures = [report.figure(value) for value in (0.384, 9.994, 9.996, 99.94, 99.96, 1234.5)]
    assert figures == ["0.38", "9.99", "10.0", "99.9", "100", "1234"]


def test_report_survives_json(report_of: report.Report) -> None:
    assert report.from_json(json.loads(json.dumps(report.to_json(report_of)))) == report_of


@pytest.mark.parametrize("data", [{}, [], {"metrics": {"start": 1}}, {"metrics": {}, "date": "x"}])
def test_other_json_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no results of python -m bench"):
        report.from_json(data)


def test_markdown_goes_between_the_marks(report_of: report.Report, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    report.update(page, report.markdown(report_of))
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "| caloric, fast way in | 10.5 | 5.25 | 12.0 | 1.05 | 2.86 × less |" in text
    assert "| start | caloric, fast way in | ≤ 1.1 × floor | 1.050 × | met |" in text
    assert "| start | caloric, fast way in | ≥ 3 × faster than awslambdaric | 2.86 × | not met |" in text
    assert "said no" in text
    report.update(page, "again\n")
    assert page.read_text(encoding="utf-8") == f"before\n{report.BEGIN}\n\nagain\n\n{report.END}\nafter\n"


def test_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("my page", encoding="utf-8")
    with pytest.raises(ValueError, match="needs these two lines"):
        report.update(page, "table")
    assert page.read_text(encoding="utf-8") == "my page"


# ---- the command -----------------------------------------------------------------------------------------------


def test_unknown_measure_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["statr"]) == 2
    assert "no measure is called 'statr': choose from start, boto3" in capsys.readouterr().err


def test_missing_results_are_a_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["--show", str(tmp_path / "none.json")]) == 2
    assert "none.json: No such file" in capsys.readouterr().err
    (tmp_path / "list.json").write_text("[")
    assert cli.main(["--show", str(tmp_path / "list.json")]) == 2


@pytest.mark.parametrize("options", [[], ["--markdown"]])
def test_earlier_results_are_shown_and_wrong_answers_are_exit_code_1(
    options: list[str], report_of: report.Report, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    report.save(report_of, path)
    assert cli.main(["--show", str(path), *options]) == 1
    shown = capsys.readouterr().out
    assert "10.5" in shown
    assert "not met" in shown
    assert "said no" in shown
    report_of.results.wrong.clear()
    report.save(report_of, path)
    assert cli.main(["--show", str(path), *options]) == 0
