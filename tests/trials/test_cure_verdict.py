"""When a treatment is called a cure; and that chance alone hardly ever is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from gradreach.records.comparison import Comparison
from gradreach.records.finding import Finding
from gradreach.records.trial import CONTROL, Trial
from gradreach.trials.cure_sentence import cure_sentence
from gradreach.trials.cure_verdict import judged
from gradreach.trials.standings import standings_of
from gradreach.trials.verdict import winner_of

BLIND = Finding(code="vanishing-gradient", severity="warning", cause="", counter_check="")


def trial(treatment: str, seed: int, metric: float, **rest: object) -> Trial:
    healthy = {"reach": {"rnn": 50.0}}
    sick = {"reach": {"rnn": 5.0}, "findings": (BLIND,)}
    given = {"held_out": True, **(sick if treatment == CONTROL else healthy), **rest}
    outcome = "finished" if math.isfinite(metric) else "nonfinite"
    return Trial(treatment=treatment, seed=seed, outcome=outcome, metric=metric, steps=100,
                 seconds=1.0, meta={"measured": "loss"}, **given)  # fmt: skip


def study(metrics: dict[str, list[float]], criterion: float | None = None, **rest: object):
    full = {
        label: [trial(label, seed, value, **rest) for seed, value in enumerate(values)]
        for label, values in metrics.items()
    }
    standings = standings_of(full, {}, "minimize", criterion)
    winner = winner_of(standings)
    comparison = Comparison(
        metric="loss", direction="minimize", criterion=criterion,
        trials=tuple(each for trials in full.values() for each in trials), standings=standings,
        winner=None if winner is None else winner.treatment, sentence="", meta={"budget": None},
    )  # fmt: skip
    return comparison, full[CONTROL][0]


def test_lower_on_every_seed_beyond_the_interval_is_a_cure_and_the_sentence_says_so():
    comparison, control = study({CONTROL: [0.17, 0.16, 0.17], "gating(GRU)": [0.01, 0.011, 0.012]})

    verdict = judged(comparison, control)

    assert (verdict.verdict, verdict.winner) == ("cured", "gating(GRU)")
    said = cure_sentence(verdict, control, comparison)
    assert said.startswith("gating(GRU) cures it: held-out loss 0.011 instead of 0.17")
    assert "better on 3 of 3 seeds" in said and "1 times as long" in said


def test_better_on_two_of_three_seeds_is_nothing():
    comparison, control = study({CONTROL: [0.17, 0.16, 0.17], "a": [0.01, 0.01, 0.18]})

    assert judged(comparison, control).verdict == "nothing"


def test_better_on_each_seed_but_not_beyond_the_interval_is_no_cure_yet():
    comparison, control = study({CONTROL: [1.0, 1.0, 1.0], "a": [0.9, 0.4, 0.05]})

    verdict = judged(comparison, control)

    assert verdict.verdict == "better"
    assert "more --seeds" in verdict.remarks[0]
    assert "not shown to be a cure" in cure_sentence(verdict, control, comparison)


def test_gain_on_data_that_was_trained_on_is_no_cure():
    metrics = {CONTROL: [0.69, 0.68, 0.69], "gating(GRU)": [0.1, 0.11, 0.12]}
    comparison, control = study(metrics, held_out=False)

    verdict = judged(comparison, control)

    assert verdict.verdict == "better"
    assert any("by heart" in remark for remark in verdict.remarks)


def test_gain_without_relief_of_what_was_found_is_no_cure():
    same = {"reach": {"rnn": 5.0}, "findings": (BLIND,)}
    comparison, control = study({CONTROL: [0.17, 0.16, 0.17], "a": [0.01, 0.011, 0.012]}, **same)

    assert judged(comparison, control).verdict == "better"


@pytest.mark.parametrize(
    ("control", "treated", "verdict"),
    [
        ([0.2, 0.2, 0.2], [0.04, 0.03, 0.001], "cured"),  # met on three, the interval is wide
        ([0.2, 0.2, 0.2], [0.04, 0.03, 0.06], "better"),
        ([0.04, 0.04, 0.04], [0.01, 0.01, 0.01], "healthy"),
        ([0.2, 0.2, 0.2], [0.19, 0.21, 0.2], "nothing"),
    ],
)
def test_a_target_must_be_met_on_every_seed_and_missed_by_the_control(control, treated, verdict):
    comparison, diagnosis = study({CONTROL: control, "a": treated}, criterion=0.05)

    assert judged(comparison, diagnosis).verdict == verdict


def test_a_control_that_never_finishes_is_cured_by_what_learns_not_by_what_merely_ends():
    curve = {"curve": np.array([2.0, 1.0]), "steps_of_curve": np.array([1.0, 100.0])}
    nan = [math.nan] * 3
    learned, control = study({CONTROL: nan, "a": [0.5, 0.4, 0.5]}, **curve)
    stands, _ = study({CONTROL: nan, "a": [2.1, 2.0, 2.2]}, **curve)

    assert judged(learned, control).verdict == "cured"
    assert judged(stands, control).verdict == "nothing"


@pytest.mark.parametrize("scatter", [0.01, 0.1, 0.5])
def test_treatments_that_do_nothing_are_hardly_ever_called_a_cure(scatter):
    # Eight no-ops of which a short run, as telling as the full one, has picked the best two: the
    # worst case for what follows. 200 studies; the interval alone promises 2.5 % at the most.
    random = np.random.default_rng(0)
    cures = 0
    for _ in range(200):
        values = 0.5 * np.exp(scatter * random.standard_normal((9, 3)))
        best = sorted(range(1, 9), key=lambda row: values[row].mean())[:2]
        labels = [CONTROL, *(f"t{row}" for row in best)]
        metrics = dict(zip(labels, values[[0, *best]].tolist(), strict=True))
        full = {
            label: [trial(label, seed, value) for seed, value in enumerate(row)]
            for label, row in metrics.items()
        }
        dropped = {f"t{row}": 50 for row in range(1, 9) if row not in best}
        standings = standings_of(full, dropped, "minimize", None)
        trials = tuple(each for row in full.values() for each in row)
        comparison = Comparison(
            metric="loss", direction="minimize", criterion=None, trials=trials,
            standings=standings, winner=None, sentence="", meta={"budget": None},
        )  # fmt: skip
        cures += judged(comparison, full[CONTROL][0]).verdict == "cured"

    # Two standard deviations above 2.5 % of 200: √(200 · 0.025 · 0.975) = 2.2.
    assert cures <= 5 + 5


def test_a_treatment_equal_to_the_control_to_the_bit_is_nothing():
    comparison, control = study({CONTROL: [0.2, 0.3, 0.4], "a": [0.2, 0.3, 0.4]})

    assert judged(comparison, control).verdict == "nothing"
    assert cure_sentence(judged(comparison, control), control, comparison).startswith(
        "Nothing helped: a was not shown"
    )


def test_runs_measured_in_different_ways_are_not_compared_for_a_cure():
    comparison, control = study({CONTROL: [0.17, 0.16, 0.17], "a": [0.01, 0.011, 0.012]})
    other = tuple(
        replace(each, meta={"measured": "another"}) if each.treatment == "a" else each
        for each in comparison.trials
    )

    assert judged(replace(comparison, trials=other), control).verdict == "better"
