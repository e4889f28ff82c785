"""Saturated and dead units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradreach.flow.stretches import stretches
from gradreach.kernels.equations import equations_for
from gradreach.kernels.native.rows import slopes_below
from gradreach.kernels.tape import Tape

__all__ = ["dead_units", "saturated_and_dead", "saturation_of"]

SLOPE = 0.05  # below a twentieth of its slope at rest a unit passes next to nothing on


def saturation_of(tapes: Sequence[Tape], level: float = SLOPE) -> Tensor:
    """Return for each unit the share of (step, row) with φ' < ``level``, ``(H,)``.

    φ is the cell's own tanh or ReLU; in gated cells the candidate's tanh. Padding is left
    out; NaN counts as not saturated.
    """
    return _shares(tapes, level)[0]


def dead_units(tapes: Sequence[Tape]) -> Tensor:
    """Return the units whose φ' is exactly 0 at every (step, row), ``(H,)`` bool."""
    return _shares(tapes, SLOPE)[1] == 1


def saturated_and_dead(tapes: Sequence[Tape]) -> tuple[Tensor, Tensor]:
    """Return :func:`saturation_of` and :func:`dead_units` of one look at the states, or of none.

    The backward of our own layers has counted on its way.
    """
    if len(tapes) == 1 and (told := tapes[0].told) is not None:
        return told.slope_low / max(told.rows, 1), told.slope_max == 0
    low, zero = _shares(tapes, SLOPE)
    return low, zero == 1


def _shares(tapes: Sequence[Tape], level: float) -> tuple[Tensor, Tensor]:
    """Return the shares of (step, row) with φ' < ``level`` and with φ' = 0."""
    low = torch.zeros(tapes[0].units, dtype=torch.float64, device=tapes[0].hidden.device)
    zero, count = torch.zeros_like(low), 0
    for tape in tapes:
        count += int(tape.axis.lengths.sum())
        own = None
        if tape.extension is None:  # else φ' is not told by the cell's output
            own = slopes_below(_output(tape), tape.axis.lengths, level, relu=tape.kind == "relu")
        below, none = _counted(tape, level) if own is None else own
        low += below
        zero += none
    return low / max(count, 1), zero / max(count, 1)


def _output(tape: Tape) -> Tensor:
    """Return the outputs of the cell's own nonlinearity, ``(T, B, H)``."""
    name = {"gru": "n", "lstm": "g"}.get(tape.kind)
    return tape.hidden if name is None else tape.activations[name]


def _counted(tape: Tape, level: float) -> tuple[Tensor, Tensor]:
    valid = tape.axis.valid
    low = torch.zeros(tape.units, dtype=torch.float64, device=tape.hidden.device)
    zero = torch.zeros_like(low)
    for start, stop in stretches(tape.axis.steps):
        slope = equations_for(tape).slope(tape, start, stop)
        exists = valid[start:stop, :, None]
        low += ((slope.abs() < level) & exists).sum((0, 1))
        zero += ((slope == 0) & exists).sum((0, 1))
    return low, zero
