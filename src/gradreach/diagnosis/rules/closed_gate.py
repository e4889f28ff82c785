"""Is the gate closed that should let the memory pass?"""

from __future__ import annotations

from dataclasses import dataclass

from gradreach.diagnosis.rule import covers
from gradreach.diagnosis.wording import percent
from gradreach.records import Gate, GradientFlow, LayerFlow
from gradreach.records.finding import Finding

__all__ = ["MEMORY_GATES", "ClosedGate"]

MEMORY_GATES = {"lstm": ("f", "forget gate"), "gru": ("z", "keep gate")}


@dataclass(frozen=True, slots=True)
class ClosedGate:
    """The forget gate of an LSTM, or the keep gate of a GRU, is closed in half the units.

    By itself a note: the state has a second way back, through the recurrent weights. It takes
    over the severity of the short reach that it explains.

    Args:
        closed: A gate whose mean is below counts as closed.
        share: Least share of units. The source of both: docs/findings/closed-gate.md.
    """

    code: str = "closed-gate"
    closed: float = 0.05
    share: float = 0.5

    def __call__(self, flow: GradientFlow, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding for each layer concerned."""
        found = []
        for name, layer in flow.layers.items():
            letter, _ = MEMORY_GATES.get(layer.kind, ("", ""))
            gate = layer.gates.get(letter)
            if gate is not None and (gate.per_unit < self.closed).mean() >= self.share:
                found.append(self._found(name, layer, gate))
        return found

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain a short reach of the same layer."""
        return symptom.code == "vanishing-gradient" and covers(cause, symptom)

    def _found(self, name: str, layer: LayerFlow, gate: Gate) -> Finding:
        letter, title = MEMORY_GATES[layer.kind]
        closed, units = int((gate.per_unit < self.closed).sum()), layer.hidden_size
        return Finding(
            code=self.code,
            severity="note",
            cause=f"the {title} of {closed} of {units} units is closed: on average "
            f"{percent(gate.mean)} of the memory passes a step",
            layer=name,
            gate=letter,
            numbers={"closed": closed, "units": units, "share": closed / units,
                     "mean": gate.mean},
            counter_check=f"raise the bias of the {title} until it passes 95 % (σ(3)): if the "
            "reach stays as it is, the gate is not what ends it",
            remedies=("initialization", "skip", "residual"),
        )  # fmt: skip
