"""When to sample: the first passes, then one of every N, N grown until the cost fits."""

from __future__ import annotations

import math

__all__ = ["Cadence"]

FIRST = 3  # passes sampled at the start: where faults of structure show
EVERY = 50
SHARE = 0.05  # of the wall time; half of the 10 % promised leaves room for start and report


class Cadence:
    """Decides which passes are sampled.

    Args:
        every: Sample each ``every``-th pass whatever it costs; ``None`` starts from 50 and
            takes a larger step where sampling would cost more than 5 % of the time.

    Example:
        >>> cadence = Cadence(every=10)
        >>> [number for number in range(40) if cadence.due(number)]
        [0, 1, 2, 10, 20, 30]
    """

    def __init__(self, every: int | None = None, first: int = FIRST) -> None:
        if every is not None and every < 1:
            raise ValueError(f"Cadence(): argument 'every' must be at least 1; got {every}")
        self.fixed = every is not None
        self.every = every or EVERY
        self.first = first

    def due(self, number: int) -> bool:
        """Whether to sample the pass of this number, counted from 0."""
        return number < self.first or number % self.every == 0

    def learn(self, sample_seconds: float, idle_seconds: float) -> None:
        """Grow the step so that samples cost their share at most.

        Args:
            sample_seconds: What one sample adds to a pass.
            idle_seconds: Time from pass to pass when none is sampled.
        """
        if self.fixed or idle_seconds <= 0:
            return
        needed = math.ceil(sample_seconds / (SHARE * idle_seconds))
        while self.every < needed:
            self.every *= 2
