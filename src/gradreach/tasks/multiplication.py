"""Multiply two marked numbers out of a long sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.adding import marked_numbers
from gradreach.tasks.scores import mean_squared_error
from gradreach.tasks.task import Seed, check_size, seeded

__all__ = ["Multiplication"]

VARIANCE = 7 / 144  # of the product of two independent uniform numbers: 1/9 − 1/16


@dataclass(frozen=True, slots=True)
class Multiplication:
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

    steps: int = 100

    name: ClassVar[str] = "multiplication"
    variant: ClassVar[str] = "one marker in each half as Arjovsky 2016, target x1 · x2"
    input_size: ClassVar[int] = 2
    symbols: ClassVar[bool] = False
    output_size: ClassVar[int] = 1
    classes: ClassVar[bool] = False
    metric: ClassVar[str] = "mse"
    baseline: ClassVar[float] = VARIANCE
    criterion: ClassVar[dict[str, float]] = {"mse": VARIANCE / 100}

    def __post_init__(self) -> None:
        check_size(self, "steps", self.steps, 2, "one step for each of the two markers")

    @property
    def needs_lag(self) -> int:
        """The first marker may stand at the first step."""
        return self.steps - 1

    @property
    def first_answer(self) -> int:
        """Only the last step is answered."""
        return self.steps - 1

    def batch(self, n: int, seed: Seed) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return inputs ``(B, T, 2)`` and targets ``(B, 1)``; see :class:`Task`.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.
        """
        values, marks, first, second = marked_numbers(seeded(self, n, seed), n, self.steps)
        return np.stack([values, marks], -1), (first * second)[:, None]

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the mean squared error; 7/144 is what answering 1/4 throughout gives."""
        return {"mse": mean_squared_error(answers, targets)}
