"""In which dtype a layer computes and answers: autocast, and modules in 16 bit."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Precision", "converted", "precision_of"]

HALVES = (torch.float16, torch.bfloat16)


class Precision(NamedTuple):
    """The dtype of the arithmetic, and that of the results."""

    compute: torch.dtype
    result: torch.dtype


def precision_of(kind: str, weight: Tensor, state: Tensor) -> Precision | None:
    """Return what to convert to, or ``None`` where everything stays as it is.

    16-bit modules compute in float32: a state that is rounded to 8 bits at every step forgets.
    Under autocast the results have the dtypes of torch.nn, of which on a CPU GRU stays out.

    Args:
        kind: ``"rnn"``, ``"gru"`` or ``"lstm"``; of a cell ``"lstm_cell"``, which stays out, too.
        weight: The first weight of the module.
        state: The initial hidden state.
    """
    device = weight.device.type
    if not torch.is_autocast_enabled(device):
        return Precision(torch.float32, weight.dtype) if weight.dtype in HALVES else None
    if weight.dtype == torch.float64:
        return None  # autocast leaves float64 alone
    if device != "cpu" or kind in ("rnn", "lstm"):
        return Precision(torch.float32, torch.get_autocast_dtype(device))
    return Precision(torch.float32, state.dtype)


def converted(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert what autocast would: float64 stays, and meets the error it deserves."""
    return values if values.dtype == torch.float64 else values.to(dtype)
