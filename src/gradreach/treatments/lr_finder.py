"""A learning rate found by Smith's range test, on the run's own first batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.finished_gradient import parameters_of
from gradreach.treatments.optimizer_treatment import OptimizerTreatment
from gradreach.treatments.rate_factor import scale_steps
from gradreach.treatments.step_losses import on_step_loss
from gradreach.treatments.treatment import TreatmentError

__all__ = ["FoundRate", "best_factor"]

LOWEST, HIGHEST = 1e-4, 1e3  # times the script's rate: seven decades, as Smith's 1e-6 … 10
STOP = 4.0  # times the lowest smoothed loss: the rate has thrown the weights out
SMOOTH = 0.8  # of the last smoothed loss kept: five steps are a sixth of a decade at 100 steps
BACK = 10.0  # below the rate of the lowest loss, where the test is about to diverge


@dataclass(frozen=True)
class FoundRate(OptimizerTreatment):
    """Spend the first steps on a range test, put the weights back, and go on with what it found.

    The rate rises geometrically from a ten-thousandth of the script's own to a thousand times it
    while the loss is noted; the test ends early where the loss has risen fourfold. Weights and
    the optimizer's state are then what they were before; batches and random numbers have been
    used, and buffers (batch norm) have seen them. The rate is a tenth of the one with the lowest
    loss, or the highest tried where the loss was still falling.

    Args:
        finder: Steps of the test at most.

    Example:
        >>> import torch
        >>> weight = torch.ones(1, requires_grad=True)
        >>> optimizer = torch.optim.SGD([weight], lr=1e-4)
        >>> _ = FoundRate(50).apply(None, optimizer)
        >>> for _ in range(200):
        ...     optimizer.zero_grad()
        ...     weight.square().sum().backward()
        ...     optimizer.step()
        >>> 0.0 <= weight.item() < 0.5  # at 1e-4 it would have come to 0.96
        True
    """

    role: ClassVar[str] = "finder"
    source: ClassVar[str] = "Smith (2017), section 3.3, arXiv:1506.01186"
    side_effects: ClassVar[str] = (
        "the steps of the test are lost, and a batch norm's averages keep what they saw in it"
    )

    finder: int

    def __post_init__(self) -> None:
        if self.finder < 10:
            raise TreatmentError(
                f"FoundRate(): argument 'finder' must be 10 or more steps, got {self.finder!r}; "
                "100 is usual"
            )

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose 100 steps, where the run is ten times as long."""
        each = cls(100)
        return [each] if facts.steps >= 1000 and each.applies_to(finding, facts) else []

    def act(self, optimizer: Optimizer) -> None:
        """Begin the test."""
        test = _RangeTest(self.finder)
        optimizer.register_step_pre_hook(test.keep)
        scale_steps(optimizer, test.factor_of)
        on_step_loss(optimizer, lambda loss: test.follow(optimizer, loss))

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Find the learning rate on the first {self.finder} batches: "
            f'gradreach.treatments.treated(torch.optim.Adam, "{self.label}")(…).'
        )


class _RangeTest:
    """The test of one optimizer, and what it has found."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.found: float | None = None
        self._factors = [
            LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1)) for step in range(steps)
        ]
        self._losses: list[float] = []
        self._weights: list[torch.Tensor] | None = None
        self._state: dict[torch.Tensor, object] = {}

    def factor_of(self, step: int) -> float:
        return self._factors[len(self._losses)] if self.found is None else self.found

    @torch.no_grad()
    def keep(self, optimizer: Optimizer, args: object, options: object) -> None:
        """Copy what the test is going to change, before its first step."""
        if self._weights is None and self.found is None:
            self._weights = [p.detach().clone() for p in parameters_of(optimizer)]
            self._state = {p: copy.deepcopy(state) for p, state in optimizer.state.items()}

    def follow(self, optimizer: Optimizer, loss: float) -> None:
        """Note the loss of a step, and end the test where it is time."""
        if self.found is not None:
            return
        self._losses.append(loss)
        course = _smoothed(self._losses)
        ended = not math.isfinite(loss) or course[-1] > STOP * min(course)
        if ended or len(self._losses) == self.steps:
            self.found = best_factor(self._factors, self._losses)
            self._put_back(optimizer)

    @torch.no_grad()
    def _put_back(self, optimizer: Optimizer) -> None:
        assert self._weights is not None
        for parameter, kept in zip(parameters_of(optimizer), self._weights, strict=False):
            parameter.copy_(kept)
        optimizer.state.clear()
        optimizer.state.update(self._state)
        self._weights, self._state = None, {}


def best_factor(factors: Sequence[float], losses: Sequence[float]) -> float:
    """Return a tenth of the factor whose smoothed loss is lowest; 1 where it never fell.

    The highest itself, where the loss is lowest there: nothing is about to diverge.

    Example:
        >>> best_factor([0.01, 0.1, 1.0, 10.0], [5.0, 5.0, 2.0, math.nan])
        0.1
    """
    course = [loss for loss in _smoothed(losses) if math.isfinite(loss)]
    if not course:
        return 1.0
    place = min(range(len(course)), key=course.__getitem__)
    if place == len(losses) - 1:
        return factors[place]
    return factors[place] / BACK if place else 1.0


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Return the running means, each past loss counting less; without the bias of the start."""
    course, mean = [], 0.0
    for place, loss in enumerate(losses, 1):
        mean = SMOOTH * mean + (1 - SMOOTH) * loss
        course.append(mean / (1 - SMOOTH**place))
    return course
