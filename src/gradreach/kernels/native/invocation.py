"""One call of the compiled core: tensors in, tensors out, no autograd."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradreach.kernels.native.core import load
from gradreach.kernels.native.pages import fresh
from gradreach.kernels.native.series import address, place
from gradreach.kernels.recurrence import CellWeights, Recurrence

__all__ = ["Gradients", "Kept", "Statistics", "backward", "bound", "forward", "reserve_width"]

KINDS = {"rnn": 0, "gru": 1, "lstm": 2}  # csrc/table.h
WIDEST = 64  # bytes of the widest vector of any instruction set
NOWHERE = (0, 0, 0)


class Kept(NamedTuple):
    """What a forward leaves for its backward besides tensors: the call and its memory.

    The reserve is the call's own where no tensor was given for it; that and the offsets must
    live as long as the call, which knows their addresses only.
    """

    call: Any
    reserve: Tensor | None
    offsets: Tensor | None

    @property
    def address(self) -> int:
        """Where the reserve is; 0 without one."""
        if self.reserve is not None:
            return self.reserve.data_ptr()  # 0 where it is empty
        return int(self.call.reserve)


@dataclass
class Statistics:
    """What a backward saw on its way, in float64; all of one layer in one direction.

    Args:
        numbers: All in one tensor, since each costs time.
        shape: Of the rows.
        size: H.
        gates: G of the sums of gates, 0 for an RNN.
        pre_activations: Where it was asked for, the gradient of the pre-activations as W_ih sees
            them, ``(…, G·H)`` in the dtype of the layer and the gate order of torch.
    """

    numbers: Tensor
    shape: torch.Size
    size: int
    gates: int
    pre_activations: Tensor | None = None

    @property
    def rows(self) -> int:
        """How many rows these are."""
        return self.shape.numel()

    @property
    def state_norms(self) -> Tensor:
        """‖∂L/∂h_t‖ of each row, ``(T, B)``, or ``(N,)`` where packed."""
        return self.numbers[: self.rows].view(self.shape)

    @property
    def slope_max(self) -> Tensor:
        """The largest |φ'| of each unit over all rows, ``(H,)``; 0 says that the unit is dead."""
        return self.numbers[self.rows :][: self.size]

    @property
    def slope_low(self) -> Tensor:
        """In how many rows |φ'| of each unit was below 0.05, ``(H,)``."""
        return self.numbers[self.rows + self.size :][: self.size]

    @property
    def gate_sums(self) -> Tensor | None:
        """Sums of the gates over the rows in torch's order, ``(G·H,)``; ``None`` for an RNN."""
        return self.numbers[self.rows + 2 * self.size :] if self.gates else None

    @property
    def addresses(self) -> tuple[int, int, int, int, int]:
        """Where these are, in the order above; 0 for what there is not."""
        first = self.numbers.data_ptr()
        slopes = first + 8 * self.rows
        gates = slopes + 16 * self.size if self.gates else 0
        return first, slopes, slopes + 8 * self.size, gates, address(self.pre_activations)


class Gradients(NamedTuple):
    """Gradients of the operands of a call, in their order; ``None`` where none was asked for."""

    inputs: Tensor | None
    hidden: Tensor | None
    cell_state: Tensor | None
    weights: CellWeights | tuple[Tensor | None, ...]


@lru_cache(maxsize=64)
def _offsets(sizes: tuple[int, ...]) -> Tensor:
    offsets = torch.zeros(len(sizes) + 1, dtype=torch.int64)
    torch.cumsum(torch.tensor(sizes), 0, out=offsets[1:])
    return offsets


