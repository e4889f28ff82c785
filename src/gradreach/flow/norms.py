"""Norms that neither underflow nor overflow on the way."""

from __future__ import annotations

import torch
from torch import Tensor

from gradreach.kernels.native.rows import distance, row_norms

__all__ = ["scaled_norm", "state_norm", "total_norm"]

BLOCK = 2**15  # numbers widened at once


def scaled_norm(values: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    """Return the 2-norm along ``dim`` in float64, right for entries from 1e-308 to 1e308.

    A plain norm squares its entries, so that a thousand float32 values of 1e-23 have norm
    exactly 0; dividing by the largest entry first keeps every digit. NaN and infinity stay
    what they are.

    Example:
        >>> float(scaled_norm(torch.full((4,), 1e-200, dtype=torch.float64)))
        2e-200
    """
    if dim in (-1, values.ndim - 1) and (native := row_norms(values)) is not None:
        return native
    # Long sequences are taken in stretches: the float64 copies of all steps at once would be
    # several times the size of what a training step itself keeps.
    if values.numel() > BLOCK and values.ndim > 1 and dim in (-1, values.ndim - 1):
        rows = max(1, BLOCK * len(values) // values.numel())
        return torch.cat([_norm(part, dim) for part in torch.split(values, rows)])
    return _norm(values, dim)


def _norm(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    wide = values.double()
    peak = wide.abs().amax(dim, keepdim=True)
    scale = torch.where((peak > 0) & peak.isfinite(), peak, 1.0)
    norm: Tensor = torch.linalg.vector_norm(wide / scale, dim=dim) * scale.squeeze(dim)
    return norm


def state_norm(hidden: Tensor, cell: Tensor | None) -> Tensor:
    """Return the norm of a whole state's gradient: of h, or of (h, c) together.

    Example:
        >>> float(state_norm(torch.tensor([3.0]), torch.tensor([4.0])))
        5.0
    """
    norms = scaled_norm(hidden)
    return norms if cell is None else torch.hypot(norms, scaled_norm(cell))


def total_norm(values: Tensor) -> Tensor:
    """Return the 2-norm of all entries, a zero-dimensional float64 tensor, in little memory.

    Example:
        >>> float(total_norm(torch.ones(3, 3)))
        3.0
    """
    if not values.numel():
        return torch.zeros((), dtype=torch.float64, device=values.device)
    if (native := distance(values, None)) is not None:
        return torch.tensor(native, dtype=torch.float64)
    parts = [_norm(part, 0) for part in torch.split(values.reshape(-1), BLOCK)]
    return _norm(torch.stack(parts), 0)
