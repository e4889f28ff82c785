"""What a treatment changed: paired over seeds, with an interval, failures included."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradreach.records.comparison import Direction
from gradreach.records.effect import Effect, Scale
from gradreach.records.plain import Array
from gradreach.trials.student import t_quantile

__all__ = ["CONFIDENCE", "MARGIN", "effect_of", "scale_of", "sign_chance"]

CONFIDENCE = 0.95
MARGIN = 0.05
"""Share of the control's metric below which a change is not worth being called one: with paired
seeds even a thousandth is told from nothing."""


def effect_of(
    control: Sequence[float],
    treated: Sequence[float],
    direction: Direction,
    *,
    scale: Scale,
    treatments: int = 1,
    confidence: float = CONFIDENCE,
    margin: float = MARGIN,
) -> Effect:
    """Return the effect of a treatment, from the metrics of both on the same seeds.

    The interval is that of Student's t with n − 1 degrees of freedom for the mean of the paired
    differences (of the logarithms, on the scale of ratios). Its confidence holds for all
    treatments that were tried at once: by Bonferroni's inequality each has its share of the
    error. It takes the differences to be roughly normal; ``chance`` takes nothing for granted.

    A trial that did not finish counts as the worst value that either side has on any seed. Where
    no control finished there is no value to compare with: the treatment is better if it finished
    on every seed.

    Args:
        control: Metrics of the control, NaN where it did not finish. treated: With treatment.
        direction: Of the metric.
        scale: Of the effect, see :func:`scale_of`.
        treatments: How many were tried against this control, dropped ones included.
        confidence: That no interval misses its effect.
        margin: Share of the control's metric by which it has to be better.

    Example:
        >>> control, treated = [0.17, 0.16, 0.17], [0.02, 0.01, 0.03]
        >>> effect = effect_of(control, treated, "minimize", scale="ratio")
        >>> print(effect, effect.better, effect.wins, effect.chance)
        ×0.109 [0.0297, 0.4] True 3 0.125
    """
    before, after = (np.array(side, dtype=np.float64) for side in (control, treated))
    good = -1.0 if direction == "minimize" else 1.0
    worst = _worst(np.concatenate([before, after]), good)
    lost, won = np.isnan(after), np.isnan(before)
    full_before, full_after = (np.where(np.isnan(side), worst, side) for side in (before, after))
    gains = good * _differences(full_before, full_after, scale)
    wins = int(np.sum(~lost & (won | (gains > 0))))
    told: dict[str, Any] = {
        "scale": scale, "confidence": confidence, "treatments": treatments, "wins": wins,
        "pairs": len(before), "failed": int(lost.sum()), "control_failed": int(won.sum()),
        "chance": sign_chance(wins, len(before)),
    }  # fmt: skip
    if won.all() or lost.all():  # there is nothing to measure the difference with
        better = bool(won.all()) and wins == len(before) >= 2
        return Effect(estimate=math.nan, low=math.nan, high=math.nan, better=better, **told)
    middle, half = _mean_and_half(gains, 1 - (1 - confidence) / treatments)
    better = middle - half > _least_gain(before, scale, margin)
    ends = sorted(good * each for each in (middle - half, middle + half))
    low, estimate, high = (_unscaled(each, scale) for each in (ends[0], good * middle, ends[1]))
    return Effect(estimate=estimate, low=low, high=high, better=better, **told)


def scale_of(metrics: Sequence[float], direction: Direction) -> Scale:
    """Return the scale on which a metric's changes compare: one for the whole comparison.

    Losses are compared by their ratio, as they fall by factors; a metric that is to be large, or
    that has been 0 or less, by its difference.

    Example:
        >>> scale_of([0.2, 0.01], "minimize"), scale_of([0.9], "maximize")
        ('ratio', 'difference')
    """
    finite = [value for value in metrics if math.isfinite(value)]
    positive = bool(finite) and min(finite) > 0
    return "ratio" if direction == "minimize" and positive else "difference"


def sign_chance(wins: int, pairs: int) -> float:
    """Return the probability of at least so many heads in so many tosses of a coin.

    Example:
        >>> sign_chance(3, 3), sign_chance(0, 3)
        (0.125, 1.0)
    """
    return sum(math.comb(pairs, k) for k in range(wins, pairs + 1)) / (1 << pairs)


def _worst(values: Array, good: float) -> float:
    finite = values[~np.isnan(values)]
    if not len(finite):
        return math.nan
    return good * float((good * finite).min())


def _differences(before: Array, after: Array, scale: Scale) -> Array:
    gains: Array = np.log(after) - np.log(before) if scale == "ratio" else after - before
    return gains


def _mean_and_half(gains: Array, confidence: float) -> tuple[float, float]:
    """Return the mean and half of the width of its interval."""
    n = len(gains)
    mean = float(gains.mean())
    if n < 2:
        return mean, math.inf
    return mean, t_quantile(confidence, n - 1) * float(gains.std(ddof=1)) / math.sqrt(n)


def _least_gain(before: Array, scale: Scale, margin: float) -> float:
    """Return the margin on the scale of the gains."""
    if scale == "ratio":
        return -math.log1p(-margin)  # minimize is the only direction of ratios
    return float(margin * abs(np.nanmedian(before)))


def _unscaled(value: float, scale: Scale) -> float:
    if scale == "difference":
        return value
    return math.exp(value) if value < 700 else math.inf
