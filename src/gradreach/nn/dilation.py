"""Dilated recurrence: step t follows step t-d, as d sequences that are interleaved.

No kernel knows of it. A sequence of T steps and B rows is T/d steps of d·B rows on the same
memory, a pure view; where d does not divide T, the last step has fewer rows, as in a packed
sequence. Only a batch that is ragged itself must be brought into another order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.kernels import recurrence
from gradreach.kernels.recurrence import CellWeights, Norms, Recurrence

__all__ = ["run_dilated"]

Result = tuple[Tensor, Tensor, Tensor | None]


def run_dilated(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    cell_state: Tensor | None,
    weights: CellWeights,
    batch_sizes: Tensor | None,
    reverse: bool,
    dilation: int,
    norms: Norms | None,
) -> Result:
    """Run one layer whose step back is ``dilation`` steps; otherwise as `recurrence.run`.

    The state given starts each of the interleaved sequences; the state returned is that of
    each row's last step.

    Reference:
        Chang et al. (2017), "Dilated Recurrent Neural Networks", arXiv:1710.02224.
    """
    if batch_sizes is not None:
        plan = Interleaving.of(batch_sizes, dilation, reverse)
        return _ragged(cell, inputs, hidden, cell_state, weights, plan, reverse, norms)
    T, B = inputs.shape[:2]
    ways = min(dilation, T)  # interleaved sequences that have a step at all
    start = hidden.repeat(ways, 1)
    memory = None if cell_state is None else cell_state.repeat(ways, 1)
    whole, rest = divmod(T, ways)
    if rest == 0:
        rows, sizes = inputs.reshape(whole, ways * B, -1), None
    else:
        rows = inputs.reshape(T * B, -1)
        sizes = torch.tensor([ways * B] * whole + [rest * B])
    output, h_n, c_n = recurrence.run(cell, rows, start, memory, weights, sizes, reverse, norms)
    last = 0 if reverse else (T - 1) % ways  # the sequence that the last step belongs to
    ended = slice(last * B, (last + 1) * B)
    return output.reshape(T, B, -1), h_n[ended], None if c_n is None else c_n[ended]


@dataclass(frozen=True)
class Interleaving:
    """The order in which a packed batch's rows stand when it is read with a dilation.

    Shape:
        order: ``(N,)``, where each row of the new packing stood in the old one; sizes: of the
        new packing; source: ``(R,)``, the batch row of each new row; last: ``(B,)``, the new
        row that holds each batch row's last step.
    """

    order: Tensor
    sizes: Tensor
    source: Tensor
    last: Tensor

    @classmethod
    def of(cls, batch_sizes: Tensor, dilation: int, reverse: bool) -> Interleaving:
        """Work the order out; everything on the CPU, where batch sizes live."""
        T, B = len(batch_sizes), int(batch_sizes[0])
        lengths = (torch.arange(B)[None, :] < batch_sizes[:, None]).sum(0)
        phase = torch.arange(dilation).repeat_interleave(B)
        source = torch.arange(B).repeat(dilation)
        own = (lengths[source] - phase + dilation - 1).div(dilation, rounding_mode="floor")
        by_length = own.sort(descending=True, stable=True).indices
        by_length = by_length[: int((own > 0).sum())]
        phase, source, own = phase[by_length], source[by_length], own[by_length]
        sizes = (torch.arange(int(own[0]))[:, None] < own[None, :]).sum(1)
        starts = batch_sizes.cumsum(0) - batch_sizes
        steps = torch.arange(len(sizes))[:, None] * dilation + phase[None, :]  # (K, R)
        places = starts[steps.clamp(max=T - 1)] + source
        order = places[torch.arange(len(own))[None, :] < sizes[:, None]]
        wanted = torch.zeros_like(lengths) if reverse else (lengths - 1) % dilation
        last = torch.empty_like(lengths)
        holds = (phase == wanted[source]).nonzero()[:, 0]
        last[source[holds]] = holds
        return cls(order, sizes, source, last)


def _ragged(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    cell_state: Tensor | None,
    weights: CellWeights,
    plan: Interleaving,
    reverse: bool,
    norms: Norms | None,
) -> Result:
    """Bring the rows into the new order, run them, and bring them back."""
    device = inputs.device
    order, source, last = (part.to(device) for part in (plan.order, plan.source, plan.last))
    output, h_n, c_n = recurrence.run(
        cell,
        inputs[order],
        hidden[source],
        None if cell_state is None else cell_state[source],
        weights,
        plan.sizes,
        reverse,
        norms,
    )
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=device)
    return output[back], h_n[last], None if c_n is None else c_n[last]
