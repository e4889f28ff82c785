"""Decides which passes to sample: the first ones, then one of so many, within a budget."""

from __future__ import annotations

__all__ = ["Cadence"]

FIRST = 3  # passes sampled at the start: where faults of structure show
EVERY = 50
SHARE = 0.05  # of the wall time; half of the 10 % promised leaves room for start and report
# What the first samples may take together before there is any time to compare with: a fortieth
# of a run of two minutes, for which the 10 % are promised.
START_SECONDS = 3.0


class Cadence:
    """Tells when a sample is due.

    Args:
        every: Sample each ``every``-th pass, whatever it costs; ``None`` samples each 50th at
            most, and only while watching has taken no more than its share of the time.
        first: Number of passes sampled at the start.
        share: Of the wall time. start_seconds: what may be taken before there is any to
            compare with.

    Example:
        >>> cadence = Cadence(every=10)
        >>> [number for number in range(40) if cadence.due(number)]
        [0, 1, 2, 10, 20, 30]
        >>> cadence = Cadence()
        >>> cadence.took(2, seconds=0.5)
        >>> cadence.due(50, spent=1.5, elapsed=30.0), cadence.due(51, spent=1.5, elapsed=40.0)
        (False, True)
    """

    def __init__(
        self,
        every: int | None = None,
        first: int = FIRST,
        *,
        share: float = SHARE,
        start_seconds: float = START_SECONDS,
    ) -> None:
        if every is not None and every < 1:
            raise ValueError(f"Cadence(): argument 'every' must be at least 1; got {every}")
        self.fixed = every is not None
        self.every = every or EVERY
        self.first = first
        self.share, self.start_seconds = share, start_seconds
        self.beside = 0.0  # seconds that something else takes with every sample
        self._next = 0
        self._cost = 0.0  # of the last sample: what the next one will cost, as far as known

    def due(self, number: int, spent: float = 0.0, elapsed: float = 0.0) -> bool:
        """Whether to sample a pass.

        Args:
            number: Its number, from 0.
            spent: Seconds that watching has taken so far.
            elapsed: Seconds since it began.
        """
        if self.fixed:
            return number < self.first or number % self.every == 0
        if number < self.first:
            return self.affords(spent, elapsed)
        return number >= self._next and spent + self._cost + self.beside <= self.share * elapsed

    def affords(self, spent: float, elapsed: float) -> bool:
        """Whether there is time for one more sample out of turn."""
        return self.fixed or spent + self._cost <= max(self.start_seconds, self.share * elapsed)

    def affords_more(self, seconds: float, spent: float, elapsed: float) -> bool:
        """Whether there is time for something else that takes so long."""
        return self.fixed or spent + seconds <= max(self.start_seconds, self.share * elapsed)

    def took(self, number: int, seconds: float) -> None:
        """Learn what sampling a pass has cost."""
        self._cost = seconds
        self._next = (number // self.every + 1) * self.every

    def __str__(self) -> str:
        if self.fixed:
            return f"the first {self.first}, then one of {self.every}"
        return (
            f"the first {self.first}, then one of {self.every} at most, as {self.share:.1%} of the "
            "time allow"
        )
