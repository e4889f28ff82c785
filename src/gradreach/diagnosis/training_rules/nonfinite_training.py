"""Did a NaN or an infinity arise while the network was trained?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.course import course
from gradreach.diagnosis.finite import Rows
from gradreach.diagnosis.wording import counted, percent, plain
from gradreach.records import Event, Finding, History
from gradreach.records.plain import Array

__all__ = ["NonfiniteTraining"]


@dataclass(frozen=True, slots=True)
class NonfiniteTraining:
    """A loss or a gradient that is not finite, at the first step that has one.

    A step that was not taken does no harm: a gradient scaler that looks for its factor skips
    some on purpose, and a guard blocks them. Then it is a note, unless there are too many.

    Args:
        growth: If the loss or the gradient grew this much before, it was the training that made
            the value; otherwise it came at once, out of the data or the loss function.
        moved: Or if the last update was this long relative to the weights.
        often: Share of steps not taken from which on it is more than a scaler's search.

    The source of each: docs/findings/nonfinite-value.md.
    """

    code: str = "nonfinite-value"
    growth: float = 10.0
    moved: float = 1.0
    often: float = 0.1

    def __call__(self, history: History, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding at most."""
        ran = course(history)
        skipped = np.flatnonzero((history["nonfinite"] > 0) & (history["taken"] == 0))
        if ran.broken is not None:
            return [self._broken(history, ran.broken)]
        return [self._skipped(history, skipped)] if len(skipped) else []

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain whatever is said about a training that it ended, and the places it was seen."""
        return cause.severity == "error" or symptom.code == self.code

    def _broken(self, history: History, step: int) -> Finding:
        grew = self._grew(history)
        why = f"after loss, gradient or weights had grown {grew:.2g} times" if grew is not None \
            else "at once: nothing had grown before"  # fmt: skip
        place = _place(history, step)
        return Finding(
            code=self.code,
            severity="error",
            cause=f"the training broke at step {step}, {why}{place}; clipping cannot remove it",
            steps=None,
            numbers={
                "step": step,
                "because": "sudden" if grew is None else "divergence",
                "grew": grew,
                "nonfinite_entries": _entries(history, step),
                "layers": [],
            },
            counter_check=f"run step {step} again from the weights before it on another batch: "
            "if that is finite, the batch is the source, else the weights are",
            remedies=() if grew is None else ("learning_rate", "clipping"),
        )

    def _grew(self, history: History) -> float | None:
        """By how much the loss or the gradient had grown over its median when it broke."""
        ran = course(history)
        sound = slice(0, int(ran.rows[-1]) + 1 if len(ran.rows) else 0)
        grown = [_last_over_first(ran.loss)]
        for column in ("gradient_norm", "update_norm", "weight_norm"):
            values = history[column][sound]
            grown.append(_last_over_first(values[np.isfinite(values)]))
        most = max(grown)
        moved = _last_moved(history, sound)
        if most >= self.growth or moved >= self.moved:
            return plain(max(most, moved))
        return None

    def _skipped(self, history: History, rows: Rows) -> Finding:
        share = len(rows) / max(len(history), 1)
        often = share >= self.often
        step = int(rows[0])
        return Finding(
            code=self.code,
            severity="warning" if often else "note",
            cause=f"{counted(len(rows), 'step')} of {len(history)} ({percent(share)}), the first "
            f"at step {step}, had a gradient that was not finite and "
            f"{'was' if len(rows) == 1 else 'were'} not taken{_place(history, step)}",
            numbers={"step": step, "because": "not taken", "not_taken": len(rows),
                     "share": share, "layers": []},
            counter_check=f"run the batch of step {step} in float32 without a scaler: if its "
            "gradient is finite, only the scaler's factor was too large",
        )  # fmt: skip


def _last_moved(history: History, sound: slice) -> float:
    """Return the length of the last update relative to the weights; 0 where there is none."""
    update, weight = history["update_norm"][sound], history["weight_norm"][sound]
    moved = (update / np.where(weight > 0, weight, np.nan))[-1:]
    return float(moved[0]) if len(moved) and np.isfinite(moved[0]) else 0.0


def _last_over_first(values: Array) -> float:
    """Return how much larger the last value is than the median of all."""
    if len(values) < 2:
        return 0.0
    usual = min(float(np.median(np.abs(values))), float(abs(values[0])))
    return float(np.abs(values[-2:]).max()) / usual if usual > 0 else 0.0


def _place(history: History, step: int) -> str:
    """Return where it was seen first, if somebody looked: an event, else a sample."""
    events: list[Event] = [event for event in history.events
                           if event.kind == "nonfinite" and event.step >= step]  # fmt: skip
    return f": {events[0].text}" if events else ""


def _entries(history: History, step: int) -> int | None:
    rows = np.flatnonzero(history["step"] == step)
    count = history["nonfinite"][rows[0]] if len(rows) else float("nan")
    return int(count) if np.isfinite(count) else None
