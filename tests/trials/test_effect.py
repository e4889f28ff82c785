"""Paired effects: against tables, against brute force, and under the null hypothesis."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gradreach.trials.effect import effect_of, scale_of, sign_chance
from gradreach.trials.student import t_probability, t_quantile

# Published tables of Student's t, two-sided, to four decimals.
TABLE = {
    (0.95, 1): 12.7062, (0.95, 2): 4.3027, (0.95, 3): 3.1824, (0.95, 4): 2.7764,
    (0.95, 9): 2.2622, (0.95, 30): 2.0423, (0.99, 2): 9.9248, (0.99, 5): 4.0321,
    (0.99, 7): 3.4995, (0.90, 4): 2.1318, (0.999, 2): 31.5991,
}  # fmt: skip
NAN = math.nan


@pytest.mark.parametrize(("wanted", "value"), TABLE.items())
def test_quantile_is_that_of_the_table(wanted, value):
    assert t_quantile(*wanted) == pytest.approx(value, abs=5e-5)  # the table's last digit


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 20])
def test_probability_is_the_integral_of_the_density(freedom):
    at = np.linspace(0, 1.7, 20_001)
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    density = scale * (1 + at**2 / freedom) ** (-(freedom + 1) / 2)

    integral = 2 * float(np.trapezoid(density, at))

    assert t_probability(1.7, freedom) == pytest.approx(integral, abs=1e-8)  # of the trapezoids


@pytest.mark.parametrize("pairs", [1, 3, 5])
def test_chance_is_that_of_all_signs_counted(pairs):
    signs = list(itertools.product([0, 1], repeat=pairs))

    for wins in range(pairs + 1):
        counted = sum(sum(each) >= wins for each in signs) / len(signs)
        assert sign_chance(wins, pairs) == counted


def test_ratio_is_the_interval_worked_out_by_hand():
    # Logarithms of the ratios are -1, -2, -3: mean -2, deviation 1, half width 4.302653 / √3.
    control = [1.0, 1.0, 1.0]
    treated = [math.exp(-1), math.exp(-2), math.exp(-3)]

    effect = effect_of(control, treated, "minimize", scale="ratio")

    half = 4.302653 / math.sqrt(3)
    assert effect.estimate == pytest.approx(math.exp(-2))
    assert effect.low == pytest.approx(math.exp(-2 - half), rel=1e-6)
    assert effect.high == pytest.approx(math.exp(-2 + half), rel=1e-6)
    assert not effect.better  # 1.6 is within the interval


def test_difference_of_a_metric_to_be_large_points_up():
    effect = effect_of([0.5, 0.52, 0.48], [0.97, 0.99, 0.98], "maximize", scale="difference")

    assert effect.estimate == pytest.approx(0.48)
    assert effect.low < effect.estimate < effect.high
    assert effect.better
    assert effect.wins == 3


def test_reliable_change_below_the_margin_is_not_better():
    # Paired seeds tell a hundredth from nothing; nobody needs a cure that buys so little.
    control = [0.693, 0.701, 0.689]
    treated = [0.99 * value for value in control]

    effect = effect_of(control, treated, "minimize", scale="ratio")

    assert effect.high < 1
    assert not effect.better


def test_interval_is_wider_for_each_treatment_more():
    control, treated = [1.0, 1.1, 0.9], [0.1, 0.2, 0.1]

    widths = [
        math.log(effect.high / effect.low)
        for many in (1, 2, 6)
        for effect in [effect_of(control, treated, "minimize", scale="ratio", treatments=many)]
    ]

    by_quantiles = [t_quantile(1 - 0.05 / many, 2) / t_quantile(0.95, 2) for many in (1, 2, 6)]
    assert [width / widths[0] for width in widths] == pytest.approx(by_quantiles)


def test_failed_treatment_counts_as_the_worst_value_seen():
    counted = effect_of([0.9, 1.0, 0.8], [0.1, NAN, 0.1], "minimize", scale="ratio")

    written_out = effect_of([0.9, 1.0, 0.8], [0.1, 1.0, 0.1], "minimize", scale="ratio")
    assert (counted.low, counted.high) == (written_out.low, written_out.high)
    assert (counted.wins, counted.failed) == (2, 1)
    assert not counted.better


def test_control_that_never_finishes_is_beaten_by_a_treatment_that_always_does():
    always = effect_of([NAN] * 3, [0.1, 0.2, 0.1], "minimize", scale="ratio")
    mostly = effect_of([NAN] * 3, [0.1, NAN, 0.1], "minimize", scale="ratio")

    assert always.better
    assert not mostly.better
    assert math.isnan(always.estimate)


def test_treatment_that_never_finishes_is_not_better_than_a_control_that_does_not_either():
    effect = effect_of([NAN] * 3, [NAN] * 3, "minimize", scale="ratio")

    assert (effect.wins, effect.better, effect.chance) == (0, False, 1.0)


def test_single_seed_is_no_evidence():
    assert not effect_of([1.0], [1e-6], "minimize", scale="ratio").better


def test_no_effect_at_all_is_not_better():
    effect = effect_of([0.5, 0.6], [0.5, 0.6], "minimize", scale="ratio")

    assert (effect.estimate, effect.low, effect.high, effect.wins) == (1.0, 1.0, 1.0, 0)
    assert not effect.better


@pytest.mark.parametrize(("seeds", "treatments"), [(3, 1), (3, 5), (5, 5)])
# 5 % for better or worse, so half of it for better. Where no control finishes, the signs alone
# decide, which costs up to as much again at three seeds.
@pytest.mark.parametrize(("failing", "share"), [(0.0, 0.025), (0.3, 0.05)])
def test_useless_treatments_are_called_better_no_more_often_than_said(
    seeds, treatments, failing, share
):
    rng = np.random.default_rng(7)
    studies, wrong = 2000, 0
    for _ in range(studies):
        metrics = np.exp(0.3 * rng.normal(size=(treatments + 1, seeds)))
        metrics[rng.random(metrics.shape) < failing] = NAN
        control, *treated = metrics.tolist()
        wrong += any(
            effect_of(
                control, each, "minimize", scale="ratio", treatments=treatments, margin=0.0
            ).better
            for each in treated
        )

    assert wrong / studies <= share + 3 * math.sqrt(share * (1 - share) / studies)


def test_cure_is_seen_with_three_seeds_among_six_treatments():
    rng = np.random.default_rng(7)
    seen = 0
    for _ in range(500):
        control = 0.17 * np.exp(0.05 * rng.normal(size=3))
        treated = 0.005 * np.exp(0.5 * rng.normal(size=3))
        seen += effect_of(
            control.tolist(), treated.tolist(), "minimize", scale="ratio", treatments=6
        ).better

    assert seen / 500 > 0.6


def test_losses_are_compared_by_their_ratio_and_scores_by_their_difference():
    assert scale_of([0.1, NAN, 3.0], "minimize") == "ratio"
    assert scale_of([0.1, -0.1], "minimize") == "difference"
    assert scale_of([0.1, 0.2], "maximize") == "difference"
    assert scale_of([NAN], "minimize") == "difference"
