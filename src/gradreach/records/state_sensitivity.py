"""How strongly a layer's state depends on its recurrent weights, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradreach.records.array_record import ArrayRecord
from gradreach.records.plain import Array

__all__ = ["StateSensitivity"]


@dataclass(frozen=True, eq=False, kw_only=True)
class StateSensitivity(ArrayRecord):
    """‖dh_t/dW_hh‖: the curse of memory.

    The longer a network remembers, the more uses of W_hh each state sums up: its sensitivity to
    the weights grows although no Jacobian explodes, and a learning rate that suited a short
    memory is too large for a long one.

    Attributes:
        norms: ``(T,)`` ‖dh_t/dW_hh‖_F, all paths, root mean square over the sequences.
        immediate: ``(T,)`` the part of step t alone, its incoming state held constant.
        state_norms: ``(T,)`` ‖h_t‖, root mean square over the sequences.
        weight_norm: ‖W_hh‖_F.
        sequences: ``(n,)`` rows of the batch that were followed.
        tangents: Directions of W_hh that were followed: all of them, or random ones.
        exact: Whether all were.
        standard_error: Relative standard error of ``norms`` that the random directions leave,
            the largest over the steps; 0 where exact.
        notes: What else the reader should know, one sentence each.
    """

    norms: Array
    immediate: Array
    state_norms: Array
    weight_norm: float
    sequences: NDArray[np.int64]
    tangents: int
    exact: bool
    standard_error: float
    notes: tuple[str, ...] = ()

    @property
    def amplification(self) -> Array:
        """``(T,)`` norms over the mean immediate part: how many steps' worth have piled up.

        1 where nothing is remembered. A one-dimensional linear network h_t = λ h_{t-1} + x_t
        with constant input settles at 1/(1-λ).
        """
        mean = float(np.sqrt(np.mean(np.square(self.immediate)))) if len(self.immediate) else 0.0
        return np.asarray(self.norms / mean) if mean > 0 else np.full(len(self.norms), np.nan)

    @property
    def relative(self) -> Array:
        """``(T,)`` ‖dh_t/dW‖·‖W‖/‖h_t‖: per cent change of the state per cent of weight."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.norms * self.weight_norm / self.state_norms)

    def __str__(self) -> str:
        if not len(self.norms):
            return "; ".join(("no sensitivity", *self.notes))
        how = "exact" if self.exact else f"± {self.standard_error:.0%}, {self.tangents} directions"
        told = (
            f"the last state feels a change of W_hh {self.amplification[-1]:.3g} times as strongly "
            f"as one step alone makes it ({how})"
        )
        return "; ".join((told, *self.notes))
