"""Decides which optimizer steps get a row, so that rows stay within their share of the time."""

from __future__ import annotations

__all__ = ["RowPace"]

CHECK = 8  # rows between two looks at what they cost


class RowPace:
    """Records every step, or two neighbours of so many: directions compare a step with the last.

    Args:
        share: Of the user's own time that rows may take; ``None`` for whatever they take.
        dense: Steps at the start that all get a row.

    Attributes:
        stride: One of so many steps gets a row, on average.

    Example:
        >>> pace = RowPace(share=0.01)
        >>> for row in range(8):
        ...     pace.took(spent=0.001 * row, elapsed=0.01 * row)
        >>> pace.stride, [step for step in range(10) if pace.due(step)]
        (2, [0, 1, 4, 5, 8, 9])
    """

    def __init__(self, share: float | None, dense: int = 0) -> None:
        self.share, self.dense, self.stride = share, dense, 1
        self._also = -1
        self._rows, self._spent, self._since = 0, 0.0, 0.0

    def due(self, step: int) -> bool:
        """Whether to record a step, counted from 0."""
        due = step < self.dense or self.stride == 1 or step % (2 * self.stride) < 2
        return due or step == self._also

    def also(self, step: int) -> None:
        """Record this step in any case: something else looks at it, too."""
        self._also = step

    def took(self, spent: float, elapsed: float) -> None:
        """Learn, after a row, what all rows have cost so far and the time since the watch began."""
        self._rows += 1
        if self.share is None or self._rows < CHECK:
            return
        seconds = spent - self._spent
        share = seconds / max(elapsed - self._since - seconds, 1e-9)
        if share > self.share:
            self.stride *= 2
        elif share < self.share / 4 and self.stride > 1:
            self.stride //= 2
        self._rows, self._spent, self._since = 0, spent, elapsed
