"""Would the same steps, ten or a hundred times as long, do more?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.course import FLAT, Course, course
from gradreach.diagnosis.finite import mean, median
from gradreach.diagnosis.probed_steps import (
    LEAST_PROBES,
    ProbedSteps,
    other_rate,
    probed_steps,
    unverified,
)
from gradreach.diagnosis.training_rules.oscillating_loss import OscillatingLoss
from gradreach.diagnosis.wording import counted, percent, plain
from gradreach.records import Finding, History

__all__ = ["LearningRateTooLow"]


@dataclass(frozen=True, slots=True)
class LearningRateTooLow:
    """Steps of which ten times the length or more would be best, and little progress.

    Early in training a step of ten times the length lowers the loss of its own batch further in
    health, too; so both the late probes and what all steps together have achieved decide.

    Args:
        left: Share of the loss at the start of which at least so much must be left.
        late: Share of the late probes of which ten times the length or more must be best.
        gain: A single step of that length takes at least this part of what all steps took.
        agree: Mean cosine of consecutive gradients from which on they share a direction, or
        tiny: the median update relative to the weights is below this.
        moved: Without probes: it is below this, and the gradients share a direction.

    The source of each: docs/findings/learning-rate-too-low.md.
    """

    code: str = "learning-rate-too-low"
    left: float = 0.6
    late: float = 0.75
    gain: float = 0.08
    agree: float = 0.3
    tiny: float = 1e-5
    moved: float = 1e-4

    def __call__(self, history: History, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding at most."""
        ran = course(history)
        if not ran.enough or ran.broken is not None or not self.left <= ran.left:
            return []
        if ran.end > ran.start + 3 * ran.noise + FLAT * ran.start:
            return []  # short steps do not raise the loss
        probed = probed_steps(history)
        if probed.count >= LEAST_PROBES:
            return [self._found(history, ran, probed)] if self._falls(history, ran, probed) else []
        moved = _moved(history)
        if moved <= self.moved and mean(history["gradient_cosine"][ran.late]) >= self.agree:
            return [self._unverified(history, ran, moved)]
        return []

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain that the loss stands still for want of length."""
        low = symptom.numbers.get("because") == self.code
        return bool(cause.numbers["verified"]) and symptom.code == "stagnated-training" and low

    def _falls(self, history: History, ran: Course, probed: ProbedSteps) -> bool:
        if not probed.late or probed.short < self.late * probed.late:
            return False
        # Where only noise is left, a longer step fits the batch it came from, and no other.
        agree = mean(history["gradient_cosine"][ran.late]) >= self.agree
        if not (agree or _moved(history) <= self.tiny) or OscillatingLoss()(history):
            return False
        # What lies within the noise of the start is no progress.
        progress = (ran.start - ran.end - 2 * ran.noise) / ran.start
        return bool(probed.gain >= self.gain * max(progress, 0.0))

    def _found(self, history: History, ran: Course, probed: ProbedSteps) -> Finding:
        return Finding(
            code=self.code,
            severity="warning",
            cause=f"{probed.short} of {counted(probed.late, 'update')} looked at would have "
            f"lowered the loss of their own batch most at {probed.late_best:.3g} times their "
            f"length, by {percent(max(probed.gain, 0.0))}; {_all_steps(ran)}",
            numbers=_numbers(history, ran) | {
                "verified": True, "probes": probed.count, "late_probes": probed.late,
                "fell_short": probed.short, "best_scale": plain(probed.late_best),
                "gain": plain(probed.gain)},
            counter_check=other_rate("multiply"),
            remedies=_remedies(history),
        )  # fmt: skip

    def _unverified(self, history: History, ran: Course, moved: float) -> Finding:
        return Finding(
            code=self.code,
            severity="note",
            cause=f"an update moves the weights by {moved:.1g} of their size, always the same "
            f"way; {_all_steps(ran)}; {unverified(history)}",
            numbers=_numbers(history, ran) | {"verified": False},
            counter_check=other_rate("multiply"),
            remedies=_remedies(history),
        )


def _remedies(history: History) -> tuple[str, ...]:
    """Name clipping first where it is what makes the steps short: at most to a third, mostly."""
    ratio = history["clip_seen"] / history["clip_threshold"]
    shortened = np.isfinite(ratio) & (ratio >= 3.0) & (history["clip_order"] == 1)
    if len(ratio) and np.mean(shortened) >= 0.5:
        return ("clipping", "learning_rate")
    return ("learning_rate",)


def _all_steps(ran: Course) -> str:
    fell = 1.0 - ran.left
    steps = counted(len(ran.loss), "step")
    if fell <= 0:
        return f"all {steps} together have not lowered the loss at all"
    return f"all {steps} together took {percent(fell)} off the loss"


def _numbers(history: History, ran: Course) -> dict[str, object]:
    return {
        "learning_rate": plain(median(history["learning_rate"])),
        "loss_start": plain(ran.start),
        "loss_end": plain(ran.end),
        "left": plain(ran.left),
        "update_to_weight": plain(_moved(history)),
        "gradient_cosine": plain(mean(history["gradient_cosine"][ran.late])),
    }


def _moved(history: History) -> float:
    """Return the median length of an update relative to the weights; NaN if not recorded."""
    weights = np.where(history["weight_norm"] > 0, history["weight_norm"], np.nan)
    return median(history["update_norm"] / weights)
