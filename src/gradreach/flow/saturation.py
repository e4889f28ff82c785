"""Saturated and dead units."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradreach.flow.stretches import stretches
from gradreach.kernels.equations import equations_of
from gradreach.kernels.tape import Tape

__all__ = ["dead_units", "saturation_of"]

SLOPE = 0.05  # below a twentieth of its slope at rest a unit passes next to nothing on


def saturation_of(tapes: Sequence[Tape], level: float = SLOPE) -> Tensor:
    """Return for each unit the share of (step, row) with φ' < ``level``, ``(H,)``.

    φ is the cell's own tanh or ReLU; in gated cells the candidate's tanh. Padding is left
    out; NaN counts as not saturated.
    """
    return _share(tapes, lambda slope: slope < level)


def dead_units(tapes: Sequence[Tape]) -> Tensor:
    """Return the units whose φ' is exactly 0 at every (step, row), ``(H,)`` bool."""
    return _share(tapes, lambda slope: slope == 0) == 1


def _share(tapes: Sequence[Tape], test: Callable[[Tensor], Tensor]) -> Tensor:
    hits = torch.zeros(tapes[0].hidden_size, dtype=torch.float64, device=tapes[0].hidden.device)
    count = 0
    for tape in tapes:
        valid = tape.axis.valid
        count += int(valid.sum())
        for start, stop in stretches(tape.axis.steps):
            slope = equations_of(tape.kind).slope(tape, start, stop)
            hits += (test(slope) & valid[start:stop, :, None]).sum((0, 1))
    return hits / max(count, 1)
