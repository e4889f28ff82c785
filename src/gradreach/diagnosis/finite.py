"""The centre of a column of which some entries were not measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "mean", "median"]

Rows = NDArray[np.intp]  # places among the rows of a history


def median(values: NDArray[Any]) -> float:
    """Return the median of the finite values; NaN where there is none.

    Example:
        >>> median(np.array([1.0, np.nan, 9.0, 2.0])), median(np.array([np.inf]))
        (2.0, nan)
    """
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")


def mean(values: NDArray[Any]) -> float:
    """Return the mean of the finite values; NaN where there is none.

    Example:
        >>> mean(np.array([1.0, np.nan, 3.0]))
        2.0
    """
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
