"""Tapes of every kind of cell, and the same pass unrolled on autograd's own graph."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradreach.kernels.equations import equations_of
from gradreach.kernels.tape import LayerWeights, Tape
from gradreach.kernels.time_axis import TimeAxis

KINDS = ("tanh", "relu", "gru", "lstm")


def cell_of(kind: str, size: int, hidden: int) -> nn.RNNCellBase:
    """Make a float64 cell of a kind."""
    made = {
        "tanh": lambda: nn.RNNCell(size, hidden),
        "relu": lambda: nn.RNNCell(size, hidden, nonlinearity="relu"),
        "gru": lambda: nn.GRUCell(size, hidden),
        "lstm": lambda: nn.LSTMCell(size, hidden),
    }[kind]()
    return made.double()


@dataclass
class Unrolled:
    """A pass on autograd's graph: ``states[k]`` is ``(h_k,)`` or ``(h_k, c_k)``."""

    tape: Tape
    cell: nn.RNNCellBase
    states: list[tuple[Tensor, ...]]
    first: tuple[Tensor, ...]


def unrolled(
    kind: str, lengths: list[int], cuts: Collection[int] = (), size: int = 3, hidden: int = 4
) -> Unrolled:
    """Run a cell over a ragged batch and write its tape; rows go on beyond their end."""
    steps, batch = max(lengths), len(lengths)
    cell = cell_of(kind, size, hidden)
    x = torch.randn(steps, batch, size, dtype=torch.float64)
    parts = 2 if kind == "lstm" else 1
    first = tuple(
        torch.randn(batch, hidden, dtype=torch.float64).mul_(0.3).requires_grad_()
        for _ in range(parts)
    )
    state, states, entering = first, [], []
    for step in range(steps):
        if step in cuts:
            state = tuple(part.detach() for part in state)
        entering.append(state)
        given = state if kind == "lstm" else state[0]
        found = cell(x[step], given)
        state = found if kind == "lstm" else (found,)
        states.append(state)

    def stacked(series: list[tuple[Tensor, ...]], part: int) -> Tensor:
        return torch.stack([each[part].detach() for each in series])

    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [getattr(cell, name) for name in names]
    tape = Tape(
        kind, TimeAxis(steps, torch.tensor(lengths)), LayerWeights(*weights, names), x,
        previous=stacked(entering, 0), hidden=stacked(states, 0), cuts=frozenset(cuts),
    )  # fmt: skip
    if kind == "lstm":
        tape.previous_cell, tape.cell = stacked(entering, 1), stacked(states, 1)
    equations_of(kind).recompute(tape)
    return Unrolled(tape, cell, states, first)


def bits(tape: Tape) -> list[bytes]:
    """Everything a tape holds, as bytes."""
    tensors = [tape.inputs, tape.previous, tape.hidden, tape.previous_cell, tape.cell]
    tensors += [*tape.activations.values(), *(weight for _, weight in tape.weights.named())]
    return [each.detach().numpy().tobytes() for each in tensors if each is not None]
