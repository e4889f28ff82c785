"""What one trial is, as plain data that any process can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from gradreach.errors import GradreachError
from gradreach.records.trial import CONTROL
from gradreach.trials.metric import Metric
from gradreach.trials.target import Target, target_from

__all__ = ["SpecError", "TrialSpec"]


class SpecError(GradreachError, ValueError):
    """No trial can be run like that."""


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One training of one treatment from one seed.

    Everything that decides its result is here or in the files that the target names, so that
    the result is the same in whichever process and on whichever machine of the same kind.

    Attributes:
        target: The script or function.
        label: Of the treatment, ``"control"`` without one.
        treatment: Its ``to_dict()``; ``None`` for the control.
        seed: Given to the script or function, else to torch, NumPy and ``random``.
        budget: Optimizer steps allowed; ``None`` for as many as it takes by itself.
        threads: Of torch and of what else computes: sums depend on how they are split.
        metric: The number that is looked for.
        timeout: Seconds after which it is ended with its children; ``None`` for no limit.
        memory: Bytes it may take beyond what a fresh process has; ``None`` for no limit.
        needs_lag: Time steps that a script's task must look back, if the user knows: what is
            found wrong, and what is worth trying, depend on it.

    Raises:
        SpecError: A number is out of its range, or label and treatment do not agree.

    Example:
        >>> from gradreach.trials.target import ScriptTarget
        >>> spec = TrialSpec(target=ScriptTarget(path="train.py", cwd="/"), seed=3)
        >>> TrialSpec.from_dict(spec.to_dict()) == spec, spec.label
        (True, 'control')
    """

    target: Target
    label: str = CONTROL
    treatment: Mapping[str, Any] | None = None
    seed: int = 0
    budget: int | None = None
    threads: int = 1
    metric: Metric = field(default_factory=Metric)
    timeout: float | None = None
    memory: int | None = None
    needs_lag: int | None = None

    def __post_init__(self) -> None:
        if (self.label == CONTROL) != (self.treatment is None):
            raise SpecError(
                f"TrialSpec(): the label {CONTROL!r} is that of no treatment; got label "
                f"{self.label!r} with treatment {self.treatment!r}"
            )
        if not 0 <= self.seed < 2**32:  # NumPy's legacy stream takes no other
            raise SpecError(
                f"TrialSpec(): argument 'seed' must be in 0 … 2**32 - 1; got {self.seed}"
            )
        _check("budget", self.budget, "optimizer steps")
        _check("threads", self.threads, "threads")
        _check("timeout", self.timeout, "seconds")
        _check("memory", self.memory, "bytes")
        _check("needs_lag", self.needs_lag, "time steps")

    def with_budget(self, budget: int | None) -> Self:
        """Return the same trial with another number of optimizer steps."""
        return replace(self, budget=budget)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        treatment = None if self.treatment is None else dict(self.treatment)
        return vars(self) | {
            "target": self.target.to_dict(),
            "treatment": treatment,
            "metric": self.metric.to_dict(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`."""
        parts = {
            "target": target_from(plain["target"]),
            "metric": Metric.from_dict(plain["metric"]),
        }
        return cls(**{**plain, **parts})


def _check(name: str, value: float | None, unit: str) -> None:
    if value is not None and not value > 0:
        raise SpecError(f"TrialSpec(): argument '{name}' must be > 0 {unit}; got {value}")
