"""Add two marked numbers out of a long sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.scores import mean_squared_error
from gradreach.tasks.task import Seed, check_size, seeded

__all__ = ["Adding"]

VARIANCE = 1 / 6  # of the sum of two independent uniform numbers: the error of answering 1


@dataclass(frozen=True, slots=True)
class Adding:
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

    steps: int = 100

    name: ClassVar[str] = "adding"
    variant: ClassVar[str] = "Arjovsky 2016: one marker in each half, target x1 + x2"
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
        return np.stack([values, marks], -1), (first + second)[:, None]

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the mean squared error; 1/6 is what answering 1 throughout gives."""
        return {"mse": mean_squared_error(answers, targets)}


def marked_numbers(
    random: np.random.Generator, n: int, steps: int
) -> tuple[NDArray[np.float32], ...]:
    """Draw uniform numbers with two marks: ``(B, T)`` numbers and marks, ``(B,)`` the marked."""
    values = random.random((n, steps), dtype=np.float32)
    half = steps // 2
    early, late = random.integers(0, half, n), random.integers(half, steps, n)
    rows = np.arange(n)
    marks = np.zeros((n, steps), np.float32)
    marks[rows, early] = 1.0
    marks[rows, late] = 1.0
    return values, marks, values[rows, early], values[rows, late]
