"""Has the loss stopped falling, and why?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.course import Course, course, step_of
from gradreach.diagnosis.finite import mean
from gradreach.diagnosis.in_training import CUT_OFF, in_training
from gradreach.diagnosis.probed_steps import LEAST_PROBES, probed_steps
from gradreach.diagnosis.seen_in_samples import arose, seen_in_samples
from gradreach.diagnosis.training_rules.learning_rate_too_high import LearningRateTooHigh
from gradreach.diagnosis.training_rules.learning_rate_too_low import LearningRateTooLow
from gradreach.diagnosis.wording import counted, percent, plain
from gradreach.records import Finding, History
from gradreach.records.finding import Severity

__all__ = ["StagnatedTraining"]


@dataclass(frozen=True, slots=True)
class StagnatedTraining:
    """A loss that stands still, said with the one reason out of five that the record shows.

    Args:
        contrary: Mean cosine of consecutive gradients from which on batches contradict each
            other, where learned: each step takes at least this part off the loss of its own batch.
        noise: Mean cosine of consecutive gradients below which batches agree on no direction.

    The source of each: docs/findings/stagnated-training.md.
    """

    code: str = "stagnated-training"
    contrary: float = -0.5
    learned: float = 0.1
    noise: float = 0.3

    def __call__(self, history: History, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding at most."""
        ran = course(history)
        if not ran.flat or ran.broken is not None:
            return []
        because, why, causes = self._reason(history, ran, needs_lag)
        quiet = because in ("solved", "noise-floor", "unexplained")
        return [self._found(history, ran, because, why, causes, "note" if quiet else "warning")]

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain nothing: this is the symptom that the others explain."""
        return False

    def _reason(
        self, history: History, ran: Course, needs_lag: int | None
    ) -> tuple[str, str, list[str]]:
        seen = seen_in_samples(history)
        # A loss that an explosion of the first states had blown up falls to nothing of that.
        blown = any(found.code == "exploding-gradient" and not arose(found) for found in seen)
        if ran.solved and not blown:
            return "solved", f"the task is solved: {percent(max(ran.left, 0.0))} of it is left", []
        counted_in = [in_training(finding, ran, needs_lag) for finding in seen]
        codes = {found.code: found for found in counted_in if found.severity != "note"}
        probed = probed_steps(history)
        if "dead-units" in codes:
            return "dead-units", f"units are dead: {codes['dead-units'].cause}", ["dead-units"]
        if "exploding-gradient" in codes:
            return "updates-undo-each-other", (
                "exploding gradients make updates that undo each other: "
                f"{codes['exploding-gradient'].cause}"
            ), ["exploding-gradient"]  # fmt: skip
        if LearningRateTooLow()(history) and probed.count >= LEAST_PROBES:
            return "learning-rate-too-low", (
                f"the steps are too short: {probed.late_best:.3g} times as long would be best"
            ), ["learning-rate-too-low"]  # fmt: skip
        if any(found.numbers["verified"] for found in LearningRateTooHigh()(history)):
            return "updates-undo-each-other", (
                "over-large updates undo each other: the weights moved "
                f"{_way_over_distance(history, ran):.2g} times as far as they got"
            ), []  # fmt: skip
        cut = [code for code in CUT_OFF if code in codes]
        if cut:
            return "nothing-reaches-the-past", (
                f"nothing reaches the past: {codes[cut[0]].cause}"
            ), cut  # fmt: skip
        agree = mean(history["gradient_cosine"][ran.late])
        if agree <= self.contrary and probed.late_best >= 1.0 and probed.fall >= self.learned:
            return "batches-contradict", (
                f"each step takes {percent(probed.fall)} off the loss of its own batch, and the "
                f"next one undoes it: their gradients are opposed (mean cosine {agree:.2g}), as of "
                "batches that are sorted"
            ), []  # fmt: skip
        if abs(agree) < self.noise:
            return "noise-floor", (
                "it is at its noise floor, or on a plateau: the gradients of consecutive batches "
                f"agree on no direction (mean cosine {agree:.2g})"
            ), []  # fmt: skip
        return "unexplained", "none of the causes looked for was found", []

    def _found(
        self, history: History, ran: Course, because: str, why: str, causes: list[str],
        severity: Severity,
    ) -> Finding:  # fmt: skip
        steps = len(ran.loss)
        since = step_of(history, int(ran.rows[steps // 2]))
        return Finding(
            code=self.code,
            severity=severity,
            cause=f"since step {since} the loss has stood still, {_left(ran)}; {why}",
            numbers={
                "because": because,
                "causes": causes,
                "since_step": since,
                "steps": steps,
                "loss_start": plain(ran.start),
                "loss_before": plain(ran.before),
                "loss_end": plain(ran.end),
                "left": plain(ran.left),
                "update_cosine": plain(mean(history["update_cosine"][ran.late])),
                "gradient_cosine": plain(mean(history["gradient_cosine"][ran.late])),
                "way_over_distance": plain(_way_over_distance(history, ran)),
            },
            counter_check=_counter_check(because, steps),
            remedies=() if severity == "note" else _remedies(because),
        )


def _left(ran: Course) -> str:
    if not ran.left >= 0:
        return f"at {ran.end:.3g}"
    return f"with {percent(ran.left)} of the start left"


def _counter_check(because: str, steps: int) -> str:
    more = counted(steps, "step")
    return {
        "solved": "evaluate the metric that counts: if it is poor, this loss does not measure it",
        "noise-floor": f"multiply the batch size by 8 and run {more} more: if the loss falls, it "
        "was not at its floor",
        "dead-units": "measure several other batches: if the units are on in them, they are alive",
        "nothing-reaches-the-past": "train on sequences no longer than the reach: if the loss "
        "stands still as high, the past is not what it lacks",
        "updates-undo-each-other": f"divide the learning rate by 10 and run {more} more: if the "
        "loss stands still, the updates do not undo each other",
        "learning-rate-too-low": f"multiply the learning rate by 10 and run {more} more: if the "
        "loss stands still, the steps are not too short",
        "batches-contradict": "draw the batches in random order: if the loss stands still as high, "
        "their order is not what holds it",
        "unexplained": f"run {more} more: if the loss falls, it had not stopped",
    }[because]


def _remedies(because: str) -> tuple[str, ...]:
    return {
        "nothing-reaches-the-past": ("gating", "initialization", "skip", "residual"),
        "dead-units": ("activation", "initialization", "learning_rate"),
        "updates-undo-each-other": ("learning_rate", "clipping"),
        "learning-rate-too-low": ("learning_rate",),
    }.get(because, ())


def _way_over_distance(history: History, ran: Course) -> float:
    """Return the way the weights went over how far they got; NaN where it was not recorded."""
    updates, distance = history["update_norm"][ran.rows], history["distance"][ran.rows]
    if not len(distance) or not distance[-1] > 0:
        return float("nan")
    return float(np.nansum(updates) / distance[-1])
