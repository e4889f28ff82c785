"""A second opinion on one tape, from torch's own backward through a widened input.

Adding a zero input of width G·H whose weights are the identity makes the gradient of that
input the pre-activation gradient δa, computed by torch's fused kernel instead of by our
scan: ∂L/∂u_k = δa_k. Slower and float32 where the model is; used only where the sum of
contributions does not close.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from gradreach.kernels.reverse_scan import StateFlow
from gradreach.kernels.tape import Tape
from gradreach.kernels.torch_replay import KERNELS

__all__ = ["widened_gradients"]


def widened_gradients(
    tape: Tape, arriving: Callable[[int, int], Tensor] | None, end: StateFlow
) -> tuple[Tensor, list[Tensor]]:
    """Return δa on the input side and the gradient of each weight, by torch's autograd.

    Args:
        arriving: Gradient at the outputs by ``(start, stop)``; end: at the last states.

    Shape:
        returns: ``(T, B, G·H)``, and one tensor per weight of the tape, in torch's order.
    """
    learned = [tensor.detach().clone().requires_grad_() for _, tensor in tape.weights.named()]
    rows, dtype = learned[0].shape[0], learned[0].dtype
    extra = torch.zeros(*tape.inputs.shape[:2], rows, dtype=dtype, device=learned[0].device)
    extra.requires_grad_()
    states = [tape.previous[:1].detach()]
    if tape.kind == "lstm":
        assert tape.previous_cell is not None
        states.append(tape.previous_cell[:1].detach())
    with torch.enable_grad():
        wide = torch.cat([learned[0], torch.eye(rows, dtype=dtype, device=extra.device)], 1)
        sequence = torch.cat([tape.inputs.detach(), extra], -1)
        # Packed, so that a ragged batch ends where its sequences end.
        packed = pack_padded_sequence(sequence, tape.axis.lengths.cpu(), enforce_sorted=False)
        order = packed.sorted_indices
        assert order is not None
        entering = tuple(state.index_select(1, order) for state in states)
        hx: Any = entering if tape.kind == "lstm" else entering[0]
        flags = (len(learned) > 2, 1, 0.0, True, False)
        result = KERNELS[tape.kind](packed.data, packed.batch_sizes, hx, [wide, *learned[1:]],
                                    *flags)  # fmt: skip
    upstream = torch.zeros(*tape.hidden.shape, dtype=dtype, device=extra.device)
    if arriving is not None:
        upstream += arriving(0, tape.axis.steps)[:, 0].to(dtype)
    arrived = pack_padded_sequence(upstream, tape.axis.lengths.cpu(), enforce_sorted=False).data
    gradients = [arrived, end.hidden.index_select(1, order).to(dtype)]
    if end.cell is not None:
        gradients.append(end.cell.index_select(1, order).to(dtype))
    found = torch.autograd.grad(list(result[: len(gradients)]), [extra, *learned], gradients)
    return found[0], list(found[1:])
