"""Norms, scales and counts of whole series in one pass of the compiled core.

Every function returns ``None`` (or false) and does nothing where the core does not take a call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradreach.kernels.native.core import load
from gradreach.kernels.native.series import Place, address, core_for, place

__all__ = [
    "UnitSums",
    "distance",
    "row_norms",
    "slopes_below",
    "unit_sums",
    "write_scaled",
]


class UnitSums(NamedTuple):
    """Sums of a gate over the rows that exist: ``(H,)`` over all steps, ``(T,)`` over all units."""

    per_unit: Tensor
    per_step: Tensor


def row_norms(values: Tensor) -> Tensor | None:
    """Return the 2-norms along the last dimension in float64, right from 1e-308 to 1e308."""
    core = core_for(values)
    rows = None if core is None else _rows(values)
    if rows is None:
        return None
    where, steps, batch = rows
    norms = torch.empty(values.shape[:-1], dtype=torch.float64)
    core.row_norms(values.dtype is torch.float64, steps, batch, values.shape[-1],
                   torch.get_num_threads(), where, norms.data_ptr())  # fmt: skip
    return norms


def _rows(values: Tensor) -> tuple[Place, int, int] | None:
    """Return a tensor's rows as a series: steps, and rows of a step."""
    if values.dim() == 3:
        return place(values), values.shape[0], values.shape[1]
    if values.dim() == 2:
        return (values.data_ptr(), values.stride(0), 0), len(values), 1
    if values.dim() > 3 and values.is_contiguous():
        size = values.shape[-1]
        return (values.data_ptr(), size, 0), values.numel() // size if size else 0, 1
    return None


def distance(one: Tensor, other: Tensor | None) -> float | None:
    """Return ‖one - other‖ of all entries in float64; ``None`` for other counts as zeros."""
    core = core_for(one, other)
    if core is None or not one.is_contiguous():
        return None
    if other is not None:
        if other.shape != one.shape or not other.is_contiguous():
            return None
        if one.dtype is torch.float32 and other.dtype is torch.float64:
            one, other = other, one
    wide = other is not None and other.dtype is torch.float64
    found: float = core.distance(one.dtype is torch.float64, wide, one.data_ptr(),
                                 address(other), one.numel())  # fmt: skip
    return found


def write_scaled(part: Tensor, values: Tensor, scales: Tensor) -> bool:
    """Write ``(K, B, F)`` float64 as float32 ``values`` and one float64 scale a row."""
    core = core_for(part)
    steps, batch, size = part.shape
    even = part.stride(0) == batch * part.stride(1) or steps == 1
    if core is None or part.dtype is not torch.float64 or not even:
        return False
    if not (values.is_contiguous() and scales.is_contiguous() and values.is_cpu):
        return False
    if values.dtype is not torch.float32:
        return False
    core.scale_rows(part.data_ptr(), steps * batch, size, part.stride(1), values.data_ptr(), size,
                    scales.data_ptr(), torch.get_num_threads())  # fmt: skip
    return True


def unit_sums(values: Tensor, lengths: Tensor) -> UnitSums | None:
    """Sum ``(T, B, H)`` over the rows that exist, by unit and by step.

    Args:
        lengths: ``(B,)`` steps of each row.
    """
    per_unit = torch.zeros(values.shape[-1], dtype=torch.float64)
    per_step = torch.zeros(len(values), dtype=torch.float64)
    done = _counted(values, lengths, per_unit.data_ptr(), per_step.data_ptr(), 0, 0, 0.0, False)
    return UnitSums(per_unit, per_step) if done else None


def slopes_below(
    values: Tensor, lengths: Tensor, level: float, *, relu: bool
) -> tuple[Tensor, Tensor] | None:
    """Count for each unit the steps and rows with φ' below a level, and those with φ' = 0.

    Args:
        values: ``(T, B, H)``, the outputs of tanh or ReLU.
    """
    low = torch.zeros(values.shape[-1], dtype=torch.float64)
    zero = torch.zeros_like(low)
    done = _counted(values, lengths, 0, 0, low.data_ptr(), zero.data_ptr(), level, relu)
    return (low, zero) if done else None


def gate_sums_at(
    where: Place, shape: tuple[bool, int, int, int], lengths: Tensor, gates: int, lanes: int,
    spread: int,
) -> list[UnitSums]:  # fmt: skip
    """Return `unit_sums` of the gates that the core itself has left, in the order they lie in.

    Args:
        shape: Whether it is float64, and T, B, H. lanes, spread: Of csrc/scan_calls.h.
    """
    per_unit = torch.zeros(gates, shape[3], dtype=torch.float64)
    per_step = torch.zeros(gates, shape[1], dtype=torch.float64)
    _count(where, shape, lengths, (per_unit.data_ptr(), per_step.data_ptr(), 0, 0, 0.0, False),
           (gates, lanes, spread))  # fmt: skip
    return [UnitSums(*sums) for sums in zip(per_unit, per_step, strict=True)]


def _counted(values: Tensor, lengths: Tensor, *rest: Any) -> bool:
    core = core_for(values)
    if core is None or not lengths.is_cpu or lengths.dtype is not torch.int64:
        return False
    steps, batch, size = values.shape
    shape = (values.dtype is torch.float64, steps, batch, size)
    _count(place(values), shape, lengths, rest, (1, 0, 0))
    return True


def _count(
    where: Place, shape: tuple[bool, int, int, int], lengths: Tensor, rest: tuple[Any, ...],
    gates: tuple[int, int, int],
) -> None:  # fmt: skip
    core: Any = load()
    lengths = lengths.contiguous()
    core.unit_sums(*shape, torch.get_num_threads(), where, lengths.data_ptr(), *rest, *gates)
