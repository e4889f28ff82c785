"""Tapes of 16-bit calls, widened so that the float64 scan can run on them.

What a 16-bit pass computed cannot be repeated in float64 step by step: its states are. They
are exact in float32, and so are the weights as the pass used them, so that the tape is the
float32 recurrence linearised at the very states that the user's pass went through. Gates are
computed from those states anew; they differ from the pass's own by one 16-bit rounding.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gradreach.kernels.tape import LayerWeights, Replay, Tape

__all__ = ["HALF", "in_single", "widen_tape"]

HALF = (torch.bfloat16, torch.float16)


def in_single(replay: Replay, autocast: torch.dtype | None) -> None:
    """Widen all tapes of a replay, where it was computed in 16 bits.

    Args:
        autocast: The type that autocast computed the call in; ``None`` outside of it.
    """
    for row in replay.tapes:
        for tape in row:
            widen_tape(tape, autocast)
    replay.masks = [
        mask.float() if mask is not None and mask.dtype in HALF else mask for mask in replay.masks
    ]


def widen_tape(tape: Tape, autocast: torch.dtype | None) -> None:
    """Turn a tape's tensors to float32; its parameters stay known by what was given.

    Args:
        tape: Changed in place; left alone where nothing of it is 16-bit.
        autocast: As for :func:`in_single`.
    """
    weights = tape.weights
    low = autocast if weights.recurrent.dtype == torch.float32 else None  # never casts float64
    if weights.recurrent.dtype in HALF:
        low = weights.recurrent.dtype
    if low is None:
        return

    def rounded(values: Tensor) -> Tensor:
        return values.detach().to(low).float()

    tape.given, tape.precision = tape.parameters(), low
    tape.weights = LayerWeights(
        rounded(weights.input),
        rounded(weights.recurrent),
        None if weights.input_bias is None else rounded(weights.input_bias),
        None if weights.recurrent_bias is None else rounded(weights.recurrent_bias),
        weights.names,
    )
    if tape.extension is not None:  # a projection: what it learns stays known as it was given
        tape.extension = replace(tape.extension.moved(rounded), learned=tape.extension.learned)
    tape.inputs = rounded(tape.inputs)
    # Not rounded: autocast leaves a GRU's states in float32 and rounds where it multiplies.
    tape.previous, tape.hidden = tape.previous.float(), tape.hidden.float()
    if tape.previous_cell is not None:
        tape.previous_cell = tape.previous_cell.float()
    if tape.cell is not None:
        tape.cell = tape.cell.float()
