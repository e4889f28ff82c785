"""Finds the first NaN or infinity of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradreach.flow.stretches import stretches
from gradreach.records import NonFinite

if TYPE_CHECKING:
    from gradreach.flow.assemble import Swept

__all__ = ["first_nonfinite"]


def first_nonfinite(result: Swept, place: tuple[int, int]) -> NonFinite | None:
    """Return where a layer first met a NaN or infinity, the cause before its effects.

    Weights come first, then inputs and states in the order of the recurrence, then the
    gradient in the order of the backward pass (from the last step on).
    """
    track = result.track
    for name, weight in track.tapes(*place)[0].parameters().items():
        if not (bool(weight.sum().isfinite()) or bool(weight.isfinite().all())):
            return NonFinite(f"weight {name}", -1, -1)
    valid = track.joined([tape.axis.valid for tape in track.tapes(*place)])
    hidden = track.joined([tape.hidden for tape in track.tapes(*place)])
    bad = {"input": _bad(result.inputs(place), valid), "state": _bad(hidden, valid)}
    firsts = [
        (int(where.nonzero()[0, 0]), int(where.nonzero()[0, 1]), name)
        for name, where in bad.items()
        if where.any()
    ]
    if firsts:
        step, row, name = min(firsts, key=lambda found: found[0])
        return NonFinite(name, step, row)
    gradient = ~result.norms[place].isfinite() & valid
    if gradient.any():
        step, row = map(int, gradient.nonzero()[-1])
        return NonFinite("gradient", step, row)
    return None


def _bad(values: Tensor, valid: Tensor) -> Tensor:
    """``(T, B)`` bool: a step and row with something that is no number."""
    # One sum tells that all is well, which it nearly always is.
    if bool(values.sum().isfinite()):
        return torch.zeros_like(valid)
    parts = [values[start:stop].isfinite().all(-1) for start, stop in stretches(len(values))]
    finite = torch.cat(parts)
    return ~finite & valid
