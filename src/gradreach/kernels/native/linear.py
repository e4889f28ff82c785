"""Pre-activations of all steps in one call of the compiled core."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradreach.kernels.native.pages import fresh
from gradreach.kernels.native.series import address, core_for

__all__ = ["Addend", "linear_sum"]

Addend = tuple[Tensor, Tensor, Tensor | None]  # values, weight, bias
MOST = 2  # csrc/scan_calls.h


def linear_sum(addends: Sequence[Addend]) -> Tensor | None:
    """Return Σ (values Wᵀ + b), ``(T, B, N)``; ``None`` where the core does not take the call.

    The core's products fill the widest vectors of every processor; torch's may leave half of them.

    Args:
        addends: Of values ``(T, B, K)``, weight ``(N, K)`` and bias ``(N,)`` or ``None``; one or
            two, detached, of one dtype.

    Example:
        >>> values, weight = torch.ones(2, 1, 3), torch.ones(4, 3)
        >>> found = linear_sum([(values, weight, None), (values, weight, torch.ones(4))])
        >>> found is None or found.unique().tolist() == [7.0]
        True
    """
    tensors = [tensor for addend in addends for tensor in addend if tensor is not None]
    values, weight, _ = addends[0]
    core = core_for(*tensors)
    if core is None or len(addends) > MOST or not weight.numel() or not values.numel():
        return None
    if not all(tensor.is_contiguous() and tensor.dtype is values.dtype for tensor in tensors):
        return None
    total = fresh((*values.shape[:-1], len(weight)), values)
    core.linear(
        values.dtype is torch.float64, total.shape[:-1].numel(), len(weight),
        torch.get_num_threads(),
        [(own.data_ptr(), matrix.data_ptr(), address(bias), matrix.shape[1])
         for own, matrix, bias in addends],
        total.data_ptr(),
    )  # fmt: skip
    return total
