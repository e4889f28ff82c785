"""A weight's gradient as a sum of one term a step, in the compiled core."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradreach.kernels.native.series import address, core_for, place

__all__ = ["Block", "Terms", "add_along", "weight_terms"]


class Block(NamedTuple):
    """Some columns of a pre-activation gradient: ``values * scales``.

    Shape:
        values: ``(T, B, W)`` in the user's dtype; scales: ``(T, B)`` float64, or ``None`` for 1.
    """

    values: Tensor
    scales: Tensor | None


class Terms(NamedTuple):
    """The terms c_k = Σ_b δ_kb x_kbᵀ of a block.

    Shape:
        norms: ``(T,)`` ‖c_k‖_F. sums: ``(T, W)`` Σ_b δ_kb, a bias's terms. All float64.
    """

    norms: Tensor
    sums: Tensor


def weight_terms(block: Block, values: Tensor, total: Tensor) -> Terms | None:
    """Add Σ_k c_k to ``total`` ``(W, I)`` float64; ``None``, nothing done, where not taken.

    Products and sums are of float64 numbers. Both factors of a step are divided by their largest
    entry first, so that neither the squares of a tiny gradient nor those of a huge one are lost.

    Cost:
        One float64 product; the norms ride along.
    """
    core = _taken(block, values)
    if core is None:
        return None
    steps, batch, width = block.values.shape
    norms = total.new_empty(steps)
    sums = total.new_zeros(steps, width)
    core.weight_terms(
        values.dtype is torch.float64, steps, batch, width, values.shape[-1],
        torch.get_num_threads(), place(block.values), place(values), address(block.scales),
        total.data_ptr(), norms.data_ptr(), sums.data_ptr(),
    )  # fmt: skip
    return Terms(norms, sums)


def add_along(block: Block, values: Tensor, direction: Tensor, along: Tensor) -> bool:
    """Add ⟨c_k, direction⟩ to ``along`` ``(T,)``; false, nothing done, where not taken.

    The product runs in the user's dtype, as the terms themselves are kept; the sums in float64.

    Shape:
        direction: ``(W, I)``, in the dtype of ``values``, contiguous.
    """
    core = _taken(block, values)
    if core is None:
        return False
    steps, batch, width = block.values.shape
    core.weight_along(
        values.dtype is torch.float64, steps, batch, width, values.shape[-1],
        torch.get_num_threads(), place(block.values), place(values), address(block.scales),
        direction.data_ptr(), along.data_ptr(),
    )  # fmt: skip
    return True


def _taken(block: Block, values: Tensor) -> Any:
    if block.values.dtype != values.dtype or not block.values.numel() or not values.shape[-1]:
        return None
    if block.scales is not None and not block.scales.is_contiguous():
        return None
    return core_for(block.values, values, block.scales)
