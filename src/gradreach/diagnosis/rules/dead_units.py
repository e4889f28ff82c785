"""Are ReLU units off at every step of every sequence?"""

from __future__ import annotations

from dataclasses import dataclass

from gradreach.diagnosis.rule import covers
from gradreach.diagnosis.wording import percent
from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.finding import Finding

__all__ = ["DeadUnits"]


@dataclass(frozen=True, slots=True)
class DeadUnits:
    """At least half the units of a ReLU layer pass no gradient on at all.

    Only ReLU has a slope of exactly 0; a tanh reaches it by rounding, at another input in
    float32 than in float64, and counts as saturated.

    Args:
        share: Least share of dead units.
        steps: In shorter sequences a unit may be off by chance; there only all units count.

    The source of each: docs/findings/dead-units.md.
    """

    code: str = "dead-units"
    share: float = 0.5
    steps: int = 10

    def __call__(self, flow: GradientFlow, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding for each layer concerned."""
        return [
            self._found(name, layer)
            for name, layer in flow.layers.items()
            if layer.kind == "relu"
            and layer.dead.size
            and layer.dead.mean() >= (self.share if layer.steps >= self.steps else 1.0)
        ]

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain a short reach of the same layer."""
        return symptom.code == "vanishing-gradient" and covers(cause, symptom)

    def _found(self, name: str, layer: LayerFlow) -> Finding:
        dead, units = int(layer.dead.sum()), layer.hidden_size
        every = dead == units
        left = "no gradient passes this layer" if every else "no gradient passes through them"
        return Finding(
            code=self.code,
            severity="error" if every else "warning",
            cause=f"{dead} of {units} units ({percent(dead / units)}) are dead: their ReLU is off "
            f"at every step of every sequence, so {left}",
            layer=name,
            numbers={"dead": dead, "units": units, "share": dead / units},
            counter_check="measure several other batches: a unit that is on at any step of any "
            "of them is not dead",
            remedies=("activation", "initialization", "learning_rate"),
        )
