"""Who gets the full budget: within its cost, and not by the loss alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradreach.records import Finding, Trial
from gradreach.trials.halving import kept_at, rungs_of


def trial(label: str, metric: float, reach: float = 5.0, codes: tuple[str, ...] = ()) -> Trial:
    finished = math.isfinite(metric)
    return Trial(
        treatment=label,
        seed=0,
        outcome="finished" if finished else "nonfinite",
        metric=metric,
        steps=100,
        reach={"rnn": reach},
        findings=tuple(
            Finding(code=code, severity="warning", cause="c", counter_check="d") for code in codes
        ),
    )


CONTROL = Trial(
    treatment="control", seed=0, outcome="finished", metric=0.16, steps=1000,
    steps_of_curve=np.array([50.0, 100.0, 1000.0]), curve=np.array([0.2, 0.17, 0.16]),
)  # fmt: skip


def kept(trials: list[Trial], many: int) -> set[str]:
    by_label = {each.treatment: [each] for each in trials}
    return set(kept_at(by_label, [CONTROL], "minimize", many))


@pytest.mark.parametrize("treatments", [1, 2, 3, 4, 5, 8, 13, 30])
@pytest.mark.parametrize("seeds", [1, 3, 5])
@pytest.mark.parametrize("finalists", [1, 2, 3])
@pytest.mark.parametrize("steps", [7, 1000])
def test_rungs_keep_within_the_cost(treatments, seeds, finalists, steps):
    rungs = rungs_of(treatments, seeds, steps, finalists)

    left, cost = treatments, (finalists + 1) * seeds * steps
    short = 0
    for rung in rungs:
        short += left * rung.seeds * rung.budget
        assert 1 <= rung.seeds <= seeds
        assert 1 <= rung.budget <= max(1, steps // 2)
        assert rung.kept <= left
        left = rung.kept
    assert left <= max(finalists, min(treatments, finalists))
    # A trial cannot have less than one step: below that there is nothing to divide.
    assert short <= max(0.5 * cost, sum(1 for _ in rungs) * treatments)


def test_few_treatments_all_get_the_full_budget():
    assert rungs_of(2, seeds=3, steps=1000, finalists=2) == []


def test_remedy_that_reaches_back_is_kept_while_its_loss_still_sits_on_the_plateau():
    trials = [
        trial("lucky", 0.168, reach=5, codes=("vanishing-gradient",)),
        trial("luckier", 0.166, reach=5, codes=("vanishing-gradient",)),
        trial("reaching", 0.171, reach=150),
        trial("moved", 0.05, reach=20, codes=("vanishing-gradient",)),
    ]

    assert kept(trials, 2) == {"moved", "reaching"}


def test_on_the_plateau_the_gradient_decides():
    trials = [trial("a", 0.165, reach=5), trial("b", 0.170, reach=40), trial("c", 0.172, reach=60)]

    assert kept(trials, 1) == {"c"}


def test_failed_treatments_go_first():
    trials = [trial("bad", math.nan, reach=200), trial("worse", math.nan), trial("slow", 0.2, 1)]

    assert "slow" in kept(trials, 1)


def test_without_a_gradient_the_metric_decides_alone():
    trials = [
        Trial(treatment=name, seed=0, outcome="finished", metric=metric, steps=100)
        for name, metric in (("a", 0.3), ("b", 0.1), ("c", 0.2))
    ]

    assert kept(trials, 2) == {"b", "c"}


def test_equals_are_kept_in_their_order():
    trials = [trial(name, 0.1) for name in "abcd"]

    assert kept(trials, 2) == {"a", "b"}
