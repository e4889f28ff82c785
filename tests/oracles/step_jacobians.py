"""The reference for state Jacobians: each step written out and differentiated by autograd.

`torch.autograd.functional.jacobian` of one step with respect to the whole state that enters it,
row by row, layer by layer. Nothing here knows how gradreach computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tests.oracles.unrolled import cell_step, kind_of
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

Row = list[np.ndarray]
"""The Jacobians of one sequence's steps, in the order of the recurrence, each `(S, S)`."""


def autograd_jacobians(module: nn.RNNBase, input: Any, hx: Any = None) -> dict[str, list[Row]]:
    """Differentiate every step of a fused module; by layer suffix, then by row of the batch.

    Args:
        module: Without dropout, time first, float64.
        input: `(T, B, I)` or packed.
        hx: Initial state as the user passes it, or None.
    """
    if isinstance(input, PackedSequence):
        padded, lengths = pad_packed_sequence(input)
    else:
        padded, lengths = input, torch.full((input.shape[1],), len(input))
    starts = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
    sequences = [padded[:n, row] for row, n in enumerate(lengths.tolist())]
    result: dict[str, list[Row]] = {}
    place = 0
    for layer in range(module.num_layers):
        outputs: list[list[Tensor]] = []
        for direction in ("", "_reverse") if module.bidirectional else ("",):
            suffix = f"l{layer}{direction}"
            weights = weights_of(module, suffix)
            outputs.append([])
            result[suffix] = []
            for row, sequence in enumerate(sequences):
                start = [part[place, row] for part in starts] or None
                own = sequence.flip(0) if direction else sequence
                states, matrices = run_row(kind_of(module), own, start, weights)
                result[suffix].append(matrices)
                outputs[-1].append(states.flip(0) if direction else states)
            place += 1
        sequences = [torch.cat(parts, dim=1) for parts in zip(*outputs, strict=True)]
    return result


def weights_of(module: nn.Module, suffix: str = "") -> dict[str, Tensor]:
    """The weights of one layer in one direction (or of a cell), by their plain names."""
    ending = f"_{suffix}" if suffix else ""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    named = dict(module.named_parameters())
    return {name: named[name + ending].detach() for name in names if name + ending in named}


def run_row(
    kind: str, sequence: Tensor, start: Sequence[Tensor] | None, weights: dict[str, Tensor]
) -> tuple[Tensor, Row]:
    """Run one sequence and differentiate each step; returns `(T, H)` outputs and the matrices."""
    size = weights["weight_hh"].shape[1]
    parts = 2 if kind == "LSTM" else 1
    state = torch.zeros(parts * size, dtype=torch.float64) if start is None else torch.cat(
        [part.detach() for part in start]
    )  # fmt: skip
    outputs, matrices = [], []
    for x in sequence.detach():

        def step(flat: Tensor, x: Tensor = x) -> Tensor:
            after = cell_step(kind, x[None], list(flat[None].split(size, dim=1)), weights)
            return torch.cat(after, dim=1)[0]

        matrices.append(torch.autograd.functional.jacobian(step, state).numpy())
        state = step(state)
        outputs.append(state[:size])
    return torch.stack(outputs), matrices
