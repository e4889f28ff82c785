"""torch's LSTM: c_k = f c_{k-1} + i g, h_k = o tanh(c_k); gate order i, f, g, o."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.kernels.equations.cell import Coefficients, pre_activation
from gradreach.kernels.native.gates import open_lstm
from gradreach.kernels.tape import Tape

__all__ = ["LSTM"]


@dataclass(frozen=True)
class LSTM:
    """Long short-term memory with forget gate, without peepholes or projection."""

    gates: tuple[str, ...] = ("i", "f", "o")

    def recompute(self, tape: Tape) -> None:
        """Add i, f, g, o and, where only ``c_0`` is known, the cell states."""
        weights = tape.weights
        total = pre_activation(
            (tape.inputs, weights.input, weights.input_bias),
            (tape.previous, weights.recurrent, weights.recurrent_bias),
        )
        first = None
        if tape.cell is None and tape.previous_cell is not None:
            first = tape.previous_cell[0].detach()
        opened, states = open_lstm(total, first)
        i, f, g, o = total.chunk(4, -1)
        if opened:
            tape.activations.update(i=i, f=f, g=g, o=o)
            if states is not None:
                tape.previous_cell, tape.cell = states[:-1], states[1:]
            return
        tape.activations.update(i=i.sigmoid_(), f=f.sigmoid_(), g=g.tanh_(), o=o.sigmoid_())
        if tape.cell is None:
            _scan_cells(tape)

    def coefficients(self, tape: Tape, start: int, stop: int) -> Coefficients:
        """δc gathers δh through tanh(c); i, f, g are driven by δc, o by δh."""
        i, f, g, o = (tape.activations[name][start:stop].double() for name in "ifgo")
        assert tape.cell is not None
        assert tape.previous_cell is not None
        squashed = tape.cell[start:stop].double().tanh()
        recurrent = torch.stack(
            [
                g * i * (1.0 - i),
                tape.previous_cell[start:stop].double() * f * (1.0 - f),
                i * (1.0 - g * g),
                squashed * o * (1.0 - o),
            ],
            dim=2,
        )
        return Coefficients(recurrent, carry=f, cell_from_hidden=o * (1.0 - squashed * squashed))

    def slope(self, tape: Tape, start: int, stop: int) -> Tensor:
        """1 - g², of the candidate."""
        candidate = tape.activations["g"][start:stop].double()
        return 1.0 - candidate * candidate


def _scan_cells(tape: Tape, chunk: int = 64) -> None:
    """Rebuild c_1 … c_T from c_0; float64 inside, kept in the user's dtype."""
    assert tape.previous_cell is not None
    steps, like = len(tape.inputs), tape.hidden
    states = torch.empty((steps + 1, *like.shape[1:]), dtype=like.dtype, device=like.device)
    states[0] = tape.previous_cell[0]
    cell = states[0].double()
    for start in range(0, steps, chunk):
        stop = min(start + chunk, steps)
        forget = tape.activations["f"][start:stop].double()
        gain = tape.activations["i"][start:stop].double() * tape.activations["g"][start:stop]
        for step in range(stop - start):
            cell = torch.addcmul(gain[step], forget[step], cell, out=gain[step])
        states[start + 1 : stop + 1] = gain
    tape.previous_cell, tape.cell = states[:-1], states[1:]
