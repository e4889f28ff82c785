"""The loss along an update of the weights, on the batch that the update came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.records.array_record import ArrayRecord
from gradreach.records.plain import Array

__all__ = ["LineProbe"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LineProbe(ArrayRecord):
    """``L(w + α·Δw)`` for some α, where Δw is what the optimizer just added to the weights.

    α = 0 is the loss before the step, α = 1 the loss on the same batch after it.

    Args:
        step: The optimizer step, from 0.
        scales: The α, increasing, the first is 0. losses: the loss at each.
        slope: ⟨gradient, Δw⟩: the loss's derivative at α = 0; negative where the update goes
            downhill on this batch.
        mismatch: |measured slope − ``slope``| by the larger of both: how far the replay of the
            batch can be trusted; checked before a probe is recorded.
        reason: Why there is no probe here; empty where there is one.

    Example:
        >>> probe = LineProbe(step=3, scales=np.array([0.0, 0.1, 1.0]),
        ...                   losses=np.array([1.0, 0.8, 4.0]), slope=-2.1, mismatch=0.01)
        >>> probe.best_scale, probe.change
        (0.1, 3.0)
    """

    step: int
    scales: Array
    losses: Array
    slope: float
    mismatch: float
    reason: str = ""

    @property
    def best_scale(self) -> float:
        """The α of the lowest finite loss; NaN where there is none."""
        if not np.isfinite(self.losses).any():
            return float("nan")
        return float(self.scales[np.nanargmin(np.where(np.isfinite(self.losses), self.losses,
                                                       np.nan))])  # fmt: skip

    @property
    def change(self) -> float:
        """By how much the update changed the loss on its own batch: L(α = 1) − L(α = 0)."""
        at_one = np.flatnonzero(self.scales == 1.0)
        if not len(at_one) or not len(self.losses):
            return float("nan")
        return float(self.losses[at_one[0]] - self.losses[0])
