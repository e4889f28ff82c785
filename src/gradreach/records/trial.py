"""One training of one treatment from one seed, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, Self, get_args

import numpy as np

from gradreach.records.finding import Finding
from gradreach.records.plain import Array, check_schema, from_plain, to_plain

__all__ = ["CONTROL", "OUTCOMES", "Outcome", "Trial"]

SCHEMA_VERSION = 1
CONTROL = "control"
"""The label of the untreated training."""

Outcome = Literal["finished", "crashed", "out-of-memory", "timed-out", "nonfinite"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def _no_values() -> Array:
    return np.empty(0, dtype=np.float64)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Trial:
    """What one treatment did from one seed.

    Attributes:
        treatment: Its label; ``"control"`` is the untreated training.
        seed: What torch, NumPy and ``random`` were seeded with.
        budget: Optimizer steps it was allowed; ``None`` for as many as it takes by itself.
        outcome: One of :data:`OUTCOMES`. A trial stopped at its budget has finished.
        metric: The number by which trials are ranked; NaN where there is none.
        held_out: The metric was taken on data that was not trained on.
        steps_of_curve: Optimizer steps at which the metric was seen, ``(N,)``.
        curve: The metric there, ``(N,)``.
        steps: Optimizer steps taken.
        seconds: Wall time, without the start of its process.
        reach: How far back each layer's gradient reached at the end, in steps, by layer.
        findings: What was still wrong.
        message: One sentence: why it did not finish.
        key: What the trial was, as a hash; the name of its folder in a study.
        meta: Versions, threads and attempts, as plain data.

    Raises:
        ValueError: The outcome is none of those known, the curve has not one step a value, or a
            trial has finished without a finite metric.

    Example:
        >>> print(Trial(treatment="gating(GRU)", seed=1, outcome="finished", metric=0.0125,
        ...             steps=300, seconds=4.0, reach={"rnn": 150}))
        gating(GRU), seed 1: finished, metric 0.0125, 300 steps in 4.0 s, reach rnn 150
    """

    treatment: str
    seed: int
    outcome: Outcome
    budget: int | None = None
    metric: float = math.nan
    held_out: bool = False
    steps_of_curve: Array = field(default_factory=_no_values)
    curve: Array = field(default_factory=_no_values)
    steps: int = 0
    seconds: float = 0.0
    reach: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    message: str = ""
    key: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(
                f"Trial(): argument 'outcome' must be one of {', '.join(OUTCOMES)}; got "
                f"{self.outcome!r}"
            )
        if len(self.curve) != len(self.steps_of_curve):
            raise ValueError(
                f"Trial(): argument 'curve' has {len(self.curve)} values at "
                f"{len(self.steps_of_curve)} steps; each value needs its step"
            )
        if self.outcome == "finished" and not math.isfinite(self.metric):
            raise ValueError(
                f"Trial(): a finished trial has a finite 'metric'; got {self.metric}: its outcome "
                "is 'nonfinite'"
            )

    @property
    def finished(self) -> bool:
        """Whether it came to its end with a finite metric."""
        return self.outcome == "finished"

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the findings that are no mere notes, each once, the most severe first."""
        return tuple(dict.fromkeys(f.code for f in self.findings if f.severity != "note"))

    def at(self, step: int) -> float:
        """Return the metric as it stood after so many steps; NaN where nothing was seen yet.

        Example:
            >>> trial = Trial(treatment="control", seed=0, outcome="finished", metric=1.0,
            ...               steps_of_curve=np.array([10.0, 20.0]), curve=np.array([3.0, 1.0]))
            >>> trial.at(5), trial.at(19), trial.at(1000)
            (nan, 3.0, 1.0)
        """
        seen = int(np.searchsorted(self.steps_of_curve, step, side="right"))
        return float(self.curve[seen - 1]) if seen else math.nan

    def __str__(self) -> str:
        told = f"{self.treatment}, seed {self.seed}: {self.outcome}"
        if self.finished:
            told += f", metric {self.metric:.4g}"
        told += f", {self.steps:,} steps in {self.seconds:.1f} s"
        if self.reach:
            told += ", reach " + ", ".join(f"{name} {far:g}" for name, far in self.reach.items())
        return told + (f" ({self.message})" if self.message else "")

    def __repr__(self) -> str:
        return f"<Trial of {self.treatment}, seed {self.seed}: {self.outcome}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {
            "record": "Trial",
            "schema_version": SCHEMA_VERSION,
            "treatment": self.treatment,
            "seed": self.seed,
            "budget": self.budget,
            "outcome": self.outcome,
            "metric": self.metric,
            "held_out": self.held_out,
            "steps_of_curve": to_plain(self.steps_of_curve),
            "curve": to_plain(self.curve),
            "steps": self.steps,
            "seconds": self.seconds,
            "reach": dict(self.reach),
            "findings": [finding.to_dict() for finding in self.findings],
            "message": self.message,
            "key": self.key,
            "meta": dict(self.meta),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`.

        Raises:
            SchemaError: The data is of another record or schema version.
        """
        check_schema(plain, "Trial", SCHEMA_VERSION)
        same = ("treatment", "seed", "budget", "outcome", "metric", "held_out", "steps", "seconds")
        return cls(
            **{name: plain[name] for name in (*same, "message", "key")},
            steps_of_curve=from_plain(plain["steps_of_curve"]),
            curve=from_plain(plain["curve"]),
            reach=dict(plain["reach"]),
            findings=tuple(Finding.from_dict(finding) for finding in plain["findings"]),
            meta=dict(plain["meta"]),
        )
