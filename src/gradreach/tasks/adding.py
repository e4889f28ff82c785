"""Add two marked numbers out of a long sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.two_marked import TwoMarked

__all__ = ["Adding"]

VARIANCE = 1 / 6  # of the sum of two independent uniform numbers: the error of answering 1


@dataclass(frozen=True, slots=True)
class Adding(TwoMarked):
    """Answer at the last step the sum of the two numbers that were marked on the way.

    Channel 0 is a uniform number in [0, 1), channel 1 marks two of the steps by 1, one in the
    first half and one in the second. "The adding problem" is at least five different tasks:
    this is the one of the unitary networks and most papers since.

    Args:
        steps: Length T of each sequence, 2 or more.

    Raises:
        ValueError: ``steps`` is not a whole number of at least 2.

    Reference:
        Arjovsky, Shah & Bengio (2016), "Unitary evolution recurrent neural networks",
        section 5.2; the task is due to Hochreiter & Schmidhuber (1997), experiment 4, whose
        numbers, markers and target are others.

    Example:
        >>> task = Adding(steps=6)
        >>> inputs, targets = task.batch(1, seed=0)
        >>> inputs[0, :, 1], bool(targets[0, 0] == inputs[0, 0, 0] + inputs[0, 3, 0])
        (array([1., 0., 0., 1., 0., 0.], dtype=float32), True)
        >>> round(task.baseline, 4), task.criterion
        (0.1667, {'mse': 0.0016666666666666666})
    """

    name: ClassVar[str] = "adding"
    variant: ClassVar[str] = "Arjovsky 2016: one marker in each half, target x1 + x2"
    baseline: ClassVar[float] = VARIANCE
    criterion: ClassVar[dict[str, float]] = {"mse": VARIANCE / 100}

    def answer(
        self, first: NDArray[np.float32], second: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the sum."""
        return first + second
