"""What tasks share whose answer is made of two marked numbers of a long sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.scores import mean_squared_error
from gradreach.tasks.task import Seed, check_size, seeded

__all__ = ["TwoMarked"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TwoMarked(ABC):
    """Channel 0 is a uniform number in [0, 1); channel 1 marks one step in each half by 1."""

    steps: int = 100

    name: ClassVar[str]
    variant: ClassVar[str]
    baseline: ClassVar[float]
    criterion: ClassVar[dict[str, float]]
    input_size: ClassVar[int] = 2
    symbols: ClassVar[bool] = False
    output_size: ClassVar[int] = 1
    classes: ClassVar[bool] = False
    metric: ClassVar[str] = "mse"

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

    @abstractmethod
    def answer(self, first: Floats, second: Floats) -> Floats:
        """Return the targets, ``(B,)``, of the two marked numbers."""

    def batch(self, n: int, seed: Seed) -> tuple[Floats, Floats]:
        """Return inputs ``(B, T, 2)`` and targets ``(B, 1)``; see :class:`Task`.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.
        """
        values, marks, first, second = _marked_numbers(seeded(self, n, seed), n, self.steps)
        return np.stack([values, marks], -1), self.answer(first, second)[:, None]

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the mean squared error; the baseline is that of the best constant answer."""
        return {"mse": mean_squared_error(answers, targets)}


def _marked_numbers(random: np.random.Generator, n: int, steps: int) -> tuple[Floats, ...]:
    """Draw uniform numbers with two marks: ``(B, T)`` numbers and marks, ``(B,)`` the marked."""
    values = random.random((n, steps), dtype=np.float32)
    half = steps // 2
    early, late = random.integers(0, half, n), random.integers(half, steps, n)
    rows = np.arange(n)
    marks = np.zeros((n, steps), np.float32)
    marks[rows, early] = 1.0
    marks[rows, late] = 1.0
    return values, marks, values[rows, early], values[rows, late]
