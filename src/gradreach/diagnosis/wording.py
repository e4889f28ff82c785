"""Numbers as they are written in findings."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["counted", "listed", "percent", "plain", "times"]


def percent(share: float) -> str:
    """Write a share; small ones keep two digits.

    Example:
        >>> percent(0.625), percent(0.00249), percent(1.0), percent(0.01)
        ('62 %', '0.25 %', '100 %', '1 %')
    """
    hundredths = 100 * share
    return f"{hundredths:.0f} %" if hundredths >= 10 else f"{hundredths:.2g} %"


def times(factor: float) -> str:
    """Write a factor per step, close to 1 with the digits that count.

    Example:
        >>> times(0.7071), times(1.15), times(0.99871), times(0.004)
        ('0.71×', '1.15×', '0.9987×', '0.004×')
    """
    return f"{factor:.4f}×" if 0.98 < factor < 1.02 else f"{_two_digits(factor)}×"


def _two_digits(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= value < 10 else f"{value:.2g}"


def counted(count: int, noun: str) -> str:
    """Write a number of things.

    Example:
        >>> counted(1, "step"), counted(7, "step")
        ('1 step', '7 steps')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(steps: Sequence[int], most: int = 6) -> str:
    """Write a list of steps, a long one by its ends.

    Example:
        >>> listed([10]), listed([10, 20]), listed(range(10, 100, 10))
        ('step 10', 'steps 10, 20', 'steps 10, 20, 30, …, 90')
    """
    if len(steps) == 1:
        return f"step {steps[0]}"
    if len(steps) <= most:
        return "steps " + ", ".join(map(str, steps))
    return "steps " + ", ".join(map(str, steps[:3])) + f", …, {steps[-1]}"


def plain(value: float) -> float | None:
    """Return a number that JSON can hold; ``None`` for NaN and infinities.

    Example:
        >>> plain(0.5), plain(float("nan"))
        (0.5, None)
    """
    return float(value) if math.isfinite(value) else None
