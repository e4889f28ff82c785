"""Float64 gradients kept in half the memory, without losing the small ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gradreach.kernels.native.pages import fresh
from gradreach.kernels.native.rows import write_scaled
from gradreach.kernels.native.terms import Block
from gradreach.records import ScaledArray

__all__ = ["Scaled"]


class Scaled:
    """Vectors of ``(T, B, F)`` in the model's dtype, each with a float64 scale of its own.

    A float32 number ends at 1e-38 while a vanishing gradient goes on; with a scale for each
    step and row every vector keeps the 24 digits of its mantissa down to 1e-308. For a float64
    model the numbers are kept as they are.
    """

    def __init__(self, values: Tensor, scales: Tensor | None) -> None:
        self.values, self.scales = values, scales

    @classmethod
    def empty(cls, steps: int, batch: int, size: int, like: Tensor) -> Scaled:
        """Return room for ``steps``, in the dtype of ``like``; zeros where nothing is written."""
        room = cls.room(steps, batch, size, like)
        room.values.zero_()
        return room

    @classmethod
    def room(cls, steps: int, batch: int, size: int, like: Tensor) -> Scaled:
        """Return room for ``steps`` that are all going to be written."""
        values = fresh((steps, batch, size), like)
        if like.dtype == torch.float64:
            return cls(values, None)
        return cls(values, torch.ones(steps, batch, dtype=torch.float64, device=like.device))

    def write(self, start: int, stop: int, part: Tensor) -> None:
        """Keep steps ``start … stop-1``, ``(K, B, F)`` float64."""
        if self.scales is None:
            self.values[start:stop] = part
            return
        if write_scaled(part, self.values[start:stop], self.scales[start:stop]):
            return
        peak = part.abs().amax(-1)
        scale = torch.where((peak > 0) & peak.isfinite(), peak, 1.0)
        self.scales[start:stop] = scale
        self.values[start:stop] = part / scale[..., None]

    def read(self, start: int, stop: int) -> Tensor:
        """Return steps ``start … stop-1`` as float64."""
        part = self.values[start:stop].double()
        return part if self.scales is None else part * self.scales[start:stop, :, None]

    def block(self) -> Block:
        """Return the numbers as they are kept, without a copy."""
        return Block(self.values, self.scales)

    def joined(self, others: list[Scaled], join: Callable[[list[Tensor]], Tensor]) -> Scaled:
        """Return this and other stretches of time as one."""
        parts = [self, *others]
        values = join([part.values for part in parts])
        scales = [part.scales for part in parts if part.scales is not None]
        return Scaled(values, join(scales) if scales else None)

    def record(self, steps: int, exists: Tensor) -> ScaledArray:
        """Return the first ``steps`` steps as a record, NaN where ``exists`` ``(T, B)`` is not."""
        if self.scales is None:
            values = self.values
            if not bool(exists.all()):
                values = torch.where(exists[..., None], values, torch.nan)
            return ScaledArray(values[:steps].cpu().numpy(), None)
        scales = torch.where(exists, self.scales, torch.nan)[:steps]
        return ScaledArray(self.values[:steps].cpu().numpy(), np.asarray(scales.cpu()))
