"""Do units sit on the flat ends of their tanh?"""

from __future__ import annotations

from dataclasses import dataclass

from gradreach.diagnosis.rule import covers
from gradreach.diagnosis.wording import percent
from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.finding import Finding

__all__ = ["SaturatedUnits"]


@dataclass(frozen=True, slots=True)
class SaturatedUnits:
    """At least half the units have φ' < 0.05 in 95 % of the steps.

    By itself a note: a trained network may well keep a bit in a saturated unit, and the memory
    of an LSTM does not pass through this tanh. It takes over the severity of the short reach
    that it explains.

    Args:
        share: Least share of saturated units; docs/findings/saturated-units.md.
    """

    code: str = "saturated-units"
    share: float = 0.5

    def __call__(self, flow: GradientFlow, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding for each layer concerned; a ReLU is dead, not saturated."""
        return [
            self._found(name, layer)
            for name, layer in flow.layers.items()
            if layer.kind != "relu"
            and layer.saturated.size
            and layer.saturated.mean() >= self.share
        ]

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain a short reach of the same layer."""
        return symptom.code == "vanishing-gradient" and covers(cause, symptom)

    def _found(self, name: str, layer: LayerFlow) -> Finding:
        saturated, units = int(layer.saturated.sum()), layer.hidden_size
        which = "the slope of the candidate's tanh" if layer.gates else (
            f"the slope of their {'tanh' if layer.kind == 'tanh' else 'activation'}"
        )  # fmt: skip
        return Finding(
            code=self.code,
            severity="note",
            cause=f"{saturated} of {units} units ({percent(saturated / units)}) are saturated: "
            f"{which} is below 0.05 in at least 95 % of the steps",
            layer=name,
            numbers={
                "saturated": saturated,
                "units": units,
                "share": saturated / units,
                "mean_saturation": float(layer.saturation.mean()),
            },
            counter_check="divide the layer's input and biases by 10: if the units leave the flat "
            "ends and the reach stays as it is, saturation is not what ends it",
            remedies=("initialization", "residual", "learning_rate")
            + (() if layer.gates else ("gating",)),
        )
