"""The slope of a curve's logarithm."""

from __future__ import annotations

import numpy as np

from gradreach.records.plain import Array

__all__ = ["slope"]


def slope(curve: Array) -> float:
    """Return the least-squares slope of a positive curve's logarithm, nats per step.

    0 where there are fewer than two values.

    Example:
        >>> float(np.exp(slope(1.15 ** np.arange(9))).round(12))
        1.15
    """
    if len(curve) < 2:
        return 0.0
    steps = np.arange(len(curve)) - (len(curve) - 1) / 2
    return float(steps @ np.log(curve) / (steps @ steps))
