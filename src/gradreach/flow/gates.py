"""How open the gates of a gated layer are."""

from __future__ import annotations

import torch

from gradreach.flow.track import Track
from gradreach.kernels.equations import equations_for
from gradreach.kernels.native.rows import unit_sums
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
    gates = {}
    for name in equations_for(tapes[0]).gates:
        sums = None
        if tapes[0].kept is not None:
            sums = tapes[0].kept.sums(name, track.lengths())
        else:
            values = track.joined([tape.activations[name] for tape in tapes])
            sums = unit_sums(values, track.lengths())
        if sums is not None:
            mean = sums.per_step / tapes[0].units / count
            per_unit = sums.per_unit / count.sum()
            gates[name] = Gate(per_unit.numpy(), mean[:longest].numpy())
            continue
        kept = torch.where(valid[..., None], values, 0.0)
        per_unit = kept.sum((0, 1), dtype=torch.float64) / count.sum()
        per_step = kept.mean(2, dtype=torch.float64).sum(1) / count
        gates[name] = Gate(per_unit.cpu().numpy(), per_step[:longest].cpu().numpy())
    return gates
