"""Singular values of a layer's state Jacobians, step by step and of their product."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradreach.records.array_record import ArrayRecord
from gradreach.records.plain import Array

__all__ = ["JacobianSummary"]


@dataclass(frozen=True, eq=False, kw_only=True)
class JacobianSummary(ArrayRecord):
    """What ∂s_t/∂s_{t-1} does to directions of the state, along the user's own data.

    s is h, or (h, c) together for an LSTM. A singular value above 1 is a direction that this
    step makes longer; the product over the sequence is what a gradient from the last step is
    multiplied by on its way to the first.

    Attributes:
        sequences: ``(n,)`` rows of the batch that were looked at.
        steps: ``(K,)`` steps that were looked at one by one; all of them up to 512.
        state_size: S, numbers in the state: H, for an LSTM 2H.
        method: ``"exact"``, or ``"block Krylov"`` for large states.
        largest: ``(K, n)`` largest singular value of the step; NaN beyond a row's end.
        median: ``(K, n)``, smallest: ``(K, n)``; NaN at steps where they were not computed.
        product_log10: ``(n, m)`` log10 of the singular values of ∂s_T/∂s_0, T the row's own
            length, descending: all S where exact, else the largest ones. -inf: a direction of
            the first state that the last one does not depend on.
        product_steps: ``(n,)`` T of each row.
        notes: What else the reader should know, one sentence each.
    """

    sequences: NDArray[np.int64]
    steps: NDArray[np.int64]
    state_size: int
    method: str
    largest: Array
    median: Array
    smallest: Array
    product_log10: Array
    product_steps: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @property
    def condition(self) -> Array:
        """``(K, n)`` condition number of each step: largest over smallest."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.largest / self.smallest)

    @property
    def product_condition_log10(self) -> Array:
        """``(n,)`` log10 of the product's condition number; NaN where not all values are known."""
        if self.product_log10.shape[1] < self.state_size:
            return np.full(len(self.sequences), np.nan)
        with np.errstate(invalid="ignore"):
            return np.asarray(self.product_log10[:, 0] - self.product_log10[:, -1])

    @property
    def growth_per_step(self) -> Array:
        """``(n,)`` nats per step: ln of the product's largest singular value over T."""
        if not self.product_log10.shape[1]:
            return np.full(len(self.sequences), np.nan)
        return np.asarray(self.product_log10[:, 0] * math.log(10) / self.product_steps)

    def __str__(self) -> str:
        count = len(self.sequences)
        if not count:
            return "; ".join(("no Jacobian", *self.notes))
        told = f"one step stretches by at most {np.nanmax(self.largest):.3g}"
        if not np.isnan(self.median).all():
            told += f" (median direction {np.nanmedian(self.median):.3g})"
        if self.product_log10.shape[1]:
            peaks = self.product_log10[:, 0]
            told += (
                f"; over {int(self.product_steps.max())} steps the largest factor is "
                f"10^{np.median(peaks):.1f}, {np.median(self.growth_per_step):+.3f} nats per step"
            )
        plural = "sequence" if count == 1 else "sequences"
        return "; ".join((f"{told} ({count} {plural}, {self.method})", *self.notes))
