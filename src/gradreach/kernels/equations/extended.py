"""The cells of our own layers: torch's equations with any activation and any steps between.

Scale and skips act on what the cell returns and are the scan's business; here stands u_t, made
of x_t and the state that enters the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.kernels.equations.cell import Coefficients, pre_activation
from gradreach.kernels.extension import Extension
from gradreach.kernels.tape import Tape

__all__ = ["Extended", "activation_shift", "activation_slope", "fresh_states"]

GATES = {"rnn": (), "gru": ("r", "z"), "lstm": ("i", "f", "o")}


@dataclass(frozen=True)
class Extended:
    """The equations of one tape with an extension.

    ``activations["a"]`` is what φ is applied to: of the candidate, in a gated cell.
    """

    extension: Extension

    @property
    def gates(self) -> tuple[str, ...]:
        """Letters of the gates, in torch's order."""
        return GATES[self.extension.cell.kind]

    def recompute(self, tape: Tape) -> None:
        """Add the gates, φ and its argument, and the cell states."""
        numbers, kind = self.extension.numbers, self.extension.cell.kind
        of_input = (tape.inputs, numbers.input, numbers.input_bias)
        of_state = (tape.previous, numbers.recurrent, numbers.recurrent_bias)
        if kind == "rnn":
            tape.activations["a"] = pre_activation(of_input, of_state)
        elif kind == "gru":
            self._open_gru(tape, pre_activation(of_input), pre_activation(of_state))
        else:
            self._open_lstm(tape, pre_activation(of_input, of_state))

    def _open_gru(self, tape: Tape, from_input: Tensor, from_state: Tensor) -> None:
        size = tape.hidden_size
        gates = (from_input[..., : 2 * size] + from_state[..., : 2 * size]).sigmoid_()
        reset, update = gates.chunk(2, -1)
        recurrent = from_state[..., 2 * size :].clone()
        argument = torch.addcmul(from_input[..., 2 * size :], reset, recurrent)
        new = self._phi(argument)
        tape.activations.update(r=reset, z=update, n=new, q=recurrent, a=argument)

    def _open_lstm(self, tape: Tape, total: Tensor) -> None:
        i, f, argument, o = total.chunk(4, -1)
        i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()
        tape.activations.update(i=i, f=f, g=self._phi(argument), o=o, a=argument.clone())
        if tape.cell is None:
            _scan_cells(tape, self.extension.dilation)

    def coefficients(self, tape: Tape, start: int, stop: int) -> Coefficients:
        """As torch's cells have them, with φ' at its argument."""
        slope, kind = self.slope(tape, start, stop), self.extension.cell.kind
        if kind == "rnn":
            return Coefficients(slope[:, :, None])
        part = {name: value[start:stop].double() for name, value in tape.activations.items()}
        if kind == "gru":
            r, z = part["r"], part["z"]
            candidate = (1.0 - z) * slope
            previous = tape.previous[start:stop].double()
            reset = candidate * part["q"] * r * (1.0 - r)
            update = (previous - part["n"]) * z * (1.0 - z)
            recurrent = torch.stack([reset, update, candidate * r], 2)
            return Coefficients(recurrent, carry=z, candidate=candidate)
        i, f, g, o = (part[name] for name in "ifgo")
        assert tape.cell is not None
        assert tape.previous_cell is not None
        cell, before = tape.cell[start:stop], tape.previous_cell[start:stop].double()
        shown = self._phi(cell).double()
        recurrent = torch.stack(
            [g * i * (1.0 - i), before * f * (1.0 - f), i * slope, shown * o * (1.0 - o)], 2
        )
        through = o * activation_slope(self.extension, cell, tape.axis.valid[start:stop])
        return Coefficients(recurrent, carry=f, cell_from_hidden=through)

    def slope(self, tape: Tape, start: int, stop: int) -> Tensor:
        """φ' at its argument, by torch's choice at a kink; 0 beyond a row's end."""
        argument = tape.activations["a"][start:stop]
        return activation_slope(self.extension, argument, tape.axis.valid[start:stop])

    def _phi(self, argument: Tensor) -> Tensor:
        with torch.no_grad():
            return self.extension.cell.activation(argument, self._bias())

    def _bias(self) -> Tensor | None:
        bias = self.extension.numbers.activation_bias
        return None if bias is None else bias.detach()


def activation_slope(extension: Extension, argument: Tensor, valid: Tensor) -> Tensor:
    """Return φ' in float64, ``(K, B, H)``; 0 where ``valid`` ``(K, B)`` is not.

    A user's function is differentiated in the dtype it runs in: it may hold tensors of its own.
    """
    activation, bias = extension.cell.activation, extension.numbers.activation_bias
    if activation.custom is not None:
        slope = activation.derivative(argument).double()
    else:
        own = None if bias is None else bias.detach().double()
        slope = activation.derivative(argument.double(), own)
    # What stands in the padding is no value of the layer: φ' of it may be NaN.
    return torch.where(valid[..., None], slope, 0.0)


def fresh_states(tape: Tape) -> Tensor:
    """Return u_t, the cell's result before scale and skips, ``(T, B, H)`` in the user's dtype."""
    assert tape.extension is not None
    cell, part = tape.extension.cell, tape.activations
    own = Extended(tape.extension)
    if cell.kind == "rnn":
        return own._phi(part["a"])
    if cell.kind == "gru":
        return torch.lerp(part["n"], tape.previous, part["z"])
    assert tape.cell is not None
    return part["o"] * own._phi(tape.cell)


def activation_shift(tape: Tape) -> tuple[Tensor, Tensor | None]:
    """Return what a bias inside φ moves in h_t and in c_t directly, ``(T, B, H)``.

    Only modReLU has one: φ(a) = sign(a)·relu(|a| + b), so ∂φ/∂b = sign(a) where it is on.
    """
    assert tape.extension is not None
    numbers, part = tape.extension.numbers, tape.activations
    bias = numbers.activation_bias
    assert bias is not None

    def shift(argument: Tensor) -> Tensor:
        return argument.sign() * (argument.abs() + bias > 0)

    inner, scale = shift(part["a"]), 1.0 if numbers.scale is None else numbers.scale.detach()
    if tape.extension.cell.kind == "rnn":
        return inner * scale, None
    if tape.extension.cell.kind == "gru":
        return inner * (1.0 - part["z"]) * scale, None
    assert tape.cell is not None
    return part["o"] * shift(tape.cell) * scale, part["i"] * inner


def _scan_cells(tape: Tape, every: int) -> None:
    """Rebuild c from c_0, ``every`` steps at once, for each follows the one ``every`` before."""
    assert tape.previous_cell is not None
    part, steps = tape.activations, len(tape.inputs)
    first = tape.previous_cell[:1].detach()
    states = first.new_empty(steps, *first.shape[1:])
    cell = first.double().expand(every, *first.shape[1:])
    for start in range(0, steps, every):
        stop = min(start + every, steps)
        gain = part["i"][start:stop].double() * part["g"][start:stop]
        cell = torch.addcmul(gain, part["f"][start:stop].double(), cell[: stop - start])
        states[start:stop] = cell
    begun = first.expand(every, *first.shape[1:])
    tape.previous_cell, tape.cell = torch.cat([begun, states])[:steps], states
