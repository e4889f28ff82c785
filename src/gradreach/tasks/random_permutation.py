"""Remember the first of many symbols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.scores import error_rate
from gradreach.tasks.task import Seed, check_size, seeded

__all__ = ["RandomPermutation"]


@dataclass(frozen=True, slots=True)
class RandomPermutation:
    """Answer at the last step which of two symbols the first one was.

    All later steps show one of the other 98 symbols. It is :class:`FirstBit` with many inputs
    that mean nothing; where Pascanu's networks fail, they fail here.

    Args:
        steps: Length T of each sequence, 2 or more.
        alphabet: How many different symbols there are, 3 or more.

    Raises:
        ValueError: An argument is no whole number, or too small.

    Reference:
        Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural
        networks", after Martens & Sutskever (2011); the last step alone is scored.

    Example:
        >>> inputs, classes = RandomPermutation(steps=6).batch(2, seed=0)
        >>> inputs[:, 0], classes
        (array([1, 1]), array([1, 1]))
    """

    steps: int = 100
    alphabet: int = 100

    name: ClassVar[str] = "random_permutation"
    symbols: ClassVar[bool] = True
    output_size: ClassVar[int] = 2
    classes: ClassVar[bool] = True
    metric: ClassVar[str] = "error_rate"
    baseline: ClassVar[float] = 0.5
    criterion: ClassVar[dict[str, float]] = {"error_rate": 0.01}

    def __post_init__(self) -> None:
        check_size(self, "steps", self.steps, 2, "there must be steps after the first")
        check_size(self, "alphabet", self.alphabet, 3, "two to tell apart and one to fill with")

    @property
    def variant(self) -> str:
        """Whose definition it is."""
        return f"Pascanu 2013: {self.alphabet} symbols, last step scored"

    @property
    def needs_lag(self) -> int:
        """The first step decides the answer at the last."""
        return self.steps - 1

    @property
    def input_size(self) -> int:
        """One for each symbol."""
        return self.alphabet

    @property
    def first_answer(self) -> int:
        """Only the last step is answered."""
        return self.steps - 1

    def batch(self, n: int, seed: Seed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return symbols ``(B, T)`` and classes ``(B,)``; see :class:`Task`.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.
        """
        random = seeded(self, n, seed)
        shown = random.integers(2, self.alphabet, (n, self.steps))
        first = random.integers(0, 2, n)
        shown[:, 0] = first
        return shown, first

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the share of wrong answers."""
        return {"error_rate": error_rate(answers, targets)}
