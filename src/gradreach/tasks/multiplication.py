"""Multiply two marked numbers out of a long sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.two_marked import TwoMarked

__all__ = ["Multiplication"]

VARIANCE = 7 / 144  # of the product of two independent uniform numbers: 1/9 − 1/16


@dataclass(frozen=True, slots=True)
class Multiplication(TwoMarked):
    """Answer at the last step the product of the two numbers that were marked on the way.

    The sequences are those of :class:`gradreach.tasks.adding.Adding`. A linear readout of a sum
    does not help here: the product has to be formed.

    Args:
        steps: Length T of each sequence, 2 or more.

    Raises:
        ValueError: ``steps`` is not a whole number of at least 2.

    Reference:
        Hochreiter & Schmidhuber (1997), experiment 5; numbers and markers as in Arjovsky, Shah &
        Bengio (2016), section 5.2.

    Example:
        >>> inputs, targets = Multiplication(steps=30).batch(4, seed=0)
        >>> inputs.shape, targets.shape, round(Multiplication.baseline, 5)
        ((4, 30, 2), (4, 1), 0.04861)
    """

    name: ClassVar[str] = "multiplication"
    variant: ClassVar[str] = "one marker in each half as Arjovsky 2016, target x1 · x2"
    baseline: ClassVar[float] = VARIANCE
    criterion: ClassVar[dict[str, float]] = {"mse": VARIANCE / 100}

    def answer(
        self, first: NDArray[np.float32], second: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the product."""
        return first * second
