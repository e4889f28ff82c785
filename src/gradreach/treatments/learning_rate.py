"""Another learning rate: the script's own, times a factor."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.call_text import CallText, code_of
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.imports_of import Imports
from gradreach.treatments.optimizer_treatment import OptimizerTreatment
from gradreach.treatments.places import OWN_RATES
from gradreach.treatments.rate_factor import scale_steps
from gradreach.treatments.sites import Site
from gradreach.treatments.source_file import NoLineError, SourceFile
from gradreach.treatments.treatment import TreatmentError

__all__ = ["LearningRate", "times_factor"]

EDGE = 100.0  # times the update: the longest that a line probe looks at
TOO_LOW = ("learning-rate-too-low", "stagnated-training")


@dataclass(frozen=True)
class LearningRate(OptimizerTreatment):
    """Multiply the learning rate of every optimizer.

    Args:
        factor: 0.1 divides by 10.
        each_step: Multiply what the script has set at each step, instead of what it builds the
            optimizer with: the one that goes together with any schedule, also one that is told
            absolute rates (``OneCycleLR``).

    Example:
        >>> import torch
        >>> optimizer = torch.optim.Adam([torch.zeros(1)], lr=0.01)
        >>> _ = LearningRate(0.1).apply(None, optimizer)
        >>> optimizer.param_groups[0]["lr"]
        0.001
    """

    role: ClassVar[str] = "factor"
    source: ClassVar[str] = "Smith (2017), arXiv:1506.01186, on how much hangs on it"
    side_effects: ClassVar[str] = (
        "a lower rate takes more steps to get as far; a higher one may throw the weights out"
    )

    factor: float
    each_step: bool = False

    def __post_init__(self) -> None:
        if not (self.factor > 0 and math.isfinite(self.factor)):
            raise TreatmentError(
                f"LearningRate(): argument 'factor' must be a finite number above 0, got "
                f"{self.factor!r}; 0.1 divides by 10"
            )

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose higher rates where it is too low, lower ones everywhere else."""
        low = finding.code == TOO_LOW[0] or (
            finding.code == TOO_LOW[1] and finding.numbers.get("because") == TOO_LOW[0]
        )
        factors = (10.0, 3.0, 100.0) if low else (0.1, 0.3, 0.01)
        # The longest step that was looked at was the best: the right one may be longer still.
        if low and (finding.numbers.get("best_scale") or 0.0) >= EDGE:
            factors = (100.0, 1000.0, 10.0)
        every = [cls(factor, each_step=facts.scheduler) for factor in factors]
        return [each for each in every if each.applies_to(finding, facts)]

    def act(self, optimizer: Optimizer) -> None:
        """Multiply the rates now, or from now on at each step."""
        if self.each_step:
            scale_steps(optimizer, lambda step: self.factor)
            return
        for holder in (optimizer.defaults, *optimizer.param_groups):
            if "lr" in holder:
                holder["lr"] = times_factor(holder["lr"], self.factor)

    def plain_edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Change the number that the optimizer is built with.

        Raises:
            NoLineError: The rate is not that of one call of torch's own optimizer.
        """
        if self.each_step or any(site.kind == OWN_RATES for site in sites):
            raise NoLineError("the rates are not set by the constructor alone")
        built = [site for site in sites if site.kind == "optimizer"]
        if not built:
            raise NoLineError("no optimizer was seen to be built")
        return list(dict.fromkeys(self._edit(site) for site in built))

    def describe(self) -> str:
        """Say it in words and code."""
        return f"Use {self.factor:g} times the learning rate: lr={_factor_text('lr', self.factor)}."

    def _edit(self, site: Site) -> Edit:
        if not site.file or site.outer is not None:
            raise NoLineError(f"{site.what} is built by a library")
        source = SourceFile.read(site.file)
        found = CallText.find(source.tree, source.text, site)
        if found is None or found.starred:
            raise NoLineError(f"{site.what} is built by no plain call")
        if Imports.of(source.tree).meaning(found.node.func) != site.what:
            raise NoLineError(f"line {site.line} may build optimizers of several classes")
        for each in found.node.keywords:
            if each.arg == "lr":
                return source.replacing(each.value, _times(source, each.value, self.factor))
        if len(found.node.args) > 1:
            rate = found.node.args[1]  # the second argument of each of torch's optimizers
            return source.replacing(rate, _times(source, rate, self.factor))
        default = site.numbers.get("lr")
        if not isinstance(default, int | float):
            raise NoLineError(f"{site.what} has no learning rate that is known")
        # What was noted is the rate before the treatment: sites are noted first.
        return found.added({"lr": times_factor(default, self.factor)})


def times_factor(rate: Any, factor: float) -> Any:
    """Multiply a rate; by division where that is what the factor means, for round numbers.

    Example:
        >>> 0.05 * 0.1, times_factor(0.05, 0.1)
        (0.005000000000000001, 0.005)
    """
    divisor = _divisor(factor)
    return rate * factor if divisor is None else rate / divisor


def _divisor(factor: float) -> int | None:
    whole = round(1 / factor) if 0 < factor < 1 else 0
    return whole if whole > 1 and 1 / whole == factor else None


def _times(source: SourceFile, rate: ast.expr, factor: float) -> str:
    """Return the text of a rate times a factor: a number where it is short, else a product."""
    text = source.segment(rate)
    if isinstance(rate, ast.Constant) and isinstance(rate.value, int | float):
        made = times_factor(rate.value, factor)
        if len(repr(made)) <= len("0.0001234"):
            return code_of(made)
    simple = isinstance(rate, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.Constant)
    return _factor_text(text if simple else f"({text})", factor)


def _factor_text(rate: str, factor: float) -> str:
    divisor = _divisor(factor)
    return f"{rate} * {factor!r}" if divisor is None else f"{rate} / {divisor}"
