"""Series of states as the compiled core sees them: address and strides, no copies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradreach.kernels.native.core import load

__all__ = ["Place", "address", "core_for", "place"]

Place = tuple[int, int, int]  # address, strides of steps and rows in elements

DTYPES = (torch.float32, torch.float64)


def core_for(*tensors: Tensor | None) -> Any:
    """Return the core where it takes all these tensors, else ``None``.

    They must lie on the CPU, be float32 or float64, have neighbouring elements in their last
    dimension, and need no gradient of what the core does with them.

    Example:
        >>> core_for(torch.zeros(2, 3, dtype=torch.int64)) is None
        True
    """
    core = load()
    if core is None:
        return None
    recording = torch.is_grad_enabled()
    for tensor in tensors:
        if tensor is None:
            continue
        if not tensor.is_cpu or tensor.dtype not in DTYPES or (recording and tensor.requires_grad):
            return None
        if tensor.dim() and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
            return None
    return core


def place(series: Tensor) -> Place:
    """Return where a ``(T, B, size)`` tensor lies, or packed rows: they have no stride of steps."""
    strides = series.stride()
    return series.data_ptr(), strides[0] if len(strides) == 3 else 0, strides[-2]


def address(tensor: Tensor | None) -> int:
    """Return a tensor's address, 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()
