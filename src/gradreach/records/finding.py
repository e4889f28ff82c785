"""A verdict with its cause, its numbers, and the experiment that would refute it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, get_args

from gradreach.records.plain import check_schema

__all__ = ["REMEDIES", "SEVERITIES", "Finding", "Severity"]

SCHEMA_VERSION = 1

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

REMEDIES = (
    "activation",
    "initialization",
    "skip",
    "residual",
    "gating",
    "clipping",
    "learning_rate",
    "truncation",
)
"""The treatments a finding may name; there is one treatment module of each name."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem of a measured run, said so that it can be checked.

    Attributes:
        code: Which problem; ``gradreach explain CODE`` prints its page.
        severity: ``"error"``: what was asked for cannot be learned like this. ``"warning"``: it
            hurts if the task is of a kind that the finding names. ``"note"``: good to know.
        cause: One sentence with the numbers of this run.
        layer: Name of the layer as in ``flow.layers``; ``None`` for the whole model.
        gate: The gate's letter (``f``, ``z``), where the finding is about one.
        steps: First and last step it speaks of, in recurrence time; ``None`` for all of them.
        numbers: The evidence, plain data. ``"explains"`` lists the symptoms that this cause
            accounts for and that are therefore not findings of their own.
        counter_check: One sentence: the experiment whose outcome would refute the finding.
        remedies: Names of treatments worth trying, the best first; see :data:`REMEDIES`.

    Raises:
        ValueError: The severity or a remedy is none of those known.
        TypeError: ``numbers`` is not plain data.

    Example:
        >>> print(Finding(
        ...     code="vanishing-gradient", severity="warning", layer="rnn.l0",
        ...     cause="the recurrence contracts 0.5× per step",
        ...     counter_check="multiply weight_hh by 2: the reach must grow",
        ...     remedies=("initialization", "gating"),
        ... ))
        warning: vanishing-gradient in rnn.l0
          the recurrence contracts 0.5× per step
          worth trying: initialization, gating
          to refute it: multiply weight_hh by 2: the reach must grow
    """

    code: str
    severity: Severity
    cause: str
    counter_check: str
    layer: str | None = None
    gate: str | None = None
    steps: tuple[int, int] | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    remedies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(
                f"Finding(): argument 'severity' must be one of {', '.join(SEVERITIES)}; got "
                f"{self.severity!r}"
            )
        unknown = [name for name in self.remedies if name not in REMEDIES]
        if unknown:
            raise ValueError(
                f"Finding(): argument 'remedies' names {unknown[0]!r}, which is no treatment; "
                f"there is {', '.join(REMEDIES)}"
            )
        try:
            json.dumps(dict(self.numbers), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Finding(): argument 'numbers' must be plain data that JSON can hold; got "
                f"{dict(self.numbers)!r} ({error}): pass float, int, str, list, dict or None"
            ) from error

    @property
    def explains(self) -> tuple[str, ...]:
        """Codes of the symptoms that this cause accounts for."""
        return tuple(symptom["code"] for symptom in self.numbers.get("explains", ()))

    def __str__(self) -> str:
        return "\n".join([self._headline(), *(f"  {line}" for line in self._lines())])

    def _repr_html_(self) -> str:
        lines = "".join(f"<br>{escape(line)}" for line in self._lines())
        return f"<p><b>{escape(self._headline())}</b>{lines}</p>"

    def _headline(self) -> str:
        where = "" if self.layer is None else f" in {self.layer}"
        gate = "" if self.gate is None else f", gate {self.gate}"
        return f"{self.severity}: {self.code}{where}{gate}"

    def _lines(self) -> list[str]:
        lines = [self.cause]
        if self.explains:
            lines.append(f"this explains: {', '.join(self.explains)}")
        if self.remedies:
            lines.append(f"worth trying: {', '.join(self.remedies)}")
        return [*lines, f"to refute it: {self.counter_check}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {
            "record": "Finding",
            "schema_version": SCHEMA_VERSION,
            "code": self.code,
            "severity": self.severity,
            "cause": self.cause,
            "layer": self.layer,
            "gate": self.gate,
            "steps": None if self.steps is None else list(self.steps),
            "numbers": dict(self.numbers),
            "counter_check": self.counter_check,
            "remedies": list(self.remedies),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Finding:
        """Undo :meth:`to_dict`.

        Raises:
            SchemaError: The data is of another record or schema version.
        """
        check_schema(plain, "Finding", SCHEMA_VERSION)
        steps = plain["steps"]
        return cls(
            code=plain["code"],
            severity=plain["severity"],
            cause=plain["cause"],
            layer=plain["layer"],
            gate=plain["gate"],
            steps=None if steps is None else (int(steps[0]), int(steps[1])),
            numbers=dict(plain["numbers"]),
            counter_check=plain["counter_check"],
            remedies=tuple(plain["remedies"]),
        )
