"""Which sequences of a batch are followed where following all would cost too much."""

from __future__ import annotations

import torch
from torch import Tensor

from gradreach.kernels.tape import Tape

__all__ = ["chosen_rows", "remarks"]


def chosen_rows(tape: Tape, rows: Tensor, wanted: int, shortest: int = 1) -> Tensor:
    """Return at most ``wanted`` of ``rows`` with ``shortest`` steps or more, evenly spread.

    Example:
        >>> from gradreach.kernels.time_axis import TimeAxis
        >>> from types import SimpleNamespace
        >>> tape = SimpleNamespace(axis=TimeAxis(9, torch.tensor([9, 2, 9, 9, 9, 9])))
        >>> chosen_rows(tape, torch.arange(6), wanted=3, shortest=5)
        tensor([0, 3, 5])
    """
    rows = rows[tape.axis.lengths[rows] >= shortest]
    if len(rows) <= wanted:
        return rows
    places = torch.linspace(0, len(rows) - 1, wanted, dtype=torch.float64).round().long()
    return rows[places]


def remarks(tape: Tape, rows: Tensor) -> list[str]:
    """Say which rows cannot be followed at all."""
    left_out = tape.axis.batch - len(rows)
    if not left_out:
        return []
    return [f"{left_out} of {tape.axis.batch} sequences hold NaN or infinity and were left out"]
