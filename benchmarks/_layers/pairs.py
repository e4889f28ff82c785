"""Steps with and without diagnostics, in pairs, until the median of their ratio is sure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gradreach.kernels.native.statistics import watched

BATCH = 20  # pairs between two looks at the interval


def timed(step: Callable[[], Any]) -> float:
    """Return the seconds of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def listening(step: Callable[[], Any]) -> None:
    """Run a step that tells its statistics."""
    with watched() as seen:
        step()
    if not seen:
        raise RuntimeError("no statistics came: the step does not run on the native core")


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """Return the median and its 95 % interval, by order statistics: no distribution assumed."""
    ordered, count = sorted(values), len(values)
    rank = max(int(count / 2 - 0.98 * count**0.5), 0)  # 1.96 standard deviations of a binomial
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return middle, ordered[rank], ordered[count - 1 - rank]


def compare(step: Callable[[], Any], seconds: float, half_width: float) -> dict[str, Any]:
    """Return the median of time with / time without, and its interval.

    Ends when the half-width is below ``half_width``, or after ``seconds``.
    """

    def listened() -> None:
        listening(step)

    step()
    listened()
    ratios: list[float] = []
    start = time.perf_counter()
    while True:
        for number in range(BATCH):
            # Either goes first as often as the other.
            if number % 2:
                plain = timed(step)
                told = timed(listened)
            else:
                told = timed(listened)
                plain = timed(step)
            ratios.append(told / plain)
        median, low, high = median_interval(ratios)
        sure = (high - low) / 2 < half_width
        if sure or time.perf_counter() - start > seconds:
            return {"ratio": median, "low": low, "high": high, "pairs": len(ratios), "sure": sure}