def _dense(tensor: Tensor) -> Tensor:
    """Return the tensor with neighbouring elements in each row; other strides stay."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def forward(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    cell_state: Tensor | None,
    weights: CellWeights,
    batch_sizes: Tensor | None,
    reverse: bool,
    *,
    keep: bool,
    reserve: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None, Kept]:
    """Run the forward; with ``keep``, remember what the backward needs.

    Args:
        reserve: Where to remember it, `reserve_width` bytes for each row; by default in memory
            of the core.
    """
    inputs = _dense(inputs)
    output = fresh((*inputs.shape[:-1], hidden.shape[1]), inputs)
    hidden_n = torch.empty_like(hidden, memory_format=torch.contiguous_format)
    cell_n = None if cell_state is None else torch.empty_like(hidden_n)
    kept = bound(cell, inputs, hidden, batch_sizes, reverse, reserve)
    held, addresses = _operands(hidden, cell_state, weights)
    kept.call.forward(
        place(inputs), addresses, place(output), hidden_n.data_ptr(), address(cell_n),
        keep, inputs.shape[:-1].numel(), address(reserve),
    )  # fmt: skip
    del held
    return output, hidden_n, cell_n, kept


def bound(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    batch_sizes: Tensor | None,
    reverse: bool,
    reserve: Tensor | None,
) -> Kept:
    """Return a call that knows its equations and sizes, but no operands yet.

    With the reserve that a `forward` was given it is what that left, made anew.
    """
    batch, size = hidden.shape
    if batch_sizes is None:
        steps, offsets = len(inputs), None
    else:
        steps, offsets = len(batch_sizes), _offsets(tuple(batch_sizes.tolist()))
    call = _call(
        cell, inputs.dtype, reverse, steps, batch, inputs.shape[-1], size, address(offsets)
    )
    return Kept(call, reserve, offsets)


def _call(cell: Recurrence, dtype: torch.dtype, reverse: bool, *sizes: int) -> Any:
    """Make a call; ``sizes`` are T, B, I and H, and the address of the offsets."""
    core: Any = load()
    activation = cell.activation
    return core.LayerCall(
        dtype is torch.float64, KINDS[cell.kind], activation.code, activation.parameter,
        cell.skips, reverse, *sizes, torch.get_num_threads(),
    )  # fmt: skip


def reserve_width(cell: Recurrence, size: int, scaled: bool, dtype: torch.dtype) -> int:
    """Return the bytes of a reserve for each row, enough on every instruction set.

    Args:
        size: Hidden units.
        scaled: Whether there is a `CellWeights.scale`.
    """
    line = WIDEST // dtype.itemsize
    call = _call(cell, dtype, False, 1, 1, 1, -(-size // line) * line, 0)
    return int(call.reserve_bytes(1, scaled))


def _operands(
    hidden: Tensor, cell_state: Tensor | None, weights: CellWeights
) -> tuple[list[Tensor | None], list[int]]:
    """Return the tensors as the core reads them, which must live until it has run, and where."""
    held = [
        None if tensor is None else tensor.contiguous() for tensor in (hidden, cell_state, *weights)
    ]
    return held, [address(tensor) for tensor in held]


def backward(
    kept: Kept,
    operands: tuple[Tensor, Tensor, Tensor | None, CellWeights],
    output: Tensor,
    arriving: tuple[Tensor | None, Tensor | None, Tensor | None],
    wanted: tuple[bool, ...],
    statistics: Statistics | None = None,
) -> Gradients:
    """Run the backward of a call.

    Args:
        operands: inputs, hidden, cell_state and weights of the forward.
        arriving: Gradients of output, h_n and c_n.
        wanted: Which of inputs, hidden, cell_state and the weights need a gradient.
        statistics: Where to write what is seen on the way.
    """
    inputs, hidden, cell_state, weights = operands
    inputs = _dense(inputs)
    held, addresses = _operands(hidden, cell_state, weights)
    made: list[Tensor | None] = [
        torch.empty_like(operand, memory_format=torch.contiguous_format)
        if want and operand is not None
        else None
        for operand, want in zip((inputs, hidden, cell_state, *weights), wanted, strict=True)
    ]
    upstream = [None if gradient is None else _dense(gradient) for gradient in arriving]
    ends = [None if gradient is None else gradient.contiguous() for gradient in upstream[1:]]
    kept.call.backward(
        place(inputs), addresses, place(output), address(kept.reserve),
        NOWHERE if upstream[0] is None else place(upstream[0]), *map(address, ends),
        NOWHERE if made[0] is None else place(made[0]), [address(one) for one in made[1:]],
        (0, 0, 0, 0, 0) if statistics is None else statistics.addresses,
    )  # fmt: skip
    del held
    return Gradients(made[0], made[1], made[2], tuple(made[3:]))
