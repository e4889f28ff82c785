"""The gradient of a weight as a sum over time steps: ∂L/∂W = Σ_k c_k."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.flow.norms import scaled_norm, total_norm
from gradreach.flow.stretches import stretches
from gradreach.kernels.tape import LayerWeights

__all__ = ["Contribution", "contributions_of"]

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


def _bias(delta: Steps, steps: int) -> Contribution:
    terms = torch.cat([delta(start, stop).sum(1) for start, stop in stretches(steps)])  # (T, G·H)
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
