"""Finite-time Lyapunov exponents of a layer along the user's own data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradreach.records.array_record import ArrayRecord
from gradreach.records.plain import Array

__all__ = ["LyapunovSpectrum"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LyapunovSpectrum(ArrayRecord):
    """Mean growth of the state's directions, in nats per step, the fastest first.

    λ_1 < 0: in the long run every long-term contribution vanishes at that rate, within some
    1/|λ_1| steps by a factor e. λ_1 > 0: the dynamics are chaotic along these data, some
    contributions explode; the number of positive exponents says in how many directions. A
    finite-time exponent depends on the data and on the length: see ``steps`` and ``spread``.

    Attributes:
        exponents: ``(k,)`` mean over the sequences, descending; -inf: a direction that is
            annihilated (dead units, a singular W_hh).
        per_sequence: ``(n, k)``.
        sequences: ``(n,)`` rows of the batch that were followed.
        steps: ``(n,)`` steps averaged over, the transient not counted.
        transient: ``(n,)`` steps dropped first, 10 + T/10.
        state_size: S, the number of exponents there are: H, for an LSTM 2H.
        notes: What else the reader should know, one sentence each.
    """

    exponents: Array
    per_sequence: Array
    sequences: NDArray[np.int64]
    steps: NDArray[np.int64]
    transient: NDArray[np.int64]
    state_size: int
    notes: tuple[str, ...] = ()

    @property
    def spread(self) -> Array:
        """``(k,)`` standard deviation over the sequences; NaN for a single one."""
        if len(self.sequences) < 2:
            return np.full(len(self.exponents), np.nan)
        with np.errstate(invalid="ignore"):
            return np.asarray(self.per_sequence.std(0, ddof=1))

    @property
    def complete(self) -> bool:
        """Whether all S exponents are there."""
        return len(self.exponents) == self.state_size

    @property
    def largest(self) -> float:
        """λ_1; NaN where there is none."""
        return float(self.exponents[0]) if len(self.exponents) else math.nan

    @property
    def horizon(self) -> float:
        """1/|λ_1|: steps within which the leading direction changes by a factor e."""
        return 1.0 / abs(self.largest) if self.largest else math.inf

    @property
    def positive(self) -> int:
        """Number of directions that grow."""
        return int((self.exponents > 0).sum())

    @property
    def sum(self) -> float:
        """Sum of all exponents, the mean log|det ∂s_t/∂s_{t-1}|; NaN where some are missing."""
        return float(self.exponents.sum()) if self.complete and self.state_size else math.nan

    @property
    def entropy_rate(self) -> float:
        """Sum of the positive exponents, nats per step (Pesin's bound of the entropy rate)."""
        return float(self.exponents[self.exponents > 0].sum())

    @property
    def dimension(self) -> float:
        """Kaplan–Yorke dimension of the attractor; NaN where too few exponents are known."""
        sums = np.cumsum(self.exponents)
        if not len(sums):
            return math.nan
        if sums[0] < 0:
            return 0.0
        below = np.flatnonzero(sums < 0)
        if not len(below):
            return float(self.state_size) if self.complete else math.nan
        first = int(below[0])
        return first + float(sums[first - 1] / abs(self.exponents[first]))

    def __str__(self) -> str:
        if not len(self.exponents):
            return "; ".join(("no exponents", *self.notes))
        spread = "" if np.isnan(self.spread[0]) else f" ± {self.spread[0]:.2g}"
        told = f"λ_1 = {self.largest:+.3f}{spread} nats per step"
        if self.largest > 0:
            told += f": {self.positive} of {len(self.exponents)} directions grow"
        elif self.largest < 0:
            told += f": every direction fades, by a factor e within {self.horizon:.3g} steps"
        count = len(self.sequences)
        where = f"{count} sequence{'s' * (count > 1)}, {int(self.steps.min())} steps"
        return "; ".join((f"{told} ({where})", *self.notes))
