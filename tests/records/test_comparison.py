"""A comparison shows every treatment and every failure, in text, in HTML, and as a figure."""

from __future__ import annotations

import math

import pytest

from gradreach.records import Comparison, Trial
from gradreach.runs.plain_json import dumps, loads
from gradreach.trials.standings import standings_of
from gradreach.trials.verdict import sentence_of, winner_of


def trial(label: str, seed: int, metric: float, seconds: float = 2.0) -> Trial:
    outcome = "finished" if math.isfinite(metric) else "nonfinite"
    return Trial(
        treatment=label, seed=seed, outcome=outcome, metric=metric, steps=100, seconds=seconds,
        reach={"rnn": 10.0 + seed},
    )  # fmt: skip


def comparison(criterion: float | None = 0.05, **metrics: list[float]) -> Comparison:
    full = {
        label.replace("_", "<"): [trial(label.replace("_", "<"), n, m) for n, m in enumerate(each)]
        for label, each in metrics.items()
    }
    standings = standings_of(full, {"dropped": 40}, "minimize", criterion)
    winner = winner_of(standings)
    return Comparison(
        metric="loss", direction="minimize", criterion=criterion,
        trials=tuple(t for trials in full.values() for t in trials), standings=standings,
        winner=None if winner is None else winner.treatment,
        sentence=sentence_of("loss", standings, winner), meta={"budget": None},
    )  # fmt: skip


@pytest.fixture
def cured() -> Comparison:
    return comparison(
        control=[0.17, 0.16, 0.17], cure_b=[0.001, 0.002, 0.001], bad=[0.2, math.nan, 0.3]
    )


def test_cure_wins_and_the_sentence_says_how_much_and_how_sure(cured):
    assert cured.winner == "cure<b"
    assert cured.sentence.startswith("cure<b helps: loss ×0.00756 [")
    assert "over 3 treatments at once" in cured.sentence  # the dropped one is among them
    assert "criterion met on 3 of 3 seeds, by the control on 0" in cured.sentence


def test_table_shows_best_first_and_tells_failures_and_dropped_ones(cured):
    lines = str(cured).splitlines()

    assert [line.split()[0] for line in lines[:5]] == [
        "treatment", "control", "cure<b", "bad", "dropped",
    ]  # fmt: skip
    assert "1 × nonfinite" in lines[3]
    assert "dropped after 40 steps" in lines[4]
    assert max(map(len, lines)) <= 80


def test_comparison_comes_back_from_json_as_it_was(cured):
    again = Comparison.from_dict(loads(dumps(cured.to_dict())))

    assert dumps(again.to_dict()) == dumps(cured.to_dict())
    assert again.results() == cured.results()


def test_page_escapes_names_and_draws_a_dot_a_trial(cured):
    page = cured._repr_html_()

    assert "cure<b" not in page
    assert "cure&lt;b" in page
    assert page.count("<circle") == 11  # two treatments of three pairs, one of them a cross
    assert page.count("×</text>") == 1


def test_figure_has_a_row_a_treatment_and_a_dot_a_trial(cured):
    figure = cured.plot()

    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cure<b", "bad"]
    assert (len(dots), len(crosses)) == (11, 1)
    assert axes.get_xscale() == "log"


def test_nothing_helped_is_said(cured):
    hopeless = comparison(control=[0.70, 0.69, 0.71], a=[0.70, 0.70, 0.69], b=[0.69, 0.71, 0.7])

    assert hopeless.winner is None
    assert hopeless.sentence.startswith("Nothing helped: none of 3 treatments was shown to make")


def test_control_that_meets_the_criterion_needs_no_treatment():
    healthy = comparison(control=[0.01, 0.02, 0.01], a=[0.0001, 0.0002, 0.0001])

    assert healthy.winner is None
    assert healthy.sentence == (
        "No treatment is needed: the control meets the criterion on 3 of 3 seeds."
    )


def test_treatment_meeting_the_criterion_more_often_wins_over_a_lower_median():
    found = comparison(
        criterion=0.05,
        control=[1.0, 1.1, 0.9], often=[0.04, 0.045, 0.049], lower=[0.02, 0.03, 0.06],
    )  # fmt: skip

    assert found.winner == "often"


def test_median_of_failures_is_no_number():
    found = comparison(control=[0.1, math.nan, math.nan], a=[0.1, 0.1, 0.1])

    assert math.isnan(found.control.median)
    assert found.control.outcomes == {"finished": 1, "nonfinite": 2}


def test_unknown_treatment_names_those_there_are(cured):
    with pytest.raises(KeyError, match="there is control, cure<b, bad, dropped"):
        cured["none"]
