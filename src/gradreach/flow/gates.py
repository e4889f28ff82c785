"""How open the gates of a gated layer are."""

from __future__ import annotations

import torch
from torch import Tensor

from gradreach.flow.track import Track
from gradreach.kernels.equations import equations_for
from gradreach.kernels.native.rows import UnitSums, unit_sums
from gradreach.kernels.tape import Tape
from gradreach.records import Gate

__all__ = ["gates_of"]


def gates_of(track: Track, place: tuple[int, int]) -> dict[str, Gate]:
    """Return the mean openness of each gate, per unit and per step; padding is left out.

    LSTM: input ``i``, forget ``f``, output ``o``. GRU: reset ``r`` and ``z``, which is the
    share of the old state that is kept.
    """
    tapes = track.tapes(*place)
    valid = track.joined([tape.axis.valid for tape in tapes])
    count = valid.sum(1).double()
    longest = int((count > 0).sum())
    left = {} if tapes[0].kept is None else tapes[0].kept.sums(track.lengths())
    gates = {}
    for name in equations_for(tapes[0]).gates:
        sums = left[name] if name in left else _summed(track, tapes, name, valid)
        mean = sums.per_step / tapes[0].units / count
        per_unit = sums.per_unit / count.sum()
        gates[name] = Gate(per_unit.cpu().numpy(), mean[:longest].cpu().numpy())
    return gates


def _summed(track: Track, tapes: list[Tape], name: str, valid: Tensor) -> UnitSums:
    """Sum a gate over the rows that exist, natively where the core takes it."""
    values = track.joined([tape.activations[name] for tape in tapes])
    if (sums := unit_sums(values, track.lengths())) is not None:
        return sums
    existing = torch.where(valid[..., None], values, 0.0)
    per_unit = existing.sum((0, 1), dtype=torch.float64)
    return UnitSums(per_unit, existing.sum((1, 2), dtype=torch.float64))
