"""The gradient of a weight as a sum over time steps: ∂L/∂W = Σ_k c_k."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.flow.norms import scaled_norm
from gradreach.kernels.tape import LayerWeights

__all__ = ["Contribution", "contributions_of"]

CHUNK = 32  # steps whose float64 copies of inputs and states are in memory at once


@dataclass(frozen=True)
class Contribution:
    """The terms of one weight's gradient.

    Shape:
        total: as the weight, float64. norms, shares: ``(T,)`` float64.
    """

    total: Tensor
    norms: Tensor
    shares: Tensor


def contributions_of(
    weights: LayerWeights, inputs: Tensor, previous: Tensor, input_side: Tensor,
    recurrent_side: Tensor,
) -> dict[str, Contribution]:  # fmt: skip
    """Return the contributions to each weight of a layer, by its name.

    c_k = Σ_b (∂L/∂a_k)ᵀ x_k for W_ih, with h_{k-1} for W_hh and 1 for the biases. Shares are
    ⟨c_k, Σc⟩ / ‖Σc‖²; they sum to 1 and are NaN where the sum is 0.

    Shape:
        inputs: ``(T, B, I)``, previous: ``(T, B, H)``, the sides ``(T, B, G·H)`` float64.

    Cost:
        Two float64 products as large as the layer's weight gradient, and one of ``B²``.
    """
    factors: list[tuple[Tensor, Tensor | None]] = [(input_side, inputs), (recurrent_side, previous)]
    if weights.input_bias is not None:
        factors += [(input_side, None), (recurrent_side, None)]
    return {
        name: _contribution(delta, values)
        for name, (delta, values) in zip(weights.names, factors, strict=True)
    }


def _contribution(delta: Tensor, values: Tensor | None) -> Contribution:
    if values is None:
        terms = delta.sum(1)  # (T, G·H): small enough to keep
        total = terms.sum(0)
        return Contribution(total, scaled_norm(terms), _shares(terms @ _unit(total), total))
    size = values.shape[-1]
    total = torch.zeros(delta.shape[-1], size, dtype=torch.float64, device=delta.device)
    norms = []
    for start in range(0, len(delta), CHUNK):
        part, value = delta[start : start + CHUNK], values[start : start + CHUNK].double()
        total.addmm_(part.flatten(0, 1).T, value.flatten(0, 1))
        norms.append(_norms(part, value))
    direction, along = _unit(total), []
    for start in range(0, len(delta), CHUNK):
        value = values[start : start + CHUNK].double()
        along.append(((value @ direction.T) * delta[start : start + CHUNK]).sum((1, 2)))
    return Contribution(total, torch.cat(norms), _shares(torch.cat(along), total))


def _unit(total: Tensor) -> Tensor:
    """Return Σc over its norm: the inner products then neither underflow nor overflow."""
    norm = scaled_norm(total.flatten())
    return total / norm


def _shares(along: Tensor, total: Tensor) -> Tensor:
    """Return ⟨c_k, Σc⟩/‖Σc‖², from ⟨c_k, Σc/‖Σc‖⟩; NaN (0/0) where the sum is 0."""
    return along / scaled_norm(total.flatten())


def _norms(delta: Tensor, value: Tensor) -> Tensor:
    """Return ‖Σ_b δ_b x_bᵀ‖_F of each step, without forming the matrices where B is small."""
    scale = delta.abs().amax((1, 2), keepdim=True)
    scale = torch.where((scale > 0) & scale.isfinite(), scale, 1.0)
    unit = delta / scale
    rows, columns, batch = delta.shape[2], value.shape[2], delta.shape[1]
    if batch * (rows + columns) >= rows * columns:
        return scaled_norm(unit.transpose(1, 2) @ value, dim=(1, 2)) * scale[:, 0, 0]
    # ‖Σ_b δ_b x_bᵀ‖² = Σ_{b,b'} (δ_b·δ_b')(x_b·x_b')
    gram = (unit @ unit.transpose(1, 2)) * (value @ value.transpose(1, 2))
    squares = gram.sum((1, 2))
    norms = squares.clamp(min=0).sqrt()
    # Where the batch rows cancel, the difference of large numbers has lost its digits.
    cancelled = (squares < 1e-6 * gram.abs().sum((1, 2))).nonzero()[:, 0]
    if len(cancelled):
        norms[cancelled] = scaled_norm(
            unit[cancelled].transpose(1, 2) @ value[cancelled], dim=(1, 2)
        )
    return norms * scale[:, 0, 0]
