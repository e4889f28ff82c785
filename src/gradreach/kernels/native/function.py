"""The native kernels under autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradreach.kernels.native import invocation
from gradreach.kernels.native.remembering import Forward, remembered
from gradreach.kernels.native.statistics import Listener, asked_for, statistics_for, tell
from gradreach.kernels.recurrence import CellWeights, Recurrence

__all__ = ["run_native"]


def run_native(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    cell_state: Tensor | None,
    weights: CellWeights,
    batch_sizes: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one layer, with a graph where somebody may ask for gradients."""
    operands = (inputs, hidden, cell_state, *weights)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in operands):
        result: Any = NativeLayer.apply(  # type: ignore[no-untyped-call]
            cell, batch_sizes, reverse, *operands
        )
        return result[0], result[1], result[2] if cell_state is not None else None
    output, hidden_n, cell_n, _ = invocation.forward(
        cell, inputs, hidden, cell_state, weights, batch_sizes, reverse, keep=False
    )
    return output, hidden_n, cell_n


class NativeLayer(torch.autograd.Function):
    """One layer in one direction; its backward is native, that backward's own is the reference."""

    @staticmethod
    def forward(
        ctx: Any,
        cell: Recurrence,
        batch_sizes: Tensor | None,
        reverse: bool,
        inputs: Tensor,
        hidden: Tensor,
        cell_state: Tensor | None,
        *weights: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        """Run it and remember what the backward needs."""
        output, hidden_n, cell_n, kept = invocation.forward(
            cell,
            inputs,
            hidden,
            cell_state,
            CellWeights(*weights),  # type: ignore[arg-type]
            batch_sizes,
            reverse,
            keep=True,
        )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs, hidden, cell_state, *weights, output)
        ctx.cell, ctx.batch_sizes, ctx.reverse = cell, batch_sizes, reverse
        ctx.kept, ctx.listeners = kept, asked_for()
        if (forwards := remembered()) is not None:
            dense = batch_sizes is None and not reverse
            made = Forward(cell, kept, inputs, hidden, cell_state, output, dense, [])
            forwards.append(made)
            ctx.listeners = (*ctx.listeners, Listener(made.told))
        return (output, hidden_n) if cell_n is None else (output, hidden_n, cell_n)

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run it backwards; in a graph of its own where a second derivative is wanted."""
        inputs, hidden, cell_state, *weights, output = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            operands = (inputs, hidden, cell_state, *weights)
            return (None, None, None, *_differentiable(ctx, operands, arriving, wanted))
        statistics = statistics_for(ctx.listeners, ctx.cell.kind, output, hidden.shape[1])
        given = (*arriving, None)[:3]
        gradients = invocation.backward(
            ctx.kept,
            (inputs, hidden, cell_state, CellWeights(*weights)),
            output,
            given,  # type: ignore[arg-type]
            wanted,
            statistics,
        )
        tell(ctx.listeners, statistics)
        return (None, None, None, *gradients[:3], *gradients.weights)


def _differentiable(
    ctx: Any,
    operands: tuple[Tensor | None, ...],
    arriving: tuple[Tensor | None, ...],
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """Return the gradients with a graph, from plain torch operations."""
    from gradreach.kernels import reference

    # Fresh nodes over the user's own tensors: what is differentiated here is this call alone.
    given = [None if x is None else x.view_as(x) for x in operands]
    asked = [x for x, want in zip(given, wanted, strict=True) if want and x is not None]
    inputs, hidden, cell_state, *weights = given
    assert inputs is not None
    assert hidden is not None
    results = reference.run(
        ctx.cell,
        inputs,
        hidden,
        cell_state,
        CellWeights(*weights),  # type: ignore[arg-type]
        ctx.batch_sizes,
        ctx.reverse,
    )
    pairs = [
        (result, gradient)
        for result, gradient in zip(results, arriving, strict=False)
        if result is not None and gradient is not None
    ]
    found = torch.autograd.grad(
        [result for result, _ in pairs],
        asked,
        [gradient for _, gradient in pairs],
        create_graph=True,
        allow_unused=True,
    )
    left = iter(found)
    return [
        next(left) if want and x is not None else None
        for x, want in zip(given, wanted, strict=True)
    ]
