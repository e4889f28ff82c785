"""Cosine annealing: the learning rate falls to the end of the run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from gradreach.records.finding import Finding
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.optimizer_treatment import says_rate_too_low
from gradreach.treatments.schedule import Schedule
from gradreach.treatments.treatment import TreatmentError

__all__ = ["Cosine"]

LEAST = 0.01  # of the rate: a run that goes on longer than foreseen must not stand still


@dataclass(frozen=True)
class Cosine(Schedule):
    """Let the learning rate fall along half a cosine, from all of it to a hundredth.

    Args:
        cosine: Steps until it is down; the run's length.

    Example:
        >>> [round(Cosine(4).factor_of(step), 3) for step in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.01, 0.01]
    """

    role: ClassVar[str] = "course"
    source: ClassVar[str] = "Loshchilov & Hutter (2017), equation 5, arXiv:1608.03983"
    side_effects: ClassVar[str] = (
        "the schedule is made for one length of run; half the steps have less than half the rate"
    )

    cosine: int

    def __post_init__(self) -> None:
        if self.cosine < 1:
            raise TreatmentError(
                f"Cosine(): argument 'cosine' must be 1 or more steps, got {self.cosine!r}; give "
                "the steps of the whole run"
            )

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose the length of the run, where the rate is not too low already."""
        if facts.steps < 1 or says_rate_too_low(finding):
            return []
        each = cls(facts.steps)
        return [each] if each.applies_to(finding, facts) else []

    def factor_of(self, step: int) -> float:
        """Return the part of the rate that a step is made with."""
        angle = math.pi * min(step / self.cosine, 1.0)
        return max(LEAST, 0.5 * (1.0 + math.cos(angle)))

    def formula(self) -> tuple[str, tuple[str, ...]]:
        """Return it as an expression."""
        angle = f"math.pi * min(step / {self.cosine}, 1.0)"
        return f"max({LEAST}, 0.5 * (1.0 + math.cos({angle})))", ("math",)

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Let the learning rate fall along a cosine over the {self.cosine} steps of the run: "
            f"LambdaLR(optimizer, lambda step: {self.formula()[0]}), stepped after each step."
        )
