"""Residual connections from each state to the next: what is kept needs no weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from gradreach.nn import EulerStep
from gradreach.records.finding import Finding
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.layer_treatment import LayerTreatment
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["Euler", "LearnedResidual", "Residual"]


@dataclass(frozen=True)
class Residual(LayerTreatment):
    """Make each state ``h_t = alpha·φ(…) + beta·h_{t-1}``.

    Args:
        alpha: Share of the new.
        beta: Share of the old; 1 keeps all of it.

    Example:
        >>> Residual().label, Residual(alpha=0.02, beta=0.98).label
        ('residual()', 'residual(alpha=0.02, beta=0.98)')
    """

    family: ClassVar[str] = "residual"
    source: ClassVar[str] = "Kusupati et al. (2018), arXiv:1901.02358, section 3.1"
    side_effects: ClassVar[str] = (
        "the state is a running sum: with beta = 1 its size grows with the length of the sequence"
    )

    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise TreatmentError(
                    f"Residual(): argument '{name}' must be a number above 0, got {value!r}; "
                    "alpha=0.1, beta=0.9 say"
                )

    @property
    def remedies(self) -> Mapping[str, Any]:
        """The argument ``residual``."""
        plain = (self.alpha, self.beta) == (1.0, 1.0)
        return {"residual": True if plain else (self.alpha, self.beta)}

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Treatment]:
        """Propose a running mean over the task's lag, then the learned one, then the sum."""
        every: list[Treatment] = []
        if facts.lag is not None and facts.lag >= 4:
            # beta^lag = 1/e: of what came in at the far end, a third is still there.
            alpha = float(f"{1 / facts.lag:.1g}")
            every.append(cls(alpha=alpha, beta=round(1 - alpha, 6)))
        every += [LearnedResidual(), cls()]
        return [each for each in every if each.applies_to(finding, facts)]

    @property
    def words(self) -> str:
        """What it does."""
        return f"Add the state before to each new state ({self.alpha:g} new, {self.beta:g} old)."


@dataclass(frozen=True)
class LearnedResidual(LayerTreatment):
    """Learn how much of the old state is kept: the FastRNN.

    Args:
        name: ``"learned"``.

    Example:
        >>> LearnedResidual().label
        'residual(learned)'
    """

    family: ClassVar[str] = "residual"
    source: ClassVar[str] = "Kusupati et al. (2018), arXiv:1901.02358, section 3.1"
    side_effects: ClassVar[str] = "two more learned numbers a layer; at first 5 % new, 95 % old"

    name: str = "learned"

    def __post_init__(self) -> None:
        if self.name != "learned":
            raise TreatmentError(
                f"LearnedResidual(): argument 'name' must be 'learned', got {self.name!r}"
            )

    @property
    def remedies(self) -> Mapping[str, Any]:
        """The argument ``residual``."""
        return {"residual": "learned"}

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose nothing: :meth:`Residual.candidates` proposes it in its place."""
        return []

    @property
    def words(self) -> str:
        """What it does."""
        return "Add the state before to each new state, in shares that are learned."


@dataclass(frozen=True)
class Euler(LayerTreatment):
    """Take each step as one Euler step of a differential equation that neither grows nor forgets.

    Args:
        epsilon: Step size. gamma: Diffusion, which makes the step stable.

    Example:
        >>> Euler(epsilon=0.1, gamma=0.01).label
        'residual(epsilon=0.1)'
    """

    family: ClassVar[str] = "residual"
    source: ClassVar[str] = "Chang et al. (2019), arXiv:1902.09689, equation 9"
    side_effects: ClassVar[str] = (
        "the recurrent matrix is antisymmetric, which halves what it can express"
    )

    epsilon: float
    gamma: float = 0.01

    def __post_init__(self) -> None:
        try:
            EulerStep(self.epsilon, gamma=self.gamma)
        except (TypeError, ValueError) as error:
            raise TreatmentError(f"Euler(): {error}") from error

    @property
    def remedies(self) -> Mapping[str, Any]:
        """The argument ``residual``."""
        return {"residual": EulerStep(self.epsilon, gamma=self.gamma)}

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose the published step size, last of the family."""
        every = [cls(epsilon=0.01, gamma=0.01)]
        return [each for each in every if each.applies_to(finding, facts)]

    @property
    def words(self) -> str:
        """What it does."""
        return "Take each step as an Euler step with an antisymmetric recurrent matrix."
