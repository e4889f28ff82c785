"""Contributions of a float32 layer: norms in float64, sums with a float32 backward's rounding.

The gradients are kept with 24 digits. A sum of their products in float32, chunk by chunk, adds no
more to that than the user's own backward has, which it is compared with; where the terms nearly
cancel it would, and the caller then sums in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradreach.flow.norms import total_norm
from gradreach.kernels.native.products import FORMED, Part, add_products, pair_norms
from gradreach.kernels.native.rows import distance
from gradreach.kernels.native.terms import Block, add_along, weight_terms

__all__ = ["QuickSum", "quick_norms", "quick_sum"]

SMALL = 1e-12  # of a float32 sum: what is smaller than its largest entry by that much is lost
APART = 5e-7  # of Σc: a direction that is nearer than that is Σc itself, to float32's rounding
ROUNDED = 1e-6  # of ‖Σc‖²: what products of float32 numbers may be off by
CANCELLING = 30.0  # ‖c‖ of a chunk's terms to ‖Σc‖: beyond, their rounding is seen in Σc

QuickSum = tuple[Tensor, Tensor]  # Σc in float32, and the shares


def quick_norms(
    input_side: list[Block], recurrent_side: list[Block], values: tuple[Tensor, Tensor]
) -> tuple[list[Tensor], list[Tensor]] | None:
    """Return ‖c_k‖ and a bias's terms for both weights; ``None`` where they are not worth it.

    Args:
        values: What W_ih and W_hh are multiplied with.
    """
    width = sum(block.values.shape[-1] for block in recurrent_side)
    batch, columns = values[0].shape[1], sum(value.shape[-1] for value in values)
    if batch * (width + columns) >= 2 * width * columns:
        return None
    shared = len(recurrent_side) == 1
    parts = [Part(recurrent_side[0], (True, True))]
    if not shared:
        first = recurrent_side[0].values.shape[-1]
        own = Block(input_side[0].values[..., first:], input_side[0].scales)
        parts += [Part(own, (True, False)), Part(recurrent_side[1], (False, True))]
    found = pair_norms(parts, values)
    if found is None:
        return None
    norms, sums = found
    for own_norms, blocks, value in zip(norms, (input_side, recurrent_side), values, strict=True):
        if not _form(own_norms, blocks, value):
            return None
    if shared:
        return norms, [sums[0], sums[0]]
    return norms, [torch.cat([sums[0], sums[1]], -1), torch.cat([sums[0], sums[2]], -1)]


def _form(norms: Tensor, blocks: list[Block], values: Tensor) -> bool:
    """Form the matrices of the steps that are left to it; false where they are many."""
    left = (norms == FORMED).nonzero()[:, 0].tolist()
    if 4 * len(left) > len(norms):
        return False
    for step in left:
        squares = norms.new_zeros(1)
        for block in blocks:
            scales = None if block.scales is None else block.scales[step : step + 1]
            part = Block(block.values[step : step + 1], scales)
            room = norms.new_zeros(block.values.shape[-1], values.shape[-1])
            terms = weight_terms(part, values[step : step + 1], room)
            if terms is None:
                return False
            squares = torch.hypot(squares, terms.norms)
        norms[step] = squares[0]
    return True


def quick_sum(
    blocks: list[Block], values: Tensor, norms: Tensor, expected: Tensor | None
) -> QuickSum | None:
    """Return Σc and the shares ⟨c_k, Σc⟩/‖Σc‖²; ``None`` where float32 products cannot give them.

    Args:
        norms: ‖c_k‖. expected: What Σc will turn out to be, the gradient of the user's backward:
            the products with it then need no second pass.
    """
    rows = [block.values.shape[-1] for block in blocks]
    total = torch.zeros(sum(rows), values.shape[-1], dtype=torch.float64)
    along = torch.zeros(len(values), dtype=torch.float64)
    guess = expected if expected is not None and _fits(expected, total) else None
    guesses = [None] * len(rows) if guess is None else torch.split(guess, rows)
    for block, into, own in zip(blocks, torch.split(total, rows), guesses, strict=True):
        if not add_products(block, values, own, into, along):
            return None
    norm = float(total_norm(total))
    chunk = max(1.0, 384 / values.shape[1]) ** 0.5  # csrc/products.h: rows summed in float32
    if not (0 < norm < math.inf) or not float(total_norm(norms)) * chunk < CANCELLING * norm:
        return None
    kept = total.float()
    apart = None if guess is None else distance(total, guess)
    if apart is None or not apart <= APART * norm:
        if not _usual(kept):
            return None
        along.zero_()
        for block, own in zip(blocks, torch.split(kept, rows), strict=True):
            add_along(block, values, own, along)
    square = along.sum()
    if not abs(float(square) - norm * norm) <= ROUNDED * norm * norm:
        return None
    return kept, along / square


def _fits(expected: Tensor, total: Tensor) -> bool:
    if expected.dtype is not torch.float32 or not expected.is_cpu or not expected.is_contiguous():
        return False
    return expected.shape == total.shape and _usual(expected)


def _usual(weight: Tensor) -> bool:
    """Whether float32 can hold products with it."""
    low, high = weight.aminmax()
    return SMALL < max(-float(low), float(high)) < 1 / SMALL
