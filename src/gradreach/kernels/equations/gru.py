"""torch's GRU: h_k = (1 - z) n + z h_{k-1}, n = tanh(W_in x + b_in + r (W_hn h_{k-1} + b_hn))."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.kernels.equations.cell import Coefficients, pre_activation
from gradreach.kernels.native.gates import open_gru
from gradreach.kernels.tape import Tape

__all__ = ["GRU"]


@dataclass(frozen=True)
class GRU:
    """The gated recurrent unit with the reset gate on the recurrent side, as in cuDNN."""

    gates: tuple[str, ...] = ("r", "z")

    def recompute(self, tape: Tape) -> None:
        """Add r, z, n and q = W_hn h_{k-1} + b_hn."""
        weights, size = tape.weights, tape.hidden_size
        from_input = pre_activation((tape.inputs, weights.input, weights.input_bias))
        from_state = pre_activation((tape.previous, weights.recurrent, weights.recurrent_bias))
        recurrent = open_gru(from_input, from_state)
        if recurrent is not None:
            reset, update, candidate = from_input.chunk(3, -1)
            tape.activations.update(r=reset, z=update, n=candidate, q=recurrent)
            return
        gates = (from_input[..., : 2 * size] + from_state[..., : 2 * size]).sigmoid_()
        reset, update = gates.chunk(2, -1)
        recurrent = from_state[..., 2 * size :].clone()  # frees the two thirds not needed
        candidate = torch.addcmul(from_input[..., 2 * size :], reset, recurrent).tanh_()
        tape.activations.update(r=reset, z=update, n=candidate, q=recurrent)

    def coefficients(self, tape: Tape, start: int, stop: int) -> Coefficients:
        """δn = δh (1 - z), δz = δh (h_{k-1} - n); r acts on q only, hence two candidate terms."""
        part = {name: value[start:stop].double() for name, value in tape.activations.items()}
        reset, update, new = part["r"], part["z"], part["n"]
        candidate = (1.0 - update) * (1.0 - new * new)
        previous = tape.previous[start:stop].double()
        recurrent = torch.stack(
            [
                candidate * part["q"] * reset * (1.0 - reset),
                (previous - new) * update * (1.0 - update),
                candidate * reset,
            ],
            dim=2,
        )
        return Coefficients(recurrent, carry=update, candidate=candidate)

    def slope(self, tape: Tape, start: int, stop: int) -> Tensor:
        """1 - n²."""
        new = tape.activations["n"][start:stop].double()
        return 1.0 - new * new
