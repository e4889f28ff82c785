"""What one sampled backward pass of a watched training said, small enough to keep for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from gradreach.records.finding import Finding
from gradreach.records.gradient_flow import GradientFlow
from gradreach.records.layer_flow import LayerFlow
from gradreach.records.plain import Array, from_plain, to_plain

__all__ = ["LayerSample", "Sample"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerSample:
    """One layer in one sample: a row of the step × timestep heat map, and its summary.

    Shape:
        norms: ``(T,)``, ‖∂L/∂s_t‖, root mean square over the batch.
        lag_profile: ``(lags,)``, relative to lag 0.

    Args:
        reach: Lag from which less than 1 % is left; ``None`` where there is no profile.
        decay_per_step: The profile's factor per step.
        dead, saturated: Share of the units that are; NaN where it was not measured.
    """

    kind: str
    norms: Array
    lag_profile: Array
    reach: int | None
    decay_per_step: float
    dead: float
    saturated: float

    @classmethod
    def of(cls, layer: LayerFlow) -> Self:
        """Summarise a layer's flow."""
        return cls(
            kind=layer.kind,
            norms=np.asarray(layer.state_gradient_norms, dtype=np.float64),
            lag_profile=np.asarray(layer.lag_profile, dtype=np.float64),
            reach=layer.reach(),
            decay_per_step=float(layer.decay_per_step),
            dead=_share(layer.dead),
            saturated=_share(layer.saturated),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "kind": self.kind,
            "norms": to_plain(self.norms),
            "lag_profile": to_plain(self.lag_profile),
            "reach": self.reach,
            "decay_per_step": self.decay_per_step,
            "dead": self.dead,
            "saturated": self.saturated,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`."""
        arrays = {name: from_plain(plain[name]) for name in ("norms", "lag_profile")}
        return cls(**{**plain, **arrays})


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One sampled pass.

    Args:
        step: Optimizer steps taken before. number: the backward pass, from 0.
        reason: Why it was taken: ``"start"``, ``"cadence"``, ``"jump"`` or ``"last"``.
        layers: By name as in ``flow.layers``.
        findings: What the rules of one batch found in it.
    """

    step: int
    number: int
    reason: str
    layers: Mapping[str, LayerSample] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(
        cls, flow: GradientFlow, step: int, number: int, reason: str, findings: tuple[Finding, ...]
    ) -> Self:
        """Summarise a measured pass."""
        layers = {name: LayerSample.of(layer) for name, layer in flow.layers.items()}
        return cls(step=step, number=number, reason=reason, layers=layers, findings=findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "step": self.step,
            "number": self.number,
            "reason": self.reason,
            "layers": {name: layer.to_dict() for name, layer in self.layers.items()},
            "findings": [finding.to_dict() for finding in self.findings],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`."""
        return cls(
            step=plain["step"],
            number=plain["number"],
            reason=plain["reason"],
            layers={name: LayerSample.from_dict(own) for name, own in plain["layers"].items()},
            findings=tuple(Finding.from_dict(found) for found in plain["findings"]),
        )


def _share(units: Any) -> float:
    """Return the share of units that are set, NaN where nothing was measured."""
    if units is None:
        return float("nan")
    array = np.asarray(units, dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")
