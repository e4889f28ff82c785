"""The native kernels as operators of torch, for `torch.compile`: one node of a graph each.

Eager code does not come here: an autograd.Function calls the core with less on the way. The
operators take plain numbers in place of a `Recurrence`, their reserve is a tensor, and their
fake kernels tell a compiler all shapes.

`torch.ops.gradreach.recurrence` and `.recurrence_backward` are registered on import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradreach.kernels.activations import Activation
from gradreach.kernels.native import invocation
from gradreach.kernels.native.core import load, why_not_loaded
from gradreach.kernels.native.statistics import asked_for, statistics_for, tell
from gradreach.kernels.recurrence import CellWeights, Recurrence

__all__ = ["MOST_SKIPS", "NOT_LOADED", "run"]

# Constants, because a compiler that reads through `why_not` cannot follow the loading.
NOT_LOADED = why_not_loaded()
MOST_SKIPS: int = getattr(load(), "MOST_SKIPS", 0)

OPERANDS = (
    "Tensor inputs, Tensor hidden, Tensor? cell_state, Tensor weight_ih, Tensor weight_hh, "
    "Tensor? bias_ih, Tensor? bias_hh, Tensor? scale, Tensor? carries, Tensor? activation_bias"
)
EQUATIONS = (
    "Tensor? batch_sizes, str kind, str activation, float parameter, int[] skips, bool reverse"
)
FORWARD = f"({OPERANDS}, {EQUATIONS}, bool keep) -> (Tensor, Tensor, Tensor, Tensor)"
BACKWARD = (
    f"(Tensor?[] arriving, {OPERANDS}, Tensor output, Tensor reserve, {EQUATIONS}, bool[] wanted)"
    " -> Tensor[]"
)


class Call(NamedTuple):
    """The arguments of both operators by name, in the order of their schemas."""

    inputs: Tensor
    hidden: Tensor
    cell_state: Tensor | None
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    scale: Tensor | None
    carries: Tensor | None
    activation_bias: Tensor | None
    batch_sizes: Tensor | None
    kind: str
    activation: str
    parameter: float
    skips: Sequence[int]
    reverse: bool

    @property
    def weights(self) -> CellWeights:
        """The numbers of the layer."""
        return CellWeights(*self[3:10])

    @property
    def operands(self) -> tuple[Tensor, Tensor, Tensor | None, CellWeights]:
        """What can have a gradient, as `invocation` takes it."""
        return self.inputs, self.hidden, self.cell_state, self.weights

    @property
    def cell(self) -> Recurrence:
        """The equations."""
        return Recurrence(self.kind, Activation(self.activation, self.parameter), tuple(self.skips))


def run(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    cell_state: Tensor | None,
    weights: CellWeights,
    batch_sizes: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one layer as one node of the graph that is being built."""
    operands = (inputs, hidden, cell_state, *weights)
    keep = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in operands)
    output, hidden_n, cell_n, _ = torch.ops.gradreach.recurrence(
        *operands,
        batch_sizes,
        cell.kind,
        cell.activation.name,
        cell.activation.parameter,
        cell.skips,
        reverse,
        keep,
    )
    return output, hidden_n, None if cell_state is None else cell_n


@torch.library.custom_op("gradreach::recurrence", mutates_args=(), schema=FORWARD)
def recurrence(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run one layer; results are output, h_n, c_n or nothing, and the reserve."""
    call, keep = Call(*arguments[:-1]), arguments[-1]
    reserve = _reserve(call, keep)
    if keep:
        reserve[-1] = _instruction_set()
    output, hidden_n, cell_n, _ = invocation.forward(
        call.cell,
        *call.operands,
        call.batch_sizes,
        call.reverse,
        keep=keep,
        reserve=reserve if keep else None,
    )
    return output, hidden_n, call.inputs.new_empty(0) if cell_n is None else cell_n, reserve


@recurrence.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    call, keep = Call(*arguments[:-1]), arguments[-1]
    hidden = call.hidden
    return (
        call.inputs.new_empty((*call.inputs.shape[:-1], hidden.shape[-1])),
        hidden.new_empty(hidden.shape),
        hidden.new_empty(0 if call.cell_state is None else hidden.shape),
        _reserve(call, keep),
    )


def _reserve(call: Call, keep: bool) -> Tensor:
    """Return memory for what the backward needs besides inputs and output.

    Bytes, so that nobody asks for its gradient. Its size is the same on every instruction set:
    a compiled graph may be kept and run on another machine. The last byte names the set that
    filled it.
    """
    if not keep:
        return call.inputs.new_empty(0, dtype=torch.uint8)
    width = invocation.reserve_width(
        call.cell, int(call.weight_hh.shape[-1]), call.scale is not None, call.inputs.dtype
    )
    rows = math.prod(call.inputs.shape[:-1])  # Size.numel() would make a symbol a number
    return call.inputs.new_empty(rows * width + 1, dtype=torch.uint8)


def _instruction_set() -> int:
    core: Any = load()
    return int(core.compiled_isas().index(core.isa()))


@torch.library.custom_op("gradreach::recurrence_backward", mutates_args=(), schema=BACKWARD)
def recurrence_backward(arriving: Sequence[Tensor | None], *arguments: Any) -> list[Tensor]:
    """Run one layer backwards; results are the wanted gradients, in the order of the operands.

    Who listens for statistics now is told: a graph does not remember who listened when it ran.
    """
    call, output, reserve, wanted = _backward_call(arguments)
    if reserve[-1] != _instruction_set():
        raise RuntimeError(
            "gradreach::recurrence_backward: the native core was told to use another instruction "
            "set after the forward, and cannot read what that left; do not change it in between."
        )
    kept = invocation.bound(
        call.cell, call.inputs, call.hidden, call.batch_sizes, call.reverse, reserve
    )
    listeners = asked_for()
    statistics = statistics_for(listeners, call.kind, output, call.hidden.shape[1])
    output_gradient, hidden_gradient, cell_gradient = arriving
    gradients = invocation.backward(
        kept,
        call.operands,
        output,
        (output_gradient, hidden_gradient, cell_gradient),
        tuple(wanted),
        statistics,
    )
    tell(listeners, statistics)
    return [x for x in (*gradients[:3], *gradients.weights) if x is not None]


@recurrence_backward.register_fake
def _(arriving: Sequence[Tensor | None], *arguments: Any) -> list[Tensor]:
    call, _, _, wanted = _backward_call(arguments)
    return [
        operand.new_empty(operand.shape)
        for operand, want in zip(call[:10], wanted, strict=True)
        if want and operand is not None
    ]


def _backward_call(arguments: Sequence[Any]) -> tuple[Call, Tensor, Tensor, Sequence[bool]]:
    *operands, output, reserve = arguments[:12]
    return Call(*operands, *arguments[12:-1]), output, reserve, arguments[-1]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    call = Call(*inputs[:-1])
    ctx.save_for_backward(*call[:10], output[0], output[3], call.batch_sizes)
    ctx.equations = call[11:]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
    *operands, output, reserve, batch_sizes = ctx.saved_tensors
    wanted = [
        want and operand is not None
        for want, operand in zip(ctx.needs_input_grad[:10], operands, strict=True)
    ]
    found = torch.ops.gradreach.recurrence_backward(
        (*arriving[:2], None if operands[2] is None else arriving[2]),
        *operands,
        output,
        reserve,
        batch_sizes,
        *ctx.equations,
        wanted,
    )
    left = iter(found)
    return (*(next(left) if want else None for want in wanted), *[None] * 7)


recurrence.register_autograd(_backward, setup_context=_setup)
