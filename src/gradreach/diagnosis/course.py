"""The course of a training: where its loss began, where it is now, and what it did lately."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradreach.diagnosis.finite import Rows, median
from gradreach.records import History
from gradreach.records.plain import Array

__all__ = ["FLAT", "LEAST_STEPS", "Course", "course", "jitter", "step_of"]

# A verdict compares the last two quarters of the steps; ten values are the least whose median
# an outlier or two do not move.
LEAST_STEPS = 40

FLAT = 0.02  # of the third quarter's level; docs/findings/stagnated-training.md
START = 5  # the first of these steps may be lucky, the later ones have learned something
SOLVED = 0.05  # of the loss at the start; docs/findings/stagnated-training.md
DIVERGED = 2.0  # times the loss at the start; docs/findings/learning-rate-too-high.md


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Course:
    """The loss of a training in a few numbers, each a median over a stretch of steps.

    Args:
        loss: The finite losses up to the first that is not, oldest first.
        rows: Their places among the history's rows.
        start: The level at the start: the median of the first losses; the first alone where it is
            lower, or more than twice that, for then the first updates have changed it already.
        before, end: The levels of the third and of the fourth quarter of the steps.
        broken: Step of the first loss or gradient that is not finite; ``None`` if there is none.
        jitter: Standard deviation of the loss from batch to batch, trend and outliers apart.
    """

    loss: Array
    rows: Rows
    start: float
    before: float
    end: float
    broken: int | None
    jitter: float

    @property
    def enough(self) -> bool:
        """Whether there are steps enough for a verdict."""
        return len(self.loss) >= LEAST_STEPS

    @property
    def left(self) -> float:
        """The level now relative to that at the start; NaN where it was not positive."""
        return self.end / self.start if self.start > 0 else math.nan

    @property
    def noise(self) -> float:
        """How uncertain ``start`` is, as each batch has another loss: one standard error."""
        return self.jitter / math.sqrt(START)

    @property
    def flat(self) -> bool:
        """Whether the loss has stopped falling from the third quarter to the fourth.

        It has where it fell by less than 2 % (of the start, once it is solved), or by less than
        three times what two medians of so many noisy values differ by (1.25·√2 standard errors).
        """
        chance = 1.25 * math.sqrt(2) * self.jitter / math.sqrt(max(len(self.loss) // 4, 1))
        least = max(FLAT * abs(self.start if self.solved else self.before), 3 * chance)
        return self.enough and not self.before - self.end >= least

    @property
    def solved(self) -> bool:
        """Whether next to nothing of the loss is left."""
        return self.left <= SOLVED

    @property
    def diverged(self) -> bool:
        """Whether the loss left for good: not finite, or well above where it began."""
        last = float(np.median(self.loss[-3:])) if len(self.loss) else math.inf
        if self.broken is not None:
            return not len(self.loss) or last >= DIVERGED * abs(self.start)
        return self.enough and self.left >= DIVERGED

    @property
    def late(self) -> slice:
        """The last half of the rows: what the training does now."""
        return slice(int(self.rows[len(self.rows) // 2]) if len(self.rows) else 0, None)


def course(history: History) -> Course:
    """Return the course of a training. Steps that were skipped or blocked do not count.

    Example:
        >>> history = History.of([{"loss": 1 / (1 + step)} for step in range(100)])
        >>> ran = course(history)
        >>> round(ran.start, 2), round(ran.end, 3), ran.flat, ran.solved
        (1.0, 0.011, True, True)
    """
    loss = history["loss"]
    taken = history["taken"] != 0  # NaN: not recorded, and then it was
    # A NaN loss beside a finite gradient is one that was not seen.
    nan = np.isnan(loss) & np.isnan(history["gradient_norm"]) & _seen_before(loss)
    bad = np.flatnonzero(taken & (np.isinf(loss) | (history["nonfinite"] > 0) | nan))
    until = int(bad[0]) if len(bad) else len(loss)
    rows = np.flatnonzero(taken[:until] & np.isfinite(loss[:until]))
    kept = loss[rows]
    quarter = max(len(kept) // 4, 1)
    return Course(
        loss=kept,
        rows=rows,
        start=_start(kept),
        before=median(kept[-2 * quarter : -quarter]),
        end=median(kept[-quarter:]),
        broken=step_of(history, until) if len(bad) else None,
        jitter=jitter(kept),
    )


def _start(loss: Array) -> float:
    first, level = median(loss[:1]), median(loss[:START])
    return first if level < 0.5 * first else min(level, first)


def jitter(loss: Array) -> float:
    """Return the standard deviation of a loss from batch to batch, trend and outliers apart."""
    # The median of |N(0, 2σ²)| is 0.6745·√2·σ.
    return median(np.abs(np.diff(loss))) / (0.6745 * math.sqrt(2))


def _seen_before(loss: Array) -> NDArray[np.bool_]:
    seen = np.isfinite(loss)
    before: NDArray[np.bool_] = np.logical_or.accumulate(seen)
    return before


def step_of(history: History, row: int) -> int:
    """Return the optimizer step of a row; its place where that was not recorded."""
    step = history["step"][row]
    return int(step) if math.isfinite(step) else row
