"""Does the loss swing up and down instead of falling?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.course import Course, course, jitter
from gradreach.diagnosis.finite import mean
from gradreach.diagnosis.probed_steps import LEAST_PROBES, probed_steps
from gradreach.diagnosis.wording import percent, plain
from gradreach.records import Finding, History
from gradreach.records.plain import Array

__all__ = ["OscillatingLoss"]


@dataclass(frozen=True, slots=True)
class OscillatingLoss:
    """Swings of the loss that are no noise of the batches, and that do not die out.

    The loss of random batches jumps, too, but without memory: one value says nothing about the
    next. A swing has one: from step to step it turns (autocorrelation near −1), or it is slow and
    goes on over many steps (near 1).

    Args:
        steps: The least number of late steps.
        swing: Least size of a swing, the 90th less the 10th percentile, relative to the start.
        left: Share of the loss at the start that must be left: what ends low has swung enough.
        turns: Autocorrelation of neighbours at most so, for swings from step to step, or
        lasts: at least so, for slow ones; then also the least number of
        times: ups and downs of that size.
        up: Share of the late steps that may raise the loss of their own batch where it is the
            batches that differ.
        carried: Mean cosine of consecutive updates from which on momentum carries them.

    The source of each: docs/findings/oscillating-loss.md.
    """

    code: str = "oscillating-loss"
    steps: int = 20
    swing: float = 0.2
    left: float = 0.2
    turns: float = -0.5
    lasts: float = 0.4
    times: int = 3
    up: float = 0.25
    carried: float = 0.7

    def __call__(self, history: History, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding at most."""
        ran = course(history)
        if not ran.enough or ran.broken is not None or not ran.left >= self.left:
            return []
        late = ran.loss[len(ran.loss) // 2 :]
        memory = _autocorrelation(late)
        swing = float(np.subtract(*np.percentile(late, [90, 10]))) / abs(ran.start)
        if len(late) < self.steps or not swing >= self.swing:
            return []
        if memory <= self.turns:
            return [self._found(history, ran, memory, swing, 1)]
        period = self._period(late, max(self.swing * abs(ran.start), 4 * jitter(late)))
        if memory >= self.lasts and period:
            return [self._found(history, ran, memory, swing, period)]
        return []

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain that the loss does not get lower."""
        undone = ("updates-undo-each-other", "batches-contradict", "unexplained")
        return symptom.code == "stagnated-training" and symptom.numbers["because"] in undone

    def _period(self, loss: Array, size: float) -> int:
        """Return the steps of a slow swing, down and up again; 0 where there are too few.

        Smaller ones than ``size`` do not count: four times the jitter is no chance.
        """
        turning, low, high, rising = [], loss[0], loss[0], None
        for place, value in enumerate(loss):
            low, high = min(low, value), max(high, value)
            if rising is not True and value - low >= size:
                rising, high = True, value
                turning.append(place)
            elif rising is not False and high - value >= size:
                rising, low = False, value
                turning.append(place)
        if len(turning) < 2 * self.times:
            return 0
        return round(2 * (turning[-1] - turning[0]) / (len(turning) - 1))

    def _reason(self, history: History, turned: float, period: int) -> str:
        probed = probed_steps(history)
        if probed.late >= LEAST_PROBES and probed.late_up <= self.up * probed.late:
            return "batches"
        return "momentum" if period > 1 and turned >= self.carried else "step-size"

    def _found(
        self, history: History, ran: Course, memory: float, swing: float, period: int
    ) -> Finding:
        turned = mean(history["update_cosine"][ran.late])
        because = self._reason(history, turned, period)
        how = "from step to step" if period == 1 else f"over some {period} steps"
        why = {
            "batches": "though each step lowers the loss of its own batch: what the batches ask "
            "for changes, as where data are sorted",
            "momentum": "as momentum carries the weights past where the loss is low",
            "step-size": "as the updates carry the weights past where the loss is low",
        }[because]
        return Finding(
            code=self.code,
            severity="warning",
            cause=f"the loss swings by {percent(swing)} of what it was at the start, {how}, {why}",
            numbers={
                "because": because,
                "swing": plain(swing),
                "autocorrelation": plain(memory),
                "period": 2 if period == 1 else period,
                "update_cosine": plain(turned),
                "left": plain(ran.left),
            },
            counter_check={
                "momentum": "set the momentum to 0.9 or less: if the swings stay, it does not "
                "make them",
                "batches": "draw the batches in random order: if the loss swings on, their order "
                "is not what makes it",
                "step-size": "divide the learning rate by 10: if the swings stay as large, the "
                "steps do not make them",
            }[because],
            remedies=() if because == "batches" else ("learning_rate",),
        )


def _autocorrelation(values: Array) -> float:
    """Return the correlation of neighbours, a bent trend taken out; 0 where nothing varies."""
    if len(values) < 3:
        return 0.0
    steps = np.arange(len(values))
    rest = values - np.polyval(np.polyfit(steps, values, 2), steps)
    power = float(rest @ rest)
    return float(rest[1:] @ rest[:-1]) / power if power > 0 else 0.0
