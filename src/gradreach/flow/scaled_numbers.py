"""Numbers with their exponent apart, for products too long for float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ONE", "Scaled", "ScaledNumbers", "multiply"]

Scaled = tuple[float, int]
"""One number ``mantissa · 2^exponent``, the mantissa as `math.frexp` gives it."""

ONE: Scaled = (0.5, 1)


def multiply(start: Scaled, *factors: float) -> Scaled:
    """Multiply one number by plain floats: one rounding a factor, no underflow, no overflow.

    Args:
        start: The number to start from, often `ONE`.
        factors: What to multiply it by, from left to right.

    Example:
        >>> multiply(ONE, *[1e-300] * 3)  # 1e-900
        (0.6..., -2989)
    """
    mantissa, exponent = start
    for factor in factors:
        part, shift = math.frexp(factor)
        mantissa, carry = math.frexp(mantissa * part)
        exponent += shift + carry
    return mantissa, exponent


@dataclass(frozen=True, slots=True, eq=False)
class ScaledNumbers:
    """Hold an array of numbers ``mantissa · 2^exponent`` whose exponent cannot overflow.

    A product over 1,000 steps leaves float64 below 1e-308 and above 1e308. Its size and its
    sign are still exact to rounding here.

    Shape:
        mantissas, exponents and every property: the same, any.

    Attributes:
        mantissas: In ±[0.5, 1), or 0, or not finite.
        exponents: Powers of two, int64.

    Example:
        >>> tiny = ScaledNumbers.pack([(-0.5, -4999)])  # -2^-5000
        >>> tiny.values, tiny.signs, tiny.log10.round(2)
        (array([-0.]), array([-1]), array([-1505.15]))
    """

    mantissas: NDArray[np.float64]
    exponents: NDArray[np.int64]

    @classmethod
    def pack(cls, numbers: Sequence[Scaled]) -> ScaledNumbers:
        """Collect single numbers into one array, exponents of exact zeros set to 0."""
        mantissas = np.array([number[0] for number in numbers], dtype=np.float64)
        exponents = np.array([number[1] for number in numbers], dtype=np.int64)
        return cls(mantissas, np.where(mantissas == 0, 0, exponents))

    @property
    def values(self) -> NDArray[np.float64]:
        """As float64: 0 or ±inf where they do not fit."""
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(self.mantissas, self.exponents), dtype=np.float64)

    @property
    def log10(self) -> NDArray[np.float64]:
        """``log10`` of the magnitude; -inf where a number is exactly 0."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log10(np.abs(self.mantissas)) + self.exponents * math.log10(2))

    @property
    def signs(self) -> NDArray[np.int64]:
        """-1, 0 or 1; 0 as well where a number is NaN."""
        return np.nan_to_num(np.sign(self.mantissas)).astype(np.int64)

    def sum(self) -> tuple[ScaledNumbers, NDArray[np.float64]]:
        """Add all numbers up, rounded once; return the sum and each number's share of it.

        The shares are NaN where the sum is 0 or not finite.
        """
        present = self.exponents[self.mantissas != 0]
        top = int(present.max()) if present.size else 0
        # Relative to the largest: what underflows here is below 1e-307 of it.
        relative = ScaledNumbers(self.mantissas, self.exponents - top).values
        total = math.fsum(relative) if np.isfinite(relative).all() else math.nan
        usable = math.isfinite(total) and total != 0
        shares = relative / total if usable else np.full(relative.shape, math.nan)
        mantissa, exponent = math.frexp(total)
        return ScaledNumbers(np.array(mantissa), np.array(exponent + top)), shares
