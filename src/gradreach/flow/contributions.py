"""The gradient of a weight as a sum over time steps: ∂L/∂W = Σ_k c_k."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.flow.norms import scaled_norm, total_norm
from gradreach.flow.quick_contributions import quick_norms, quick_sum
from gradreach.flow.stretches import stretches
from gradreach.kernels.native.terms import Block, add_along, weight_terms
from gradreach.kernels.tape import LayerWeights

__all__ = ["Contribution", "contributions_of", "kept_contributions"]

SMALL = 1e-12  # of a float32 sum: what is smaller than its largest entry by that much is lost
ROUNDED = 1e-6  # of ‖Σc‖²: what products of float32 numbers may be off by, ten times their rounding
SAFE = 1e-100  # its square is a normal float64, and so is that of its inverse


@dataclass(frozen=True)
class Contribution:
    """The terms of one weight's gradient.

    Shape:
        total: as the weight, in its dtype. norms, shares: ``(T,)`` float64.
    """

    total: Tensor
    norms: Tensor
    shares: Tensor


Steps = Callable[[int, int], Tensor]  # (start, stop) -> (K, B, G·H) float64


def contributions_of(
    weights: LayerWeights, inputs: Tensor, previous: Tensor, input_side: Steps,
    recurrent_side: Steps,
) -> dict[str, Contribution]:  # fmt: skip
    """Return the contributions to each weight of a layer, by its name.

    c_k = Σ_b (∂L/∂a_k)ᵀ x_k for W_ih, with h_{k-1} for W_hh and 1 for the biases. Shares are
    ⟨c_k, Σc⟩ / ‖Σc‖²; they sum to 1 and are NaN where the sum is 0.

    Args:
        input_side: Pre-activation gradient by steps, as W_ih sees it; ``recurrent_side`` W_hh.

    Shape:
        inputs: ``(T, B, I)``, previous: ``(T, B, H)``.

    Cost:
        Two float64 products as large as the layer's weight gradient, and one of ``B²``.
    """
    factors = [(input_side, inputs), (recurrent_side, previous)]
    found = [_weight(delta, values, weights.input.shape[0]) for delta, values in factors]
    if weights.input_bias is not None:
        found += [_bias(delta, len(inputs)) for delta, _ in factors]
    return dict(zip(weights.names, found, strict=True))


def kept_contributions(
    weights: LayerWeights, inputs: Tensor, previous: Tensor, input_side: list[Block],
    recurrent_side: list[Block], expected: Sequence[Tensor | None] = (None, None),
) -> dict[str, Contribution] | None:  # fmt: skip
    """Return :func:`contributions_of` from gradients as they are kept, in the compiled core.

    ``None`` where the core does not take them.

    Args:
        input_side: Pre-activation gradient as W_ih sees it, in blocks of columns;
            ``recurrent_side`` as W_hh does.
        expected: The gradients of W_ih and W_hh, where they are known to about what the sums
            will be: they save a pass, and change nothing.

    Cost:
        For each weight of a float32 layer one float32 product as large as its gradient, and the
        products of pairs of rows for the norms, in float64; a second float32 product where
        nothing is expected. Otherwise, and where the terms nearly cancel, one float64 product as
        large as the gradient, in which the norms ride along, and one in the user's dtype.
    """
    found: list[Contribution] = []
    sums: list[Tensor] = []
    quick = quick_norms(input_side, recurrent_side, (inputs, previous))
    sides = ((input_side, inputs), (recurrent_side, previous))
    for which, (blocks, values) in enumerate(sides):
        if quick is not None:
            norms, terms = quick[0][which], quick[1][which]
            summed = quick_sum(blocks, values, norms, expected[which])
            if summed is not None:
                found.append(Contribution(summed[0], norms, summed[1]))
                sums.append(terms)
                continue
        own = _kept_weight(blocks, values)
        if own is None:
            return None
        found.append(own[0])
        sums.append(own[1])
    if weights.input_bias is not None:
        of_input = _bias_terms(sums[0])
        found += [of_input, _bias_terms(sums[1]) if len(recurrent_side) > 1 else of_input]
    return dict(zip(weights.names, found, strict=True))


def _kept_weight(blocks: list[Block], values: Tensor) -> tuple[Contribution, Tensor] | None:
    """Return a weight's contribution and the terms of its bias, ``(T, G·H)``."""
    rows = sum(block.values.shape[-1] for block in blocks)
    total = torch.zeros(rows, values.shape[-1], dtype=torch.float64, device=values.device)
    parts = []
    for block, own in zip(blocks, _rows_of(total, blocks), strict=True):
        terms = weight_terms(block, values, own)
        if terms is None:
            return None
        parts.append(terms)
    kept, peak = total.to(values.dtype), _peak(total)
    # In the user's dtype, as the gradients are kept, and in a size whose products it can hold.
    usual = not peak > 0 or SMALL < peak < 1 / SMALL
    peak = 1.0 if usual else peak
    direction = kept if usual else total.div(peak).to(values.dtype)
    norm = total_norm(total) / peak
    exact = norm * norm * peak
    along = _along(blocks, values, direction)
    square = along.sum() if values.dtype == torch.float32 else exact
    # ‖Σc‖² of float32 is taken from the products themselves, whose rounding, as large as that of
    # the gradients that are kept, would else be seen in the sum of the shares. Where the terms
    # all but cancel, that rounding is no longer small: there the products are of float64 numbers.
    if values.dtype == torch.float32 and not abs(square - exact) <= ROUNDED * exact:
        wide = [Block(block.values.double(), block.scales) for block in blocks]
        along, square = _along(wide, values.double(), total / peak), exact
    norms = parts[0].norms if len(parts) == 1 else torch.hypot(parts[0].norms, parts[1].norms)
    sums = [part.sums for part in parts]
    found = Contribution(kept, norms, along / square)
    return found, sums[0] if len(sums) == 1 else torch.cat(sums, -1)


