"""Did single updates throw the network back?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.course import Course, course, step_of
from gradreach.diagnosis.seen_in_samples import arose
from gradreach.diagnosis.training_rules.oscillating_loss import OscillatingLoss
from gradreach.diagnosis.wording import counted, listed, plain
from gradreach.records import Finding, History
from gradreach.records.plain import Array

__all__ = ["ExplodingUpdate"]


@dataclass(frozen=True, slots=True)
class ExplodingUpdate:
    """A step many times as long as those before it, after which the loss is much higher.

    Length alone is none: a warm-up ends in longer steps, and one long step may be a good one.

    Args:
        before: Steps whose median is what is usual. after: those whose median tells the harm.
        growth: Least length relative to the usual.
        harm: Least rise of the loss, relative to the loss at the start.
        recovered: Largest part of the start by which the loss may still be higher, to be past.

    The source of each: docs/findings/exploding-update.md.
    """

    code: str = "exploding-update"
    before: int = 10
    after: int = 5
    growth: float = 10.0
    harm: float = 0.5
    recovered: float = 0.1

    def __call__(self, history: History, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding at most, with all such steps."""
        ran = course(history)
        if len(ran.rows) < self.before + self.after:
            return []
        if any(found.numbers["because"] == "batches" for found in OscillatingLoss()(history)):
            return []  # the loss rises where the data change, and so does the gradient
        update, loss = history["update_norm"][ran.rows], ran.loss
        growth = self._growth(update)
        places = [
            int(place)
            for place in np.flatnonzero(growth >= self.growth)
            if self._rise(loss, int(place), ran.broken) >= self.harm * abs(ran.start)
        ]
        places = [place for place in places if place - 1 not in places]
        return [self._found(history, ran, growth, places)] if places else []

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain what arose after it: units thrown to their ends, a loss that breaks."""
        if arose(symptom):
            return bool(symptom.numbers["training"]["first_step"] > cause.numbers["at_steps"][0])
        if symptom.code == "nonfinite-value":
            return symptom.numbers.get("because") == "divergence"
        undone = symptom.numbers.get("because") == "updates-undo-each-other"
        return symptom.code == "stagnated-training" and undone

    def _growth(self, update: Array) -> Array:
        """Return each update's length over the median of those before it; NaN at the start."""
        growth = np.full(len(update), np.nan)
        known = np.flatnonzero(np.isfinite(update))
        if len(known) > self.before:
            windows = np.lib.stride_tricks.sliding_window_view(update[known], self.before)
            usual = np.median(windows[:-1], axis=1)
            growth[known[self.before :]] = update[known[self.before :]] / np.where(
                usual > 0, usual, np.nan
            )
        return growth

    def _rise(self, loss: Array, place: int, broken: int | None) -> float:
        """Return by how much the loss rose over such a step; a break right after it is a rise."""
        behind = loss[place + 1 : place + 1 + self.after]
        if len(behind) < self.after and broken is not None:
            return float("inf")
        if not len(behind):
            return 0.0
        return float(np.median(behind) - np.median(loss[place - self.before : place]))

    def _found(self, history: History, ran: Course, growth: Array, places: list[int]) -> Finding:
        rows = ran.rows
        level = float(np.median(ran.loss[places[0] - self.before : places[0]]))
        recovered = ran.broken is None and ran.end - level < self.recovered * abs(ran.start)
        worst = max(places, key=lambda place: growth[place])
        steps = [step_of(history, int(rows[place])) for place in places]
        gradient = history["gradient_norm"][rows]
        earlier = gradient[worst - self.before : worst]
        usual = float(np.nanmedian(earlier)) if np.isfinite(earlier).any() else float("nan")
        grew = float(gradient[worst] / usual) if usual > 0 else float("nan")
        because = f"its gradient was {grew:.2g} times what was usual" if grew >= self.growth \
            else "its gradient was not"  # fmt: skip
        return Finding(
            code=self.code,
            severity="note" if recovered else "warning",
            cause=f"the update of {listed(steps)} was up to {growth[worst]:.2g} times as long as "
            f"the {self.before} before it ({because}), and the loss was much higher after it"
            + (", but has come back since" if recovered else ""),
            numbers={
                "at_steps": steps[:50],
                "count": len(steps),
                "growth": plain(float(growth[worst])),
                "gradient_growth": plain(grew),
                "loss_start": plain(ran.start),
                "loss_before": plain(level),
                "loss_end": plain(ran.end),
            },
            counter_check=f"leave out {counted(len(steps), 'step')} of these: if the loss rises "
            "there all the same, the updates are not what raised it",
            remedies=("clipping", "learning_rate"),
        )
