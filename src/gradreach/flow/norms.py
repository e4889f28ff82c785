"""Norms that neither underflow nor overflow on the way."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["scaled_norm"]


def scaled_norm(values: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    """Return the 2-norm along ``dim`` in float64, right for entries from 1e-308 to 1e308.

    A plain norm squares its entries, so that a thousand float32 values of 1e-23 have norm
    exactly 0; dividing by the largest entry first keeps every digit. NaN and infinity stay
    what they are.

    Example:
        >>> float(scaled_norm(torch.full((4,), 1e-200, dtype=torch.float64)))
        2e-200
    """
    wide = values.double()
    peak = wide.abs().amax(dim, keepdim=True)
    scale = torch.where((peak > 0) & peak.isfinite(), peak, 1.0)
    norm: Tensor = torch.linalg.vector_norm(wide / scale, dim=dim) * scale.squeeze(dim)
    return norm