def _along(blocks: list[Block], values: Tensor, direction: Tensor) -> Tensor:
    """Return ⟨c_k, direction⟩ of every step, float64."""
    along = torch.zeros(len(values), dtype=torch.float64, device=values.device)
    for block, own in zip(blocks, _rows_of(direction, blocks), strict=True):
        add_along(block, values, own, along)
    return along


def _rows_of(weight: Tensor, blocks: list[Block]) -> list[Tensor]:
    return list(torch.split(weight, [block.values.shape[-1] for block in blocks]))


def _bias(delta: Steps, steps: int) -> Contribution:
    return _bias_terms(torch.cat([delta(start, stop).sum(1) for start, stop in stretches(steps)]))


def _bias_terms(terms: Tensor) -> Contribution:
    """Return a bias's contribution from its terms, ``(T, G·H)``."""
    total = terms.sum(0)
    return Contribution(total, scaled_norm(terms), _shares(terms @ _comparable(total), total))


def _weight(delta: Steps, values: Tensor, rows: int) -> Contribution:
    total = torch.zeros(rows, values.shape[-1], dtype=torch.float64, device=values.device)
    norms, along = [], []
    for start, stop in stretches(len(values)):
        part, value = delta(start, stop), values[start:stop].double()
        total.addmm_(part.flatten(0, 1).T, value.flatten(0, 1))
        norms.append(_norms(part, value))
    direction = _comparable(total)
    for start, stop in stretches(len(values)):
        projected = values[start:stop].double() @ direction.T
        along.append(projected.mul_(delta(start, stop)).sum((1, 2)))
    shares = _shares(torch.cat(along), total)
    # In the dtype of the gradient it will be compared with: half the memory, the same digits.
    return Contribution(total.to(values.dtype), torch.cat(norms), shares)


def _comparable(total: Tensor) -> Tensor:
    """Return Σc in a size whose products neither underflow nor overflow."""
    peak = _peak(total)
    return total if SAFE < peak < 1 / SAFE or not peak > 0 else total / peak


def _peak(total: Tensor) -> float:
    """Return the largest magnitude, without a copy of the weight's size."""
    low, high = total.aminmax() if total.numel() else (torch.ones(()), torch.ones(()))
    return max(abs(float(low)), abs(float(high)))


def _shares(along: Tensor, total: Tensor) -> Tensor:
    """Return ⟨c_k, Σc⟩/‖Σc‖² from ⟨c_k, direction⟩; NaN (0/0) where the sum is 0."""
    direction = _comparable(total)
    norm = total_norm(direction)
    peak = 1.0 if direction is total else _peak(total)
    return along / (norm * norm * peak)


def _norms(delta: Tensor, value: Tensor) -> Tensor:
    """Return ‖Σ_b δ_b x_bᵀ‖_F of each step, without forming the matrices where B is small."""
    unit, scale = _unit(delta)
    value, size = _unit(value)
    rows, columns, batch = delta.shape[2], value.shape[2], delta.shape[1]
    if batch * (rows + columns) >= rows * columns:
        return scaled_norm(unit.transpose(1, 2) @ value, dim=(1, 2)) * scale * size
    # ‖Σ_b δ_b x_bᵀ‖² = Σ_{b,b'} (δ_b·δ_b')(x_b·x_b')
    gram = (unit @ unit.transpose(1, 2)) * (value @ value.transpose(1, 2))
    squares = gram.sum((1, 2))
    norms = squares.clamp(min=0).sqrt()
    # Where the batch rows cancel, the difference of large numbers has lost its digits.
    cancelled = (squares < 1e-6 * gram.abs().sum((1, 2))).nonzero()[:, 0]
    for step in cancelled.tolist():
        norms[step] = total_norm(unit[step].T @ value[step])
    return norms * scale * size


def _unit(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return each step divided by its largest entry, and that entry, ``(K,)``.

    Both factors of a product may be tiny: a state that decays is, in float64, long before the
    gradient is lost, and the square of 1e-170 is 0.
    """
    peak = values.abs().amax((1, 2), keepdim=True)
    peak = torch.where((peak > 0) & peak.isfinite(), peak, 1.0)
    return values / peak, peak[:, 0, 0]
