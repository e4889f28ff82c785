"""Regularisation of the recurrent Jacobian: errors are to keep their norm on the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import nn
from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.interception import Interception
from gradreach.treatments.lines_before_step import at_constructors, at_top, written
from gradreach.treatments.omega import OmegaRNN, regularize
from gradreach.treatments.places import note_places
from gradreach.treatments.sites import Site
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["Omega"]


@dataclass(frozen=True)
class Omega(Treatment):
    """Add the gradient of Pascanu's Ω to that of the recurrent weights of every ``nn.RNN``.

    Args:
        omega: α of the paper: 4 in its text, 2 in its code, 0.5 for its addition task.

    Example:
        >>> Omega(2.0).apply(nn.Sequential(nn.RNN(2, 3)))
        Sequential( (0): OmegaRNN(2, 3) )
    """

    family: ClassVar[str] = "regularization"
    source: ClassVar[str] = "Pascanu, Mikolov & Bengio (2013), equations 9 and 10, arXiv:1211.5063"
    side_effects: ClassVar[str] = (
        "another pull on the recurrent weights, also where the task is solved; the reverse "
        "recurrence is computed a second time, in Python"
    )

    omega: float

    def __post_init__(self) -> None:
        if not (self.omega > 0 and math.isfinite(self.omega)):
            raise TreatmentError(
                f"Omega(): argument 'omega' must be a finite number above 0, got {self.omega!r}; "
                "the paper has 0.5 to 4"
            )

    def applies_to(self, finding: Finding, facts: RunFacts) -> bool:
        """Whether the gradient vanishes, and in a plain recurrence."""
        vanishes = finding.code == "vanishing-gradient" or (
            finding.numbers.get("because") == "nothing-reaches-the-past"
        )
        return vanishes and self.refuses(facts) is None

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse where there is no plain recurrent layer of torch's own class."""
        if any(not layer.cell for layer in facts.treatable("rnn")):
            return None
        return "there is no nn.RNN whose recurrent weights could be regularised"

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose what the authors' code and their addition task have."""
        return [each for w in (2.0, 0.5) if (each := cls(w)).applies_to(finding, facts)]

    def act(self, layer: nn.Module) -> None:
        """Regularise a plain layer; leave any other."""
        if type(layer) in (nn.RNN, OmegaRNN):
            assert isinstance(layer, nn.RNN)
            regularize(layer, self.omega)

    def install(self, run: Interception) -> None:
        """Regularise every nn.RNN that the run builds."""
        note_places(run)
        run.on_built_layer(self.act)

    def apply(self, model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
        """Regularise every nn.RNN within the model."""
        for layer in list(model.modules()):
            self.act(layer)
        return model

    def edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Have the layers built treated."""
        return written(
            lambda: at_constructors(self.label, sites, "layer"), lambda: at_top(self.label, sites)
        )

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            "Add Pascanu's Ω, which asks each step to pass errors on undiminished: "
            f'gradreach.treatments.treated(nn.RNN, "{self.label}")(…).'
        )

    def conflicts(self, other: Treatment) -> str | None:
        """Conflict with what makes the layer another one than nn.RNN."""
        if other.family in ("gating", "skip", "residual", "truncation"):
            return f"Ω is that of a plain recurrence, which {other.label} changes"
        if other.family == "activation" and other.label != "activation(relu)":
            return "Ω is worked out for tanh and ReLU only"
        return super().conflicts(other)
