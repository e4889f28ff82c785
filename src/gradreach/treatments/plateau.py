"""Reduction on plateau: the learning rate is halved when the loss has stopped falling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.optimizer_treatment import OptimizerTreatment, says_rate_too_low
from gradreach.treatments.rate_factor import scale_steps
from gradreach.treatments.step_losses import on_step_loss
from gradreach.treatments.treatment import TreatmentError

__all__ = ["Plateau"]

FALL = 0.5
BETTER = 1e-3  # relative, as ReduceLROnPlateau's threshold, for means of many noisy batches
PART = 20  # of the run: four windows to learn in remain after each of a few reductions
FEWEST = 20


@dataclass(frozen=True)
class Plateau(OptimizerTreatment):
    """Halve the learning rate when the mean loss of ``plateau`` steps is no lower than before.

    The loss is what the script calls ``backward`` on. "Before" is the lowest mean of as many
    steps so far.

    Args:
        plateau: Steps in a window.

    Example:
        >>> import torch
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> optimizer = torch.optim.SGD([weight], lr=1.0)
        >>> _ = Plateau(2).apply(None, optimizer)
        >>> for loss in (3.0, 3.0, 3.0, 3.0, 1.0, 1.0):
        ...     optimizer.zero_grad()
        ...     (weight - weight.detach() + loss).sum().backward()
        ...     optimizer.step()
        >>> weight  # four steps of 1, two of 0.5
        tensor([-5.], requires_grad=True)
    """

    role: ClassVar[str] = "course"
    source: ClassVar[str] = (
        "Bengio (2012), section 3.1.1, arXiv:1206.5533; torch's ReduceLROnPlateau, over steps"
    )
    side_effects: ClassVar[str] = (
        "the rate never rises again; where the batches grow harder, it falls for no good reason"
    )

    plateau: int

    def __post_init__(self) -> None:
        if self.plateau < 1:
            raise TreatmentError(
                f"Plateau(): argument 'plateau' must be 1 or more steps, got {self.plateau!r}; a "
                "twentieth of the run is usual"
            )

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose a twentieth of the run, where the rate is not too low already."""
        each = cls(max(FEWEST, facts.steps // PART))
        fits = each.applies_to(finding, facts) and not says_rate_too_low(finding)
        return [each] if fits else []

    def act(self, optimizer: Optimizer) -> None:
        """Follow the loss of this optimizer's steps from now on."""
        window: list[float] = []
        best, factor = math.inf, 1.0

        def follow(loss: float) -> None:
            nonlocal best, factor
            window.append(loss)
            if len(window) < self.plateau:
                return
            mean = sum(window) / len(window)
            window.clear()
            if not mean < best - BETTER * abs(best) and math.isfinite(best):
                factor *= FALL
            best = min(best, mean) if math.isfinite(mean) else best

        scale_steps(optimizer, lambda step: factor)
        on_step_loss(optimizer, follow)

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Halve the learning rate when the mean loss of {self.plateau} steps has stopped "
            f'falling: gradreach.treatments.treated(torch.optim.Adam, "{self.label}")(…).'
        )
