"""How strongly the state depends on the recurrent weights: ‖dh_t/dW_hh‖ over the steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradreach.flow.along_data import CHUNK, state_size
from gradreach.flow.chosen_rows import chosen_rows, remarks
from gradreach.kernels.jacobian_products import jacobians_of, rows_of
from gradreach.kernels.tape import Tape
from gradreach.records import StateSensitivity

__all__ = ["ALL_ENTRIES", "state_sensitivity"]

ALL_ENTRIES = 1024  # entries of W_hh up to which each is a direction of its own
MEMORY = 64 * 2**20  # bytes of directions of W_hh in memory at once


def state_sensitivity(tape: Tape, rows: Tensor, sequences: int, tangents: int) -> StateSensitivity:
    """Return ‖dh_t/dW_hh‖_F for each step, all paths.

    A change dW of the weights moves the state by ``ds_t = J_t ds_{t-1} + ∂⁺s_t[dW]``, in which
    ∂⁺ holds the incoming state still. The sum of ‖dh_t[dW]‖² over the unit matrices dW is the
    squared norm; its mean over random dW of standard normal entries is the same number.

    Args:
        rows: Rows without NaN. sequences: Most of them to follow.
        tangents: Random directions to follow where W_hh has more than 1,024 entries.
    """
    chosen = chosen_rows(tape, rows, sequences)
    own, notes = rows_of(tape, chosen), remarks(tape, rows)
    if tape.cuts:
        notes.append("counted anew wherever the state is changed between steps (masked, …)")
    entries = own.weights.recurrent.numel()
    exact = entries <= ALL_ENTRIES
    count, steps = entries if exact else tangents, own.axis.steps
    # Per step and sequence, over the directions: ‖dh_t[dW]‖² and its square, from which the
    # standard error comes.
    sums = torch.zeros(2, steps, len(chosen), dtype=torch.float64)
    group = max(1, MEMORY // (8 * entries))
    generator = torch.Generator().manual_seed(0)
    for first in range(0, count, group) if len(chosen) else ():
        width = min(group, count - first)
        _follow(own, _directions(own, first, width, exact, generator), sums)
    scale = 1.0 if exact else 1.0 / count
    valid = own.axis.valid
    squares = torch.where(valid, sums[0] * scale, torch.nan)
    alone = torch.where(valid, _immediate(own), torch.nan)
    states = torch.where(valid, own.hidden.double().square().sum(-1), torch.nan)
    return StateSensitivity(
        norms=squares.nanmean(1).sqrt().numpy(),
        immediate=alone.nanmean(1).sqrt().numpy(),
        state_norms=states.nanmean(1).sqrt().numpy(),
        weight_norm=float(own.weights.recurrent.double().norm()),
        sequences=chosen.numpy(),
        tangents=count,
        exact=exact,
        standard_error=0.0 if exact else _standard_error(sums, valid, count),
        notes=tuple(notes),
    )


def _directions(
    tape: Tape, first: int, width: int, exact: bool, generator: torch.Generator
) -> Tensor:
    """Return changes of W_hh, ``(G·H, H, width)``: unit matrices, or random ones."""
    gates, hidden = tape.weights.recurrent.shape
    if not exact:
        return torch.randn(gates, hidden, width, generator=generator, dtype=torch.float64)
    unit = torch.zeros(gates * hidden, width, dtype=torch.float64)
    unit[torch.arange(first, first + width), torch.arange(width)] = 1.0
    return unit.view(gates, hidden, width)


def _follow(tape: Tape, directions: Tensor, sums: Tensor) -> None:
    """Add one group of directions to the sums over directions."""
    batch, hidden, width = tape.axis.batch, tape.hidden_size, directions.shape[-1]
    moved = torch.zeros(batch, state_size(tape), width, dtype=torch.float64)
    for start in range(0, tape.axis.steps, CHUNK):
        stop = min(start + CHUNK, tape.axis.steps)
        jacobians = jacobians_of(tape, start, stop)
        previous = tape.previous[start:stop].double()
        for step in range(start, stop):
            if step in tape.cuts:
                moved = torch.zeros_like(moved)
            drive = torch.einsum("ghk,bh->bgk", directions, previous[step - start])
            drive = drive.view(batch, -1, hidden, width)  # (B, G, H, k)
            moved = jacobians[step - start].apply(moved, drive)
            squares = moved[:, :hidden].square().sum(1)  # (B, k)
            sums[0, step] += squares.sum(-1)
            sums[1, step] += squares.square().sum(-1)


def _immediate(tape: Tape) -> Tensor:
    """Return ‖∂⁺h_t/∂W_hh‖² of each step alone, ``(T, B)``: ∂⁺h_t/∂W is (∂h_t/∂a) h_{t-1}ᵀ."""
    squares = []
    for start in range(0, tape.axis.steps, CHUNK):
        stop = min(start + CHUNK, tape.axis.steps)
        slopes = jacobians_of(tape, start, stop).of_hidden().square().sum((-2, -1))
        squares.append(slopes * tape.previous[start:stop].double().square().sum(-1))
    return torch.cat(squares)


def _standard_error(sums: Tensor, valid: Tensor, count: int) -> float:
    """Return the largest relative standard error of the norms over the steps."""
    if count < 2:
        return math.inf
    mean = sums[0] / count
    variance = ((sums[1] / count - mean.square()) * count / (count - 1)).clamp(min=0)
    relative = (variance / count).sqrt() / (2 * mean)  # of a root: half that of its square
    known = valid & (mean > 0)
    return float(relative[known].max()) if bool(known.any()) else 0.0
