"""h_k = φ(W_ih x_k + b_ih + W_hh h_{k-1} + b_hh), φ = tanh or ReLU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.kernels.equations.cell import Coefficients
from gradreach.kernels.tape import Tape

__all__ = ["RNN"]


@dataclass(frozen=True)
class RNN:
    """The simple recurrent cell; its only activation is its state."""

    nonlinearity: str
    gates: tuple[str, ...] = ()

    def recompute(self, tape: Tape) -> None:
        """Nothing to add: φ' is a function of h."""

    def coefficients(self, tape: Tape, start: int, stop: int) -> Coefficients:
        """δa = δh · φ'(a); the past gets δa W_hh."""
        return Coefficients(self.slope(tape, start, stop)[:, :, None])

    def slope(self, tape: Tape, start: int, stop: int) -> Tensor:
        """1 - h² for tanh; for ReLU 1 where h > 0, else 0 (torch's choice at the kink)."""
        hidden = tape.hidden[start:stop].double()
        if self.nonlinearity == "relu":
            # NaN must stay NaN: a comparison would turn it into a silent 0.
            return torch.where(hidden.isnan(), hidden, (hidden > 0).double())
        return 1.0 - hidden * hidden
