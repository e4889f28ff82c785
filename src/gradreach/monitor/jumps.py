"""Notices that a cheap quantity has jumped."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

__all__ = ["Jumps"]

FACTOR = 10.0  # over the running median: ordinary noise of mini-batches stays within 3
WINDOW = 64  # values the median is of
ENOUGH = 8  # values before there is a median worth the name


class Jumps:
    """Keeps a running median of each quantity.

    Example:
        >>> jumps = Jumps()
        >>> [jumps.look("loss", value) for value in [1.0] * 9 + [11.0, 1.0, float("nan")]][-3:]
        ['loss is 11, 11 times its running median of 1', '', 'loss is nan']
    """

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}

    def look(self, name: str, value: float) -> str:
        """Take a value; say in words that it has jumped, or return an empty string."""
        seen = self._seen.setdefault(name, deque(maxlen=WINDOW))
        if not math.isfinite(value):
            return f"{name} is {value}"
        usual = median(map(abs, seen)) if len(seen) >= ENOUGH else 0.0
        seen.append(value)
        if usual > 0.0 and abs(value) > FACTOR * usual:
            return (
                f"{name} is {value:.3g}, {abs(value) / usual:.0f} times its running median of "
                f"{usual:.3g}"
            )
        return ""
