"""Does the gradient die on its way back?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.rules.closed_gate import MEMORY_GATES
from gradreach.diagnosis.slope import slope
from gradreach.diagnosis.wording import counted, percent, plain, times
from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.finding import Finding
from gradreach.records.plain import Array

__all__ = ["VanishingGradient", "factor_at"]

REMEDIES = {
    "tanh": ("gating", "initialization", "activation", "residual", "skip"),
    "relu": ("initialization", "gating", "residual", "skip"),
    "gru": ("initialization", "skip", "residual"),
    "lstm": ("initialization", "skip", "residual"),
}


@dataclass(frozen=True, slots=True)
class VanishingGradient:
    """The reach is shorter than needed, and the profile still falls there.

    Args:
        level: What counts as nothing left, relative to lag 0.
        lags: Fewer measured lags give numbers and no verdict, unless the task's need is known.
        part: Share of the measured lags that the reach must cover where it is not known.

    The source of each: docs/findings/vanishing-gradient.md.
    """

    code: str = "vanishing-gradient"
    level: float = 0.01
    lags: int = 10
    part: float = 0.5

    def __call__(self, flow: GradientFlow, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding for each layer concerned."""
        return [
            self._found(name, layer, needs_lag)
            for name, layer in flow.layers.items()
            if self._vanishes(layer, needs_lag)
        ]

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain nothing: this is the symptom that the others explain."""
        return False

    def _vanishes(self, layer: LayerFlow, needs_lag: int | None) -> bool:
        profile = layer.lag_profile
        if not len(profile) or not np.isfinite(profile).all():
            return False
        if needs_lag is None and len(profile) < self.lags:
            return False
        needed = self._needed(profile, needs_lag)
        reach = layer.reach(self.level)
        # A profile that never fell below the level says nothing about longer lags.
        if reach is None or reach >= min(needed, len(profile)):
            return False
        # A flat tail is no vanishing, however low it lies: what is left after the first drop
        # goes on for as long as one likes. It falls if its own factor, applied over the lag
        # that is needed, would by itself leave less than the level.
        return bool(factor_at(profile, needed) ** needed < self.level)

    def _needed(self, profile: Array, needs_lag: int | None) -> float:
        return self.part * len(profile) if needs_lag is None else float(needs_lag)

    def _found(self, name: str, layer: LayerFlow, needs_lag: int | None) -> Finding:
        profile, reach, decay = layer.lag_profile, layer.reach(self.level), layer.decay_per_step
        assert reach is not None
        needed = self._needed(profile, needs_lag)
        way = _way(layer, decay)
        back = counted(reach, "step")
        so = (
            f"this matters only if your task needs more than {back}"
            if needs_lag is None
            else f"your task needs {counted(needs_lag, 'step')}"
        )
        return Finding(
            code=self.code,
            severity="warning" if needs_lag is None else "error",
            cause=f"{way}: less than {percent(self.level)} of the gradient is left {back} back "
            f"(of {len(profile)}); {so}",
            layer=name,
            steps=_unreached(layer, reach),
            numbers={
                "reach": reach,
                "lags": len(profile),
                "level": self.level,
                "needs_lag": needs_lag,
                "decay_per_step": plain(decay),
                "tail_factor": plain(factor_at(profile, needed)),
                "left_one_step_back": float(profile[1]),
                "left_at_half": float(profile[len(profile) // 2]),
                "gates": {letter: gate.mean for letter, gate in layer.gates.items()},
            },
            counter_check=_counter_check(layer, reach, decay),
            remedies=REMEDIES.get(layer.kind, ("initialization", "skip", "residual"))
            if layer.exact
            else (),  # the treatments are those of recurrent layers
        )


def factor_at(profile: Array, needed: float) -> float:
    """Return the profile's factor per step over the second half of the lags that are needed.

    0 where nothing at all is left there.

    Example:
        >>> flat = np.array([1.0] + [0.003] * 99)
        >>> factor_at(flat, 50), round(factor_at(0.5 ** np.arange(100), 50), 12)
        (1.0, 0.5)
    """
    last = max(min(math.ceil(needed), len(profile) - 1), 1)
    tail = profile[last // 2 : last + 1]
    return math.exp(slope(tail)) if (tail > 0).all() else 0.0


def _way(layer: LayerFlow, decay: float) -> str:
    if not layer.exact:
        return "there is no state here, and its inputs do not matter for longer"
    if decay < 1:
        return f"the recurrence contracts {times(decay)} per step"
    return "the recurrence passes next to nothing on"


def _unreached(layer: LayerFlow, reach: int) -> tuple[int, int] | None:
    """Return the steps of which the last loss step sees less than the level."""
    last = max(layer.lag_probes, default=layer.steps - 1)
    return (0, last - reach) if last >= reach else None


def _counter_check(layer: LayerFlow, reach: int, decay: float) -> str:
    if layer.kind in MEMORY_GATES:
        _, gate = MEMORY_GATES[layer.kind]
        return (
            f"raise the bias of the {gate} until it passes 95 % (σ(3)): if the reach stays at "
            f"{reach}, the recurrence is not what ends it"
        )
    if decay < 1 and layer.exact:
        return (
            f"multiply weight_hh by {1 / decay:.2g}: if the reach stays at {reach}, the recurrent "
            "weights are not what ends it"
        )
    return (
        f"change the input {reach + 1} steps before the loss: if the loss moves as much as after "
        "the same change at the last step, the finding is wrong"
    )
