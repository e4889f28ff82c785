"""The gates and cell states that a native forward has left, read where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.kernels.native.invocation import Kept
from gradreach.kernels.native.rows import UnitSums, gate_sums_at
from gradreach.kernels.native.series import Place

__all__ = ["KeptGates"]

# Where csrc/layer.h keeps the gates of a vector of units: each a vector, one after the other.
ORDER = {"gru": {"n": 0, "r": 1, "z": 2, "q": 3}, "lstm": {"i": 0, "f": 1, "g": 2, "o": 3}}
GROUP = 4


@dataclass(frozen=True)
class KeptGates:
    """What the forward of one GRU or LSTM layer left: ``rows`` of all gates, then c of an LSTM.

    Args:
        kind: ``"gru"`` or ``"lstm"``.
        kept: The call and its memory, alive as long as this.
        first_cell: c before the first step, ``(B, H)`` contiguous; ``None`` for a GRU.
    """

    kind: str
    kept: Kept
    steps: int
    batch: int
    size: int
    dtype: torch.dtype
    first_cell: Tensor | None

    @property
    def lanes(self) -> int:
        """Units of one gate that lie next to each other."""
        return int(self.kept.call.lanes)

    @property
    def spread(self) -> int:
        """Elements from one such group to the next."""
        return GROUP * self.lanes

    @property
    def row(self) -> int:
        """Elements from one row of a step to the next."""
        return int(self.kept.call.reserve_bytes(1, False)) // self.dtype.itemsize

    def gate(self, name: str) -> Place:
        """Return where a gate begins, and its strides of steps and rows."""
        return self._place(ORDER[self.kind][name] * self.lanes)

    def cells(self) -> tuple[Place, Place]:
        """Return where c of each step begins, and c of the step before it.

        The one before the first step is `first_cell`: what the address says there is not read.
        """
        after = self._place(-(-self.size // self.lanes) * self.spread)
        return after, (after[0] - self.batch * self.row * self.dtype.itemsize, *after[1:])

    def sums(self, lengths: Tensor) -> dict[str, UnitSums]:
        """Return the sums of each gate over the rows that exist."""
        shape = (self.dtype is torch.float64, self.steps, self.batch, self.size)
        found = gate_sums_at(self._place(0), shape, lengths, GROUP, self.lanes, self.spread)
        return {name: found[at] for name, at in ORDER[self.kind].items()}

    def _place(self, at: int) -> Place:
        return self.kept.address + at * self.dtype.itemsize, self.batch * self.row, self.row
