"""Are the steps too long for the loss to fall?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.course import Course, course, step_of
from gradreach.diagnosis.finite import median
from gradreach.diagnosis.probed_steps import (
    LEAST_PROBES,
    ProbedSteps,
    other_rate,
    probed_steps,
    unverified,
)
from gradreach.diagnosis.seen_in_samples import arose
from gradreach.diagnosis.wording import counted, percent, plain
from gradreach.records import Finding, History
from gradreach.records.finding import Severity

__all__ = ["LearningRateTooHigh"]


@dataclass(frozen=True, slots=True)
class LearningRateTooHigh:
    """Steps that overshoot on their own batch, in a training that has little to show for it.

    Either alone is no fault: plain gradient descent does its best work where every other step
    raises the loss a little, and a loss may stay high for other reasons.

    Args:
        left: Share of the loss at the start of which at least so much must be left.
        early: Share of the first probes that must have overshot (one of them, where it multiplied
            the loss of its batch by jump), or
        late: share of the late ones.
        moved: Or one of the first updates must have been so long relative to the weights, and
        rise: the next loss so many times as high as all before it.

    The source of each: docs/findings/learning-rate-too-high.md.
    """

    code: str = "learning-rate-too-high"
    left: float = 0.5
    early: float = 0.5
    jump: float = 2.0
    late: float = 0.5
    first: int = 5
    moved: float = 0.5
    rise: float = 5.0

    def __call__(self, history: History, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding at most."""
        ran = course(history)
        if not (ran.broken is not None or ran.enough) or not self._nothing_to_show(ran):
            return []
        probed, leap = probed_steps(history), self._leap(history, ran)
        if probed.count and (probed.count >= LEAST_PROBES or ran.broken is not None):
            if self._overshot(ran, probed):
                return [self._found(history, ran, probed)]
            return [self._leapt(history, ran, leap)] if leap else []
        return [self._unverified(history, ran, leap)] if leap else []

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain what the updates did to the network and to the loss, not what was there before.

        Unverified, it explains nothing.
        """
        if not cause.numbers["verified"]:
            return False
        if symptom.code == "nonfinite-value":
            return symptom.numbers.get("because") == "divergence" or arose(symptom)
        if symptom.code == "stagnated-training":
            return symptom.numbers.get("because") not in ("solved", "learning-rate-too-low")
        if symptom.code == "exploding-update":
            # Too long all along, or thrown out of its valley by the one that stood out?
            return bool(cause.numbers["early_overshot"] or cause.numbers["share"] >= 0.5)
        return arose(symptom) or symptom.code == "oscillating-loss"

    def _nothing_to_show(self, ran: Course) -> bool:
        if not ran.start > 0:  # a log likelihood, say: no share of it can be left
            return ran.diverged or ran.end >= ran.start
        return (ran.broken is not None and ran.diverged) or ran.left > self.left

    def _overshot(self, ran: Course, probed: ProbedSteps) -> bool:
        jumped = ran.diverged or probed.early_rise >= self.jump
        early = probed.early_over >= (1 if jumped else max(self.early * probed.early, 2))
        late = probed.late > 0 and probed.late_over >= self.late * probed.late
        return early or late

    def _leap(self, history: History, ran: Course) -> tuple[int, float, float] | None:
        """Return the first of the first updates that was a leap: step, length, rise of the loss.

        It is about as long as the weights, and the loss of the next batch many times that of all
        before. The first update of all can be seen in no other way: a model may be compiled in its
        first pass, which is therefore left alone.
        """
        weight = history["weight_norm"][ran.rows]
        moved = history["update_norm"][ran.rows] / np.where(weight > 0, weight, np.nan)
        for place in range(min(len(ran.loss) - 1, self.first)):
            highest = float(ran.loss[: place + 1].max())
            rise = float(ran.loss[place + 1]) / highest if highest > 0 else 0.0
            if rise >= self.rise and moved[place] >= self.moved:
                return step_of(history, int(ran.rows[place])), float(moved[place]), rise
        return None

    def _found(self, history: History, ran: Course, probed: ProbedSteps) -> Finding:
        least = "a hundredth or less" if probed.best < 0.1 else f"{probed.best:.2g} times it"
        return self._finding(
            "error" if ran.diverged else "warning",
            f"{counted(probed.over, 'update')} of {probed.count} looked at raised the loss "
            f"of their own batch, where {least} would have lowered it; {_outcome(ran)}",
            _numbers(history, ran) | {
                "verified": True, "probes": probed.count, "overshot": probed.over,
                "share": probed.over / probed.count, "early_overshot": probed.early_over,
                "late_overshot": probed.late_over, "best_scale": plain(probed.best)},
        )  # fmt: skip

    def _leapt(self, history: History, ran: Course, leap: tuple[int, float, float]) -> Finding:
        return self._finding(
            "error" if ran.diverged else "warning",
            f"{_leap_in_words(leap)}; {_outcome(ran)}",
            _leap_numbers(history, ran, leap)
            | {"verified": True, "early_overshot": 1, "share": None},
        )

    def _unverified(self, history: History, ran: Course, leap: tuple[int, float, float]) -> Finding:
        return self._finding(
            "note",
            f"{_leap_in_words(leap)}; {_outcome(ran)}; {unverified(history)}",
            _leap_numbers(history, ran, leap) | {"verified": False},
        )

    def _finding(self, severity: Severity, cause: str, numbers: dict[str, object]) -> Finding:
        return Finding(
            code=self.code,
            severity=severity,
            cause=cause,
            numbers=numbers,
            counter_check=other_rate("divide"),
            remedies=("learning_rate", "clipping"),
        )


def _leap_in_words(leap: tuple[int, float, float]) -> str:
    step, moved, rise = leap
    return (
        f"the update of step {step} was {moved:.2g} times as long as the weights, and "
        f"the loss of the next batch {rise:.2g} times as high"
    )


def _leap_numbers(
    history: History, ran: Course, leap: tuple[int, float, float]
) -> dict[str, object]:
    step, moved, rise = leap
    return _numbers(history, ran) | {"leap_at": step, "leap": moved, "rise": rise}


def _outcome(ran: Course) -> str:
    if ran.broken is not None:
        return f"the training broke at step {ran.broken}"
    if ran.left >= 1.1:
        return f"the loss is {ran.left:.2g} times what it was at the start"
    if not ran.start > 0:
        return "the loss is no lower than at the start"
    return f"{percent(ran.left)} of the loss is left"


def _numbers(history: History, ran: Course) -> dict[str, object]:
    return {
        "learning_rate": plain(median(history["learning_rate"])),
        "loss_start": plain(ran.start),
        "loss_end": plain(ran.end),
        "left": plain(ran.left),
        "broken": ran.broken,
    }
