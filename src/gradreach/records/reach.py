"""Reach and decay of a lag profile."""

from __future__ import annotations

import math

import numpy as np

from gradreach.records.plain import Array

__all__ = ["decay_per_step", "reach"]

LEVEL = 0.01  # of the gradient at lag 0: what is left is below the noise of a mini-batch


def reach(profile: Array, level: float = LEVEL) -> int | None:
    """Return the smallest lag from which ``profile`` stays below ``level``.

    Its length if it never does; ``None`` for an empty profile. A NaN counts as not below.

    Raises:
        ValueError: ``level`` is not positive.

    Example:
        >>> reach(np.array([1.0, 0.5, 0.005, 0.02, 0.001]))
        4
        >>> reach(np.array([1.0, 0.9]))
        2
    """
    if not level > 0:
        raise ValueError(f"reach(): argument 'level' must be positive; got {level}")
    if not len(profile):
        return None
    alive = np.flatnonzero(~(profile < level))
    return int(alive[-1]) + 1 if len(alive) else 0


def decay_per_step(profile: Array) -> float:
    """Return exp(slope) of the log profile over lags 1 … reach, by least squares.

    Below 1 the gradient shrinks by that factor per step, above 1 it grows. NaN where fewer
    than two lags are measured.

    Example:
        >>> round(decay_per_step(0.5 ** np.arange(50)), 12)
        0.5
    """
    last = reach(profile)
    if last is None:
        return math.nan
    usable = np.isfinite(profile) & (profile > 0)
    lags = np.flatnonzero(usable[: last + 1])
    # Lag 0 is left out, as the first step back is often unlike the others, unless a reach of
    # one or two leaves nothing else.
    lags = lags[1:] if len(lags) > 2 else lags
    if len(lags) < 2:
        return math.nan
    x, y = lags.astype(np.float64), np.log(profile[lags])
    x -= x.mean()
    return float(np.exp((x @ (y - y.mean())) / (x @ x)))
