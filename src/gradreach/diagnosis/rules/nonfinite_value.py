"""Is there a NaN or an infinity, and where did it come from?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradreach.diagnosis.rule import covers
from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.finding import Finding

__all__ = ["NonfiniteValue"]

# What makes it, by where it was seen first. An input or a loss has no treatment: the data or
# the loss function must change.
REMEDIES = {
    "weight": ("learning_rate", "clipping"),  # only an update can make one
    "state": ("initialization", "activation"),
}
COUNTER_CHECKS = {
    "weight": "load the weights of before the last update: if the same batch still gives a NaN or "
    "infinity, the weight is not where it began",
    "input": "replace the named row of the input by zeros: if the NaN or infinity stays, it did "
    "not come from the data",
    "state": "run the named row alone, cut off one step earlier: if a state is already not "
    "finite, the step named is not the first",
    "gradient": "compute the loss of the named row alone: if its gradient with respect to the "
    "layer's output is finite, the loss is not where it began",
    "loss": "compute the loss row by row: if every row is finite, the reduction over rows is to "
    "blame and not a row",
}


@dataclass(frozen=True, slots=True)
class NonfiniteValue:
    """The first NaN or infinity of the batch: layer, step, batch row, parameter.

    Clipping cannot help: the norm of a gradient with a NaN is NaN, and so is every gradient
    scaled by it.
    """

    code: str = "nonfinite-value"

    def __call__(self, flow: GradientFlow, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding at most: all others are consequences of the first."""
        touched = [(name, layer) for name, layer in flow.layers.items() if layer.nonfinite]
        if touched:
            name, layer = _origin(touched)
            return [self._found(name, layer, [other for other, _ in touched])]
        # A watch does not see the value of every loss.
        unknown = flow.meta.get("loss_seen") is False
        return [] if unknown or math.isfinite(flow.loss) else [self._only_the_loss(flow.loss)]

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain everything said about a layer whose numbers a NaN has reached."""
        return covers(cause, symptom)

    def _found(self, name: str, layer: LayerFlow, layers: list[str]) -> Finding:
        first = layer.nonfinite
        assert first is not None
        kind = first.where.split(" ", maxsplit=1)[0]
        return Finding(
            code=self.code,
            severity="error",
            cause=f"{first}, of layer {name}; clipping cannot remove it",
            layer=name,
            steps=None if first.step < 0 else (first.step, first.step),
            numbers={**first.to_dict(), "layers": layers},
            counter_check=COUNTER_CHECKS[kind],
            remedies=REMEDIES.get(kind, ()),
        )

    def _only_the_loss(self, loss: float) -> Finding:
        return Finding(
            code=self.code,
            severity="error",
            cause=f"the loss is {loss}, though every recurrent state and gradient is finite: it "
            "arises after the recurrent layers",
            numbers={"where": "loss", "layers": []},
            counter_check=COUNTER_CHECKS["loss"],
        )


def _origin(touched: list[tuple[str, LayerFlow]]) -> tuple[str, LayerFlow]:
    """Return the layer where it began.

    Forward values spread upwards, so the first layer that has one began; gradients spread
    downwards, so the last one did. A weight is a cause wherever it stands.
    """
    by_kind: dict[str, list[tuple[str, LayerFlow]]] = {}
    for name, layer in touched:
        assert layer.nonfinite is not None
        kind = layer.nonfinite.where.split(" ", maxsplit=1)[0]
        by_kind.setdefault(kind, []).append((name, layer))
    if "weight" in by_kind:
        return by_kind["weight"][0]
    forward = by_kind.get("input", []) + by_kind.get("state", [])
    if forward:
        order = [name for name, _ in touched]
        return min(forward, key=lambda found: order.index(found[0]))
    return by_kind["gradient"][-1]
