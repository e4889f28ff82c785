"""Are there steps enough to say anything over time?"""

from __future__ import annotations

from dataclasses import dataclass

from gradreach.diagnosis.course import LEAST_STEPS, course
from gradreach.diagnosis.wording import counted
from gradreach.records import Finding, History

__all__ = ["ShortHistory"]


@dataclass(frozen=True, slots=True)
class ShortHistory:
    """A training of which there is too little to tell its course: numbers, no verdict."""

    code: str = "blind-probe"

    def __call__(self, history: History, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one note, or nothing."""
        ran = course(history)
        if ran.enough or ran.broken is not None:
            return []
        steps = len(ran.loss)
        return [
            Finding(
                code=self.code,
                severity="note",
                cause=f"{counted(steps, 'step')} with a loss do not show whether the loss falls: "
                f"{LEAST_STEPS} are needed, as the last two quarters are compared by medians of "
                "10 values each",
                numbers={"steps": steps, "needed": LEAST_STEPS, "reason": "too few steps"},
                counter_check=f"train for {counted(LEAST_STEPS - steps, 'step')} more: this note "
                "must be gone",
            )
        ]

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain nothing."""
        return False
