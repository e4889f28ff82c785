"""What follows from a layer's recurrent weights alone, and what its data say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradreach.records.array_record import ArrayRecord
from gradreach.records.plain import Array

__all__ = ["Conditions"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Conditions(ArrayRecord):
    """The sufficient and the necessary condition of Pascanu et al. (2013), in words by ``print``.

    They speak of this layer's own recurrence. With |φ'| ≤ γ, σ_max(W_hh) < 1/γ is sufficient
    for long-term gradients to vanish and σ_max(W_hh) > 1/γ is necessary for them to explode;
    the spectral radius decides neither, unless the network is linear. Gated cells have no such
    condition on W_hh: there the gates' product and the Jacobian along the data are reported.

    Attributes:
        kind: ``"tanh"``, ``"relu"``, ``"gru"``, ``"lstm"``.
        verdict: ``"must-vanish"``, ``"cannot-explode"`` (σ_max = 1 within rounding),
            ``"undecided"``, or ``"not-on-weights"`` for gated cells.
        gamma: Bound of |φ'|: 1 for tanh and ReLU; NaN for gated cells.
        spectral_norm: σ_max(W_hh). spectral_radius: ρ(W_hh); NaN for gated cells.
        growth: Nats per step along the data: λ_1, or where the sequences are too short for
            it, ln σ_max(∂s_T/∂s_0)/T. spread: its standard deviation over the sequences.
        growth_of: ``"lyapunov"`` or ``"product"``.
        steps: Steps of the longest sequence.
        sequences: How many were followed. lost: in how many of them nothing of the first state
            is left at all (dead units); they are not in ``growth``.
        gate: ``"f"`` (LSTM), ``"z"`` (GRU) or ``""``.
        gate_keep: ``(H,)`` what the gate alone keeps per step, geometric mean over the data.
        gate_product_log10: ``(H,)`` log10 of its product over a sequence, mean over them.
    """

    kind: str
    verdict: str
    gamma: float
    spectral_norm: float
    spectral_radius: float
    growth: float
    spread: float
    growth_of: str
    steps: int
    sequences: int
    lost: int
    gate: str
    gate_keep: Array
    gate_product_log10: Array

    @property
    def must_vanish(self) -> bool:
        """Whether the weights alone prove that long-term gradients vanish."""
        return self.verdict == "must-vanish"

    @property
    def may_explode(self) -> bool:
        """Whether the necessary condition for exploding is met (always for gated cells)."""
        return self.verdict in ("undecided", "not-on-weights")

    def steps_until(self, level: float = 0.01) -> float:
        """Return the steps after which at most ``level`` can be left; inf where none is proved.

        Example:
            >>> import gradreach as gr, torch
            >>> rnn = torch.nn.RNN(1, 2)
            >>> _ = rnn.weight_hh_l0.data.copy_(torch.diag(torch.tensor([0.5, 0.25])))
            >>> flow = gr.measure(rnn, lambda: rnn(torch.randn(20, 1, 1))[0].sum())
            >>> flow.layers["rnn"].conditions.steps_until(0.01)
            7.0
        """
        if not self.must_vanish:
            return math.inf
        return math.ceil(math.log(level) / math.log(self.spectral_norm)) * 1.0

    def __str__(self) -> str:
        if self.verdict == "must-vanish":
            return self._vanishing()
        if self.verdict == "not-on-weights":
            return self._gated()
        if not math.isfinite(self.spectral_norm):
            return "W_hh holds NaN or infinity: nothing follows."
        sigma = f"σ_max(W_hh) = {self.spectral_norm:.3g}"
        if self.verdict == "cannot-explode":
            return (
                f"{sigma}: gradients cannot explode; whether they vanish, the product along your "
                f"data decides: {self._growth()}."
            )
        return (
            f"{sigma} > 1: nothing follows; the product along your data decides: {self._growth()}."
        )

    def _vanishing(self) -> str:
        if self.spectral_norm == 0:
            return "σ_max(W_hh) = 0 < 1: no gradient passes from one step to the one before."
        near = self.spectral_norm >= 0.995
        shown = f"1 - {1 - self.spectral_norm:.1g}" if near else f"{self.spectral_norm:.2f}"
        steps = self.steps_until(0.01)
        told = (
            f"σ_max(W_hh) = {shown} < 1: long-term gradients must vanish: at most 1 % is left "
            f"after {steps:,.0f} step{'s' * (steps != 1)}"
        )
        if steps > self.steps:
            told += f", more than the {self.steps} of your sequences"
        return f"{told}; along your data: {self._growth()}."

    def _gated(self) -> str:
        lstm = self.gate == "f"
        name = "an LSTM" if lstm else "a GRU"
        told = f"no condition on W_hh holds for {name}"
        if len(self.gate_keep):
            what = "along c alone the forget gates" if lstm else "the keep gates z alone"
            told += (
                f": {what} keep {np.median(self.gate_keep):.3g} per step in the median unit, "
                f"{self.gate_keep.max():.3g} in the most open one "
                f"(10^{self.gate_product_log10.max():.1f} over a sequence)"
            )
        return f"{told}; the full Jacobian along your data: {self._growth()}."

    def _growth(self) -> str:
        if math.isnan(self.growth):
            return "not known"
        if math.isinf(self.growth):
            return "nothing is left (−∞ nats per step)"
        sign = "−" if self.growth < 0 else "+"
        told = f"{sign}{abs(self.growth):.2f} nats per step"
        if self.spread > 0:
            told += f" ± {self.spread:.2g} over {self.sequences - self.lost} sequences"
        told += f", a factor {math.exp(self.growth):.2f} per step"
        return told + (f"; nothing is left in {self.lost} others" if self.lost else "")
