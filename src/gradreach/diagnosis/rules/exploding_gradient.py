"""Does the gradient grow on its way back?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.slope import slope
from gradreach.diagnosis.wording import plain, times
from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.finding import Finding
from gradreach.records.plain import Array

__all__ = ["ExplodingGradient"]


@dataclass(frozen=True, slots=True)
class ExplodingGradient:
    """The lag profile grows geometrically, to ten times its value at lag 0 or more.

    It is the profile of the layer's own recurrence: in a stack the gradient of a lower layer is
    also collected from all steps of the upper one, and grows with their number in health.

    Args:
        growth: Least ratio of the profile's peak to its value at lag 0.
        too_large: From this ratio on an error: a loss step's own share of the gradient is less
            than 1 % of what comes back from the past, the mirror image of the reach's level.
        lags: Fewer measured lags have no farther half in which growth could be seen to go on.

    The source of each: docs/findings/exploding-gradient.md.
    """

    code: str = "exploding-gradient"
    growth: float = 10.0
    too_large: float = 100.0
    lags: int = 4

    def __call__(self, flow: GradientFlow, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding for each layer concerned."""
        return [
            self._found(name, layer)
            for name, layer in flow.layers.items()
            # An attention may well look at a distant input harder than at its own.
            if layer.exact and self._explodes(uncut(layer.own_lag_profile))
        ]

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain nothing: what stands after it in the order is its opposite."""
        return False

    def _explodes(self, profile: Array) -> bool:
        if len(profile) < self.lags or not profile.max() >= self.growth:
            return False
        # Growth that levels off is a transient (an LSTM's c passing into h, say): the factor of
        # the farther half, applied over all the lags, must by itself make up the growth.
        farther = profile[len(profile) // 2 :]
        return bool(slope(farther) * len(profile) >= math.log(self.growth))

    def _found(self, name: str, layer: LayerFlow) -> Finding:
        profile = uncut(layer.own_lag_profile)
        peak, at = float(profile.max()), int(profile.argmax())
        factor = math.exp(slope(profile[1:]))
        early = -(-layer.steps // 10)
        return Finding(
            code=self.code,
            severity="error" if peak >= self.too_large else "warning",
            cause=f"the recurrence expands {times(factor)} per step: {at} steps back the gradient "
            f"is {peak:.2g} times what it is at the loss",
            layer=name,
            steps=(0, early - 1),
            numbers={
                "growth": peak,
                "at_lag": at,
                "factor_per_step": factor,
                "lags": len(profile),
                "early_steps": early,
                "early_share": {
                    weight: plain(_share(norms, early))
                    for weight, norms in layer.contributions.items()
                    if weight.startswith("weight")
                },
            },
            counter_check=f"multiply weight_hh by {1 / factor:.2f}: if the lag profile grows as "
            "before, the recurrent weights are not what makes it grow",
            remedies=("clipping", "initialization", "learning_rate")
            + (() if layer.gates else ("gating",))
            + (("activation",) if layer.kind == "relu" else ())
            + ("truncation",),
        )


def uncut(profile: Array) -> Array:
    """Return the profile up to the first lag at which nothing is left; empty if not finite.

    Example:
        >>> uncut(np.array([1.0, 3.0, 9.0, 0.0, 0.0]))
        array([1., 3., 9.])
    """
    if not np.isfinite(profile).all():
        return profile[:0]
    gone = np.flatnonzero(profile <= 0)
    return profile[: gone[0]] if len(gone) else profile


def _share(norms: Array, early: int) -> float:
    """Share of the earliest steps in Σ_k ‖c_k‖; the sum is scaled, as it may overflow."""
    peak = norms.max(initial=0.0)
    if not (np.isfinite(peak) and peak > 0):
        return math.nan
    scaled = norms / peak
    return float(scaled[:early].sum() / scaled.sum())
