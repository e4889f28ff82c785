"""Is the gradient clipped where and when clipping does something?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.finite import Rows, median
from gradreach.diagnosis.wording import counted, percent, plain
from gradreach.records import Finding, History
from gradreach.records.history import CLIP_ORDERS

__all__ = ["IneffectiveClipping"]

COUNTER_CHECKS = {
    "before backward": "print the norm of the gradient between backward() and step(): if it is "
    "within the threshold, the finding is wrong",
    "before unscale": "call scaler.unscale_(optimizer) before it and print the norm of the "
    "gradient at step(): if it is the same as now, the finding is wrong",
    "never reached": "leave the call out: if any loss changes, the finding is wrong",
    "always by a large factor": "double the threshold, and for Adam or RMSprop the learning rate "
    "instead: if the norm after clipping does not double, the finding is wrong",
}


@dataclass(frozen=True, slots=True)
class IneffectiveClipping:
    """Clipping that does nothing, or nothing but set the length of every step.

    Args:
        steps: The least number of steps with a clip call.
        part: Share of them that must agree: a few may come from a resumed run's first steps.
        factor: How far beyond the threshold "by a large factor" begins.

    The source of each: docs/findings/ineffective-clipping.md.
    """

    code: str = "ineffective-clipping"
    steps: int = 10
    part: float = 0.95
    factor: float = 100.0

    def __call__(self, history: History, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding at most."""
        rows = np.flatnonzero((history["clip_calls"] > 0) & (history["taken"] != 0))
        if len(rows) < self.steps:
            return []
        order = history["clip_order"][rows]
        for place in (2, 3):
            if np.mean(order == place) >= self.part:
                return [self._found(history, rows, CLIP_ORDERS[place], "error")]
        ratio = history["clip_seen"][rows] / history["clip_threshold"][rows]
        ratio = ratio[np.isfinite(ratio)]
        if len(ratio) < self.steps:
            return []
        if (ratio <= 1.0).all():
            return [self._found(history, rows, "never reached", "note")]
        if np.mean(ratio >= self.factor) >= self.part:
            return [self._found(history, rows, "always by a large factor", "warning")]
        return []

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain steps that are too small or too large because of it, and what follows."""
        if cause.severity == "note":
            return False
        if cause.numbers["because"] == "always by a large factor":
            low = symptom.numbers.get("because") == "learning-rate-too-low"
            return symptom.code == "learning-rate-too-low" or low
        # The gradient went to the optimizer unclipped.
        return symptom.code == "exploding-update"

    def _found(self, history: History, rows: Rows, because: str, severity: str) -> Finding:
        numbers = self._numbers(history, rows) | {"because": because}
        return Finding(
            code=self.code,
            severity="error" if severity == "error" else
            "warning" if severity == "warning" else "note",
            cause=_sentence(because, numbers),
            numbers=numbers,
            counter_check=COUNTER_CHECKS[because],
            remedies=("clipping",),
        )  # fmt: skip

    def _numbers(self, history: History, rows: Rows) -> dict[str, object]:
        threshold, seen = history["clip_threshold"][rows], history["clip_seen"][rows]
        ratio = seen / np.where(threshold > 0, threshold, np.nan)
        clipped = ratio[np.isfinite(ratio)] > 1
        return {
            "steps": len(rows),
            "threshold": plain(median(threshold)),
            "share_clipped": plain(float(clipped.mean())) if len(clipped) else None,
            "seen": plain(median(seen)),
            "largest_seen": plain(float(np.nanmax(seen))) if np.isfinite(seen).any() else None,
            "factor": plain(median(ratio)),
            "norm_before": plain(median(history["gradient_norm"][rows])),
            "norm_after": plain(median(history["clipped_norm"][rows])),
        }


def _sentence(because: str, numbers: dict[str, object]) -> str:
    steps, threshold = counted(int(str(numbers["steps"])), "step"), numbers["threshold"]
    before, after = _written(numbers["norm_before"]), _written(numbers["norm_after"])
    if because == "before backward":
        return (
            f"in {steps} the gradient was clipped before backward(), when there was none: the "
            f"optimizer got norm {after} where {_written(threshold)} was meant to be the most"
        )
    if because == "before unscale":
        return (
            f"in {steps} the gradient was clipped at {_written(threshold)} while it was still "
            f"multiplied by the scaler's factor: the optimizer got norm {after} of {before}"
        )
    if because == "never reached":
        return (
            f"clipping at {_written(threshold)} never did anything in {steps}: the largest norm "
            f"it saw is {_written(numbers['largest_seen'])}"
        )
    share = percent(float(str(numbers["share_clipped"])))
    return (
        f"{share} of {steps} were clipped at {_written(threshold)}, by a factor of "
        f"{_written(numbers['factor'])}: only the direction of the gradient is left, and the "
        f"threshold sets the length of every step (norm {before} before, {after} after)"
    )


def _written(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else "an unknown value"
