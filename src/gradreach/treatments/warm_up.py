"""Warm-up: the learning rate rises linearly over the first steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from gradreach.records.finding import Finding
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.optimizer_treatment import says_rate_too_low
from gradreach.treatments.schedule import Schedule
from gradreach.treatments.treatment import TreatmentError

__all__ = ["WarmUp"]

PART = 20  # of the run: the twentieth that is usual for large models
FEWEST = 10


@dataclass(frozen=True)
class WarmUp(Schedule):
    """Make step t of the first ``warm_up`` with (t + 1) / ``warm_up`` of the learning rate.

    Args:
        warm_up: Steps until the full rate.

    Example:
        >>> [WarmUp(4).factor_of(step) for step in range(6)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """

    role: ClassVar[str] = "warm-up"
    source: ClassVar[str] = "Goyal et al. (2017), section 2.2, arXiv:1706.02677"
    side_effects: ClassVar[str] = (
        "the first steps are shorter; a rate that is too high later on stays too high"
    )

    warm_up: int

    def __post_init__(self) -> None:
        if self.warm_up < 1:
            raise TreatmentError(
                f"WarmUp(): argument 'warm_up' must be 1 or more steps, got {self.warm_up!r}; a "
                "twentieth of the run is usual"
            )

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose a twentieth of the run, where the rate is not too low already."""
        each = cls(max(FEWEST, facts.steps // PART))
        fits = each.applies_to(finding, facts) and not says_rate_too_low(finding)
        return [each] if fits else []

    def factor_of(self, step: int) -> float:
        """Return the part of the rate that a step is made with."""
        return min(1.0, (step + 1) / self.warm_up)

    def formula(self) -> tuple[str, tuple[str, ...]]:
        """Return it as an expression."""
        return f"min(1.0, (step + 1) / {self.warm_up})", ()

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Let the learning rate rise over the first {self.warm_up} steps: "
            f"LambdaLR(optimizer, lambda step: {self.formula()[0]}), stepped after each step."
        )
