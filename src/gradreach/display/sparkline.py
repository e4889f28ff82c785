"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["sparkline"]

BARS = "▁▂▃▄▅▆▇█"
GAP = "·"  # a non-finite value: drawn, never skipped and never shown as zero


def sparkline(
    values: Sequence[float] | NDArray[np.float64], width: int = 40, log: bool = False
) -> str:
    """Draw a curve as a row of block characters, oldest value on the left.

    A long curve is cut into ``width`` stretches of equal length and each stretch shows
    its largest value, so that a lone peak is never lost. Non-finite values are drawn as
    ``·``. With ``log=True`` heights are logarithms: a straight slope then is a geometric
    decay. Exact zeros get the lowest bar.

    Args:
        values: The curve; negative values count by their magnitude when ``log``.
        width: Most characters to use.
        log: Draw logarithms instead of the values.

    Raises:
        ValueError: ``width`` is below 1.

    Example:
        >>> sparkline([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
        '▁▂▃▄▅▆▇█'
        >>> sparkline([1.0, float("nan"), 100.0], log=True)
        '▁·█'
        >>> sparkline([1.0, 0.0, 0.0], log=True)
        '█▁▁'
    """
    if width < 1:
        raise ValueError(f"sparkline(): argument 'width' must be at least 1; got {width}")
    heights = [_height(stretch, log) for stretch in _stretches(values, width)]
    finite = [height for height in heights if math.isfinite(height)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    # A level curve has full bars, unless it is level at nothing: log10(1) = 0 is not nothing.
    level = BARS[-1] if log or high else BARS[0]
    return "".join(_bar(height, low, high, level) for height in heights)


def _stretches(
    values: Sequence[float] | NDArray[np.float64], width: int
) -> list[NDArray[np.float64]]:
    array = np.asarray(values, dtype=np.float64).ravel()
    return [part for part in np.array_split(array, min(width, max(len(array), 1))) if len(part)]


def _height(stretch: NDArray[np.float64], log: bool) -> float:
    """Return the largest value; NaN where one is not finite, -inf for the log of zero."""
    if not np.isfinite(stretch).all():
        return math.nan
    if not log:
        return float(stretch.max())
    top = float(np.abs(stretch).max())
    return math.log10(top) if top > 0 else -math.inf


def _bar(height: float, low: float, high: float, level: str) -> str:
    if math.isnan(height):
        return GAP
    if height == -math.inf:
        return BARS[0]
    if high == low:
        return level
    return BARS[round((height - low) / (high - low) * (len(BARS) - 1))]
