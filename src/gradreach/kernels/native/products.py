"""Sums and norms of a weight's float32 terms, in the compiled core.

Every function returns ``None`` (or false) and does nothing where the core does not take a call.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradreach.kernels.native.series import address, core_for, place
from gradreach.kernels.native.terms import Block

__all__ = ["FORMED", "Part", "add_products", "pair_norms"]

FORMED = -1.0  # csrc/gram.h: for the norm of a step whose matrix has to be formed
NARROW = 16  # columns below which the gradient is the wider factor, and worth the whole vectors


class Part(NamedTuple):
    """Some columns of a gradient and which weights see them: W_ih, W_hh."""

    block: Block
    of: tuple[bool, bool]


def pair_norms(
    parts: list[Part], values: tuple[Tensor, Tensor]
) -> tuple[list[Tensor], list[Tensor]] | None:
    """Return ‖Σ_b δ_kb x_kbᵀ‖_F of every step for both weights, from products of pairs of rows.

    Products and sums are float64. A norm is `FORMED` where the rows of a batch all but cancel, or
    something is no number: there the products have lost the digits, and the matrix keeps them.

    Args:
        values: x of W_ih and of W_hh.

    Shape:
        values: ``(T, B, I)`` and ``(T, B, H)``. returns: two norms ``(T,)``; for each part
        ``(T, W)`` Σ_b δ_kb, a bias's terms. All float64.

    Cost:
        ``B²/2`` products of each row's length a step.
    """
    tensors = [part.block.values for part in parts]
    if any(part.block.scales is None or not _taken(part.block) for part in parts):
        return None
    core = core_for(*tensors, *values)
    if core is None or any(value.dtype is not torch.float32 for value in values):
        return None
    steps, batch = values[0].shape[:2]
    norms = [torch.empty(steps, dtype=torch.float64) for _ in values]
    sums = [torch.empty(steps, part.shape[-1], dtype=torch.float64) for part in tensors]
    core.gram_norms(
        steps, batch, torch.get_num_threads(),
        [(place(part.block.values), address(part.block.scales), part.block.values.shape[-1],
          *part.of, own.data_ptr()) for part, own in zip(parts, sums, strict=True)],
        [(place(value), value.shape[-1], own.data_ptr())
         for value, own in zip(values, norms, strict=True)],
    )  # fmt: skip
    return norms, sums


def add_products(
    block: Block, values: Tensor, direction: Tensor | None, total: Tensor, along: Tensor
) -> bool:
    """Add Σ_k c_k to ``total`` and ⟨c_k, direction⟩ to ``along``, from float32 products.

    Some four hundred products are summed in float32, then in float64: the rounding of a float32
    backward.

    Shape:
        direction: ``(W, I)`` float32, contiguous, or ``None``. total: ``(W, I)``; along: ``(T,)``,
        both float64.
    """
    core = core_for(block.values, values)
    if core is None or not _taken(block) or values.dtype is not torch.float32:
        return False
    steps, batch, width = block.values.shape
    columns = values.shape[-1]
    turned = columns < NARROW and columns < width
    left, right = (values, block.values) if turned else (block.values, values)
    into = total.new_zeros(columns, width) if turned else total
    if direction is not None and turned:
        direction = direction.T.contiguous()
    core.products(
        steps, batch, left.shape[-1], right.shape[-1], torch.get_num_threads(), place(left),
        place(right), turned, address(block.scales), into.data_ptr(), address(direction),
        along.data_ptr(),
    )  # fmt: skip
    if turned:
        total += into.T
    return True


def _taken(block: Block) -> bool:
    if block.scales is None or not block.scales.is_contiguous() or not block.values.numel():
        return False
    return block.values.dtype is torch.float32
