"""Gradient clipping: by the norm of the whole gradient, or entry by entry."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.finished_gradient import on_finished_gradient, parameters_of
from gradreach.treatments.imports_of import Imports
from gradreach.treatments.interception import Interception
from gradreach.treatments.lines_before_step import at_top, before_steps, written
from gradreach.treatments.own_clipping import without_own_clipping
from gradreach.treatments.places import note_places
from gradreach.treatments.sites import Site
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["ClippingFamily", "NormClipping", "ValueClipping"]


@dataclass(frozen=True)
class ClippingFamily(Treatment):
    """Bounds each gradient right before its optimizer uses it.

    It acts once a step, on all parameters of the optimizer together: after every pass of a
    gradient accumulation, after a ``GradScaler`` has unscaled, after each call of a closure. The
    script's own calls of torch's clipping functions are taken out, wherever they stand.
    """

    family: ClassVar[str] = "clipping"

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse where no optimizer of torch's is stepped."""
        if facts.optimizers:
            return None
        return "no torch optimizer is built whose gradient could be clipped before its step"

    @abstractmethod
    def clip(self, optimizer: Optimizer) -> object:
        """Clip the gradient that an optimizer is about to use."""

    @abstractmethod
    def line(self, optimizer: str, names: Imports, file: str) -> tuple[str, list[Edit]]:
        """Return the call that does so, as text, and the import it needs."""

    def install(self, run: Interception) -> None:
        """Clip before every step of every optimizer, and nowhere else."""
        note_places(run).clips.blocks = True
        run.on_optimizer(self._hook)

    def apply(self, model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
        """Have the steps of this optimizer clip from now on.

        Raises:
            TreatmentError: There is no optimizer.
        """
        if optimizer is None:
            raise TreatmentError(
                f"{self.label}.apply(): argument 'optimizer' is None, but it is its steps that "
                "clip; pass the optimizer"
            )
        self._hook(optimizer)
        return model

    def edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Write the call before each step, and take the script's own clipping out."""
        return written(
            lambda: [*without_own_clipping(sites), *before_steps(self.label, self.line, sites)],
            lambda: at_top(self.label, sites),
        )

    def _hook(self, optimizer: Optimizer) -> None:
        on_finished_gradient(optimizer, self.clip)


@dataclass(frozen=True)
class NormClipping(ClippingFamily):
    """Scale the gradient down to a norm, where it is longer: its direction stays.

    Args:
        norm: The threshold, over all parameters of an optimizer together.

    Example:
        >>> import torch
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> optimizer = torch.optim.SGD([weight], lr=1.0)
        >>> _ = NormClipping(1.0).apply(None, optimizer)
        >>> (weight * torch.tensor([30.0, 40.0])).sum().backward()
        >>> optimizer.step()
        >>> weight
        tensor([-0.6000, -0.8000], requires_grad=True)
    """

    source: ClassVar[str] = "Pascanu, Mikolov & Bengio (2013), algorithm 1, arXiv:1211.5063"
    side_effects: ClassVar[str] = (
        "steps along long gradients are shorter than the learning rate says; for Adam and RMSprop "
        "only their length relative to other steps' changes"
    )

    norm: float

    def __post_init__(self) -> None:
        _check("NormClipping", "norm", self.norm)

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose thresholds among the norms that were measured: the usual one, then a low one."""
        return [
            each
            for norm in thresholds(facts.gradient_norms, (0.5, 0.1), standard=1.0)
            if (each := cls(norm)).applies_to(finding, facts)
        ]

    def clip(self, optimizer: Optimizer) -> object:
        """Clip with torch's own function."""
        return clip_grad_norm_(parameters_of(optimizer), self.norm)

    def line(self, optimizer: str, names: Imports, file: str) -> tuple[str, list[Edit]]:
        """Call torch's own function."""
        return _torch_line("clip_grad_norm_", self.norm, optimizer, names, file)

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Clip the gradient to norm {self.norm:g} right before each step: "
            f"torch.nn.utils.clip_grad_norm_(model.parameters(), {self.norm:g}), with a GradScaler "
            "after scaler.unscale_(optimizer)."
        )


@dataclass(frozen=True)
class ValueClipping(ClippingFamily):
    """Bound each entry of the gradient.

    Args:
        value: The largest absolute value of an entry.

    Example:
        >>> ValueClipping(0.5).label
        'clipping(value=0.5)'
    """

    source: ClassVar[str] = "Arjovsky, Shah & Bengio (2016), their code (±1), arXiv:1511.06464"
    side_effects: ClassVar[str] = (
        "the gradient's direction changes where an entry is bounded: it is no descent direction "
        "for sure any more"
    )

    value: float

    def __post_init__(self) -> None:
        _check("ValueClipping", "value", self.value)

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose ±1 after the paper: the entries' own sizes are not measured."""
        each = cls(1.0)
        return [each] if each.applies_to(finding, facts) else []

    def clip(self, optimizer: Optimizer) -> object:
        """Clip with torch's own function."""
        clip_grad_value_(parameters_of(optimizer), self.value)
        return None

    def line(self, optimizer: str, names: Imports, file: str) -> tuple[str, list[Edit]]:
        """Call torch's own function."""
        return _torch_line("clip_grad_value_", self.value, optimizer, names, file)

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Bound each entry of the gradient by ±{self.value:g} right before each step: "
            f"torch.nn.utils.clip_grad_value_(model.parameters(), {self.value:g}), with a "
            "GradScaler after scaler.unscale_(optimizer)."
        )


def thresholds(
    norms: dict[float, float] | object, shares: Sequence[float], *, standard: float
) -> list[float]:
    """Return measured norms at some shares of the steps, to two digits and largest first.

    Args:
        norms: Quantiles by share, as :attr:`.RunFacts.gradient_norms`.
        standard: What is proposed where nothing was measured.

    Example:
        >>> thresholds({0.1: 0.314159, 0.5: 2.71828}, (0.5, 0.1), standard=1.0)
        [2.7, 0.31]
    """
    known = dict(norms) if isinstance(norms, dict) else {}
    found = [known.get(share, math.nan) for share in shares]
    kept = [float(f"{norm:.2g}") for norm in found if math.isfinite(norm) and norm > 0]
    return list(dict.fromkeys(kept)) or [standard]


def _torch_line(
    function: str, bound: float, optimizer: str, names: Imports, file: str
) -> tuple[str, list[Edit]]:
    name, needed = names.text_of(f"torch.nn.utils.{function}", file)
    parameters = f'[p for group in {optimizer}.param_groups for p in group["params"]]'
    return f"{name}({parameters}, {bound!r})", [] if needed is None else [needed]


def _check(name: str, argument: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise TreatmentError(
            f"{name}(): argument {argument!r} must be a finite number above 0, got {value!r}; "
            "give the bound"
        )
