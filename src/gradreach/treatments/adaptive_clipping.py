"""Clipping whose bound follows the training: unit by unit (AGC), or by percentile (AutoClip)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.clipping import ClippingFamily
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.imports_of import Imports
from gradreach.treatments.percentile_clip import clip_grad_percentile_
from gradreach.treatments.treatment import TreatmentError
from gradreach.treatments.unit_wise_clip import clip_grad_units_

__all__ = ["PercentileClipping", "UnitClipping"]


@dataclass(frozen=True)
class UnitClipping(ClippingFamily):
    """Bound each output unit's gradient relative to the unit's own weights (AGC).

    The output layer is left alone, as in the paper; see `clip_grad_units_`.

    Args:
        ratio: The largest ratio of a unit's gradient to its weights, both as norms.

    Example:
        >>> UnitClipping(0.01).label
        'clipping(ratio=0.01)'
    """

    source: ClassVar[str] = "Brock, De, Smith & Simonyan (2021), equation 3, arXiv:2102.06171"
    side_effects: ClassVar[str] = (
        "the gradient's direction changes; the paper tried it on convolutions, not on recurrent "
        "matrices"
    )

    ratio: float

    def __post_init__(self) -> None:
        if not (0 < self.ratio < float("inf")):
            raise TreatmentError(
                f"UnitClipping(): argument 'ratio' must be a finite number above 0, got "
                f"{self.ratio!r}; the paper tries 0.01 to 0.16"
            )

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose the two ends of the paper's range."""
        return [each for r in (0.01, 0.16) if (each := cls(r)).applies_to(finding, facts)]

    def clip(self, optimizer: Optimizer) -> object:
        """Clip unit by unit."""
        clip_grad_units_(optimizer, self.ratio)
        return None

    def line(self, optimizer: str, names: Imports, file: str) -> tuple[str, list[Edit]]:
        """Call our function: torch has none."""
        return _our_line("clip_grad_units_", self.ratio, optimizer, names, file)

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Bound each unit's gradient to {self.ratio:g} of its weights right before each step: "
            f"gradreach.treatments.clip_grad_units_(optimizer, {self.ratio:g})."
        )


@dataclass(frozen=True)
class PercentileClipping(ClippingFamily):
    """Clip the gradient to a percentile of the norms seen so far (AutoClip).

    Args:
        percentile: 0 to 100; see `clip_grad_percentile_`.

    Example:
        >>> PercentileClipping(10.0).label
        'clipping(percentile=10.0)'
    """

    source: ClassVar[str] = (
        "Seetharaman, Wichern, Pardo & Le Roux (2020), algorithm 1, arXiv:2007.14469"
    )
    side_effects: ClassVar[str] = (
        "nearly every gradient is clipped; the threshold forgets nothing, and starts anew where a "
        "training is resumed"
    )

    percentile: float

    def __post_init__(self) -> None:
        if not (0 <= self.percentile <= 100):
            raise TreatmentError(
                f"PercentileClipping(): argument 'percentile' must lie from 0 to 100, got "
                f"{self.percentile!r}; the paper's best is 10"
            )

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose the paper's best."""
        each = cls(10.0)
        return [each] if each.applies_to(finding, facts) else []

    def clip(self, optimizer: Optimizer) -> object:
        """Clip to the percentile."""
        return clip_grad_percentile_(optimizer, self.percentile)

    def line(self, optimizer: str, names: Imports, file: str) -> tuple[str, list[Edit]]:
        """Call our function: torch has none."""
        return _our_line("clip_grad_percentile_", self.percentile, optimizer, names, file)

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Clip the gradient to the {self.percentile:g}th percentile of its norms so far, right "
            "before each step: gradreach.treatments.clip_grad_percentile_(optimizer, "
            f"{self.percentile:g})."
        )


def _our_line(
    function: str, number: float, optimizer: str, names: Imports, file: str
) -> tuple[str, list[Edit]]:
    name, needed = names.text_of(f"gradreach.treatments.{function}", file)
    return f"{name}({optimizer}, {number!r})", [] if needed is None else [needed]
