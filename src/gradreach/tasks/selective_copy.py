"""Repeat the symbols that were scattered over a long sequence of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.scores import error_rate
from gradreach.tasks.task import Seed, check_size, seeded

__all__ = ["SelectiveCopy"]


@dataclass(frozen=True, slots=True)
class SelectiveCopy:
    """Repeat, in their order, the symbols met on the way; how far apart they stood means nothing.

    ``length`` steps of noise (0), with ``shown`` symbols (2, 3, …) at random places, then as many
    queries (1), at each of which one symbol is to be answered.

    Args:
        length: Steps before the first query, at least ``shown``.
        shown: How many symbols are to be repeated.
        alphabet: How many different ones there are.

    Raises:
        ValueError: An argument is no whole number, or too small.

    Reference:
        Gu & Dao (2023), "Mamba", section 4.1.1, with a vocabulary of 16 of which 14 carry data.

    Example:
        >>> inputs, targets = SelectiveCopy(length=6, shown=2).batch(1, seed=0)
        >>> inputs, targets
        (array([[0, 0, 0, 5, 6, 0, 1, 1]]), array([[5, 6]]))
    """

    length: int = 256
    shown: int = 16
    alphabet: int = 14

    name: ClassVar[str] = "selective_copy"
    symbols: ClassVar[bool] = True
    classes: ClassVar[bool] = True
    metric: ClassVar[str] = "error_rate"
    criterion: ClassVar[dict[str, float]] = {"error_rate": 0.01}

    def __post_init__(self) -> None:
        check_size(self, "shown", self.shown, 2, "their order is part of the task")
        check_size(self, "length", self.length, self.shown, "the symbols stand in it")
        check_size(self, "alphabet", self.alphabet, 2, "one symbol alone would tell nothing")

    @property
    def variant(self) -> str:
        """Whose definition it is."""
        return f"Mamba 2023: {self.shown} of {self.alphabet} symbols, scattered"

    @property
    def steps(self) -> int:
        """Length of each sequence."""
        return self.length + self.shown

    @property
    def needs_lag(self) -> int:
        """The first symbol may stand at the first step."""
        return self.length

    @property
    def input_size(self) -> int:
        """Noise, the query and the symbols."""
        return self.alphabet + 2

    @property
    def output_size(self) -> int:
        """As many as there are inputs; noise and query are never right."""
        return self.alphabet + 2

    @property
    def first_answer(self) -> int:
        """The first query."""
        return self.length

    @property
    def baseline(self) -> float:
        """All symbols are equally frequent."""
        return 1.0 - 1.0 / self.alphabet

    def batch(self, n: int, seed: Seed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return symbols ``(B, T)`` and classes ``(B, shown)``; see :class:`Task`.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.
        """
        random = seeded(self, n, seed)
        inputs = np.zeros((n, self.steps), np.int64)
        targets = np.zeros((n, self.shown), np.int64)
        for row in range(n):
            at = np.sort(random.choice(self.length, self.shown, replace=False))
            targets[row] = random.integers(2, self.alphabet + 2, self.shown)
            inputs[row, at] = targets[row]
        inputs[:, self.length :] = 1
        return inputs, targets

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the share of wrong symbols."""
        return {"error_rate": error_rate(answers, targets)}
