"""Decides which optimizer steps get a row, so that rows stay within their share of the time."""

from __future__ import annotations

__all__ = ["RowPace"]

CHECK = 8  # rows between two looks at what they cost
FEW = 4  # one row of so many
WARM_UP = 3  # steps at the start whose cost tells nothing: layers are met, memory is fetched
MOST = 64  # however short the steps are, a row of so many stays: a record without rows says nothing


class RowPace:
    """Records every step, or two neighbours of so many: directions compare a step with the last.

    Args:
        share: Of the user's own time that rows may take; ``None`` for whatever they take.
        dense: Steps at the start that all get a row.

    Attributes:
        stride: One of so many steps gets a row, on average.

    Example:
        >>> pace = RowPace(share=0.06)
        >>> for row in range(1, 12):
        ...     pace.stepped(True, spent=0.001 * row, elapsed=0.011 * row)
        >>> pace.stride, [step for step in range(10) if pace.due(step)]
        (2, [0, 1, 4, 5, 8, 9])
    """

    def __init__(self, share: float | None, dense: int = 0) -> None:
        self.share, self.dense, self.stride = share, dense, 1
        self._also = -1
        self._warm = 0
        self._spent = self._elapsed = 0.0
        self._own, self._steps = 0.0, 0  # the user's seconds, and in how many steps
        self._idle: float | None = None  # seconds of ours in a step without a row
        self._seconds = {True: 0.0, False: 0.0}  # ours, in steps with a row and without
        self._count = {True: 0, False: 0}

    def due(self, step: int) -> bool:
        """Whether to record a step, counted from 0."""
        due = step < self.dense or self.stride == 1 or step % (2 * self.stride) < 2
        return due or step == self._also

    def also(self, step: int) -> None:
        """Record this step in any case: something else looks at it, too."""
        self._also = step

    def stepped(self, recorded: bool, spent: float, elapsed: float) -> None:
        """Learn what a step has cost.

        Args:
            recorded: It got a row.
            spent: Seconds that all steps so far have taken of ours. elapsed: since the start.
        """
        seconds, wall = spent - self._spent, elapsed - self._elapsed
        self._spent, self._elapsed = spent, elapsed
        self._warm += 1
        if self._warm <= WARM_UP:
            return
        self._own, self._steps = self._own + wall - seconds, self._steps + 1
        self._seconds[recorded] += seconds
        self._count[recorded] += 1
        if self.share is not None and self._count[True] >= CHECK:
            self._choose(self.share)

    def _choose(self, share: float) -> None:
        """Choose the stride at which what a row takes fits; what every step takes is not its."""
        each = self._seconds[True] / self._count[True]
        if self._count[False] > 1:
            self._idle = self._seconds[False] / self._count[False]
        if self._idle is not None and self._idle >= each:
            self._idle = None  # a hitch of the machine, or of long ago: look again
        cost = each - (self._idle or 0.0)
        wanted = cost / max(share * self._own / self._steps, 1e-9)
        self.stride = 1
        # Until there was a step without a row, its cost is not known: a few show it.
        most = FEW if self._idle is None else MOST
        while self.stride < min(wanted, most):
            self.stride *= 2
        self._own, self._steps = 0.0, 0
        self._seconds, self._count = {True: 0.0, False: 0.0}, {True: 0, False: 0}
