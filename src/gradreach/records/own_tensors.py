"""The large arrays behind the record of a user's own cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradreach.records.plain import Array

__all__ = ["OwnCellTensors"]


@dataclass(frozen=True, eq=False)
class OwnCellTensors:
    """State gradients by part of the state, and contributions by parameter.

    Shape:
        parts: ``(T, B, H_part)``, ∂L/∂ part. terms: for each parameter ``T`` arrays shaped as it,
        each with the factor that makes it c_k; ``None`` where they were too large to keep.
    """

    parts: Mapping[str, Array]
    terms: Mapping[str, Sequence[tuple[NDArray[Any], float]]] | None

    def term(self, name: str, step: int) -> Array:
        """Return c_k of one parameter.

        Raises:
            LookupError: The terms were not kept.
        """
        if self.terms is None:
            raise LookupError(
                "contribution(): the terms of this cell were too large to keep (steps times "
                "parameters); measure a shorter sequence to have them, or use `shares`"
            )
        values, factor = self.terms[name][step]
        return np.asarray(values.astype(np.float64) * factor)
