"""Student's t distribution with a whole number of degrees of freedom, in closed form."""

from __future__ import annotations

import math

__all__ = ["t_probability", "t_quantile"]


def t_probability(t: float, freedom: int) -> float:
    """Return the probability of a value in ``-t … t``.

    Reference:
        Abramowitz & Stegun (1964), 26.7.3 (odd) and 26.7.4 (even): finite sums, exact.

    Example:
        >>> round(t_probability(4.302653, 2), 6)
        0.95
    """
    angle = math.atan2(t, math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(freedom // 2):
        total += term
        # 1, 1/2, 1·3/(2·4), … for even; 1, 2/3, 2·4/(3·5), … for odd degrees of freedom.
        term *= square * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def t_quantile(probability: float, freedom: int) -> float:
    """Return the ``t`` with that probability of a value in ``-t … t``.

    Args:
        probability: Two-sided, below 1.
        freedom: Degrees of freedom, at least 1.

    Example:
        >>> round(t_quantile(0.95, 2), 4), round(t_quantile(0.95, 4), 4)
        (4.3027, 2.7764)
    """
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < probability:
        low, high = high, 2 * high
    for _ in range(200):  # bisection ends at neighbouring floats long before
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (
            (middle, high) if t_probability(middle, freedom) < probability else (low, middle)
        )
    return high
