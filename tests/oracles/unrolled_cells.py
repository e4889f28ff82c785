"""The reference for loops over cells: the loop written out, differentiated by autograd.

As in `unrolled.py`, every step multiplies its own copy of each weight. What leaves a cell for
the loss or for the cell above leaves through a copy of its state, so that the gradient of that
copy is what enters the recurrence at that step from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tests.oracles.unrolled import Chain, LayerReference, cell_step, kind_of, whole_norm
from torch import Tensor, nn


def run_cells(
    cells: Sequence[nn.Module], inputs: Tensor, starts: Sequence[Any] | None = None
) -> list[list[Any]]:
    """Run a stack of cells as a user writes it; every state each cell returned, by cell."""
    states = list(starts) if starts is not None else [None] * len(cells)
    returned: list[list[Any]] = [[] for _ in cells]
    for x in inputs:
        for index, cell in enumerate(cells):
            states[index] = cell(x, states[index])
            returned[index].append(states[index])
            x = states[index][0] if isinstance(states[index], tuple) else states[index]
    return returned


def measure_unrolled_cells(
    cells: Sequence[nn.Module],
    inputs: Tensor,
    loss: Callable[[list[list[Any]]], Tensor],
    *,
    starts: Sequence[Any] | None = None,
    detach_before: Sequence[int] = (),
    dtype: torch.dtype = torch.float64,
) -> list[LayerReference]:
    """Say what a measurement of a loop over stacked cells must give, cell by cell.

    `∂L_t` of a cell enters at the state that it returned at step t: from the loss or from the
    cell above, through whatever the outside made of it.

    Args:
        cells: Bottom first; each reads the h of the one below.
        inputs: `(T, B, I)`.
        loss: Of the states that every cell returned, as `run_cells` lists them.
        starts: Initial state of each cell, as the user passes it.
        detach_before: Steps that begin with the states detached.
        dtype: To compute in.
    """
    recurrent = [_start_of(cell, inputs, index, starts, dtype) for index, cell in enumerate(cells)]
    chains = [Chain(reverse=False) for _ in cells]
    outward: list[list[list[Tensor]]] = [[] for _ in cells]
    for t, x in enumerate(inputs.detach().to(dtype)):
        for index, cell in enumerate(cells):
            weights = {
                name: weight.detach().to(dtype).clone().requires_grad_()
                for name, weight in cell.named_parameters()
            }
            for name, copy in weights.items():
                chains[index].copies.setdefault(name, []).append(copy)
            before = recurrent[index]
            if t in detach_before:
                before = [part.detach() for part in before]
            state = cell_step(kind_of(cell), x, before, weights)
            chains[index].states.append(state)
            recurrent[index] = state
            # What leaves the recurrence leaves through a copy: its gradient is e_t.
            outward[index].append([part.clone() for part in state])
            x = outward[index][-1][0]
    value = loss([[s[0] if len(s) == 1 else tuple(s) for s in states] for states in outward])
    return [_read_cell(chain, out, value) for chain, out in zip(chains, outward, strict=True)]


def _start_of(
    cell: nn.Module, inputs: Tensor, index: int, starts: Sequence[Any] | None, dtype: torch.dtype
) -> list[Tensor]:
    parts = 2 if kind_of(cell) == "LSTM" else 1
    start = None if starts is None else starts[index]
    if start is None:
        return [torch.zeros(inputs.shape[1], cell.hidden_size, dtype=dtype) for _ in range(parts)]
    return [part.detach().to(dtype) for part in (start if parts == 2 else (start,))]


def _read_cell(chain: Chain, outward: list[list[Tensor]], value: Tensor) -> LayerReference:
    letters = "hc"[: len(outward[0])]

    def grad(into: Any, wanted: list[Tensor], cotangents: Any = None) -> list[np.ndarray]:
        got = torch.autograd.grad(into, wanted, cotangents, retain_graph=True, allow_unused=True)
        return [
            (torch.zeros_like(w) if g is None else g).double().numpy()
            for g, w in zip(got, wanted, strict=True)
        ]

    flat_states = [part for state in chain.states for part in state]
    total = grad(value, flat_states)

    def lags(probe: int) -> np.ndarray:
        entering = grad(value, outward[probe])
        cotangents = [torch.from_numpy(e).to(flat_states[0].dtype) for e in entering]
        flat = grad(chain.states[probe], flat_states[: (probe + 1) * len(letters)], cotangents)
        parts = [np.stack(flat[i :: len(letters)]) for i in range(len(letters))]
        norms = whole_norm(np.concatenate(parts, axis=2))
        by_lag = np.full((len(chain.states), norms.shape[1]), np.nan)
        by_lag[: probe + 1] = norms[::-1]
        return by_lag

    return LayerReference(
        {letter: np.stack(total[i :: len(letters)]) for i, letter in enumerate(letters)},
        {name: np.stack(grad(value, copies)) for name, copies in chain.copies.items()},
        lags,
    )
