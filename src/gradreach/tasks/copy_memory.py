"""Repeat some symbols after a long pause."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.scores import cross_entropy, error_rate
from gradreach.tasks.task import Seed, check_size, seeded

__all__ = ["CopyMemory"]


@dataclass(frozen=True, slots=True)
class CopyMemory:
    """Repeat the first symbols after ``delay`` steps, when a delimiter asks for them.

    Ten symbols out of eight, ``delay − 1`` blanks, the delimiter, ten blanks: ``delay + 20``
    steps. The answer is blank (class 0) at all steps but the last ten, which repeat the first
    ten. All steps are scored by the cross-entropy; what decides is the share of the ten that is
    wrong.

    Args:
        delay: Steps from the last symbol shown to the delimiter, 1 or more.
        shown: How many symbols are to be repeated.
        alphabet: How many different ones there are.

    Raises:
        ValueError: An argument is no whole number, or too small.

    Reference:
        Arjovsky, Shah & Bengio (2016), "Unitary evolution recurrent neural networks",
        section 5.1, with one delimiter; after Hochreiter & Schmidhuber (1997).

    Example:
        >>> inputs, targets = CopyMemory(delay=3, shown=2).batch(1, seed=0)
        >>> inputs, targets
        (array([[7, 6, 0, 0, 9, 0, 0]]), array([[0, 0, 0, 0, 0, 7, 6]]))
        >>> round(CopyMemory(delay=100).memoryless, 4)
        0.1733
    """

    delay: int = 100
    shown: int = 10
    alphabet: int = 8

    name: ClassVar[str] = "copy_memory"
    symbols: ClassVar[bool] = True
    classes: ClassVar[bool] = True
    first_answer: ClassVar[int] = 0
    metric: ClassVar[str] = "recall_error"

    def __post_init__(self) -> None:
        check_size(self, "delay", self.delay, 1, "the delimiter follows the symbols at once then")
        check_size(self, "shown", self.shown, 1, "there must be something to repeat")
        check_size(self, "alphabet", self.alphabet, 2, "one symbol alone would tell nothing")

    @property
    def variant(self) -> str:
        """Whose definition it is."""
        return f"Arjovsky 2016: {self.shown} of {self.alphabet} symbols, one delimiter"

    @property
    def steps(self) -> int:
        """Length of each sequence."""
        return self.delay + 2 * self.shown

    @property
    def needs_lag(self) -> int:
        """Each symbol is repeated as many steps after it was shown."""
        return self.delay + self.shown

    @property
    def input_size(self) -> int:
        """The blank, the symbols and the delimiter."""
        return self.alphabet + 2

    @property
    def output_size(self) -> int:
        """The blank and the symbols."""
        return self.alphabet + 1

    @property
    def baseline(self) -> float:
        """Share of the last answers that is wrong where nothing is remembered."""
        return 1.0 - 1.0 / self.alphabet

    @property
    def memoryless(self) -> float:
        """Cross-entropy, in nats a step, where blanks are right and the rest is guessed."""
        return self.shown * math.log(self.alphabet) / self.steps

    @property
    def criterion(self) -> dict[str, float]:
        """Nearly all repeated, and nearly sure of it."""
        return {"recall_error": 0.01, "cross_entropy": 0.1 * self.memoryless}

    def batch(self, n: int, seed: Seed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return symbols ``(B, T)`` and classes ``(B, T)``; see :class:`Task`.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.
        """
        random = seeded(self, n, seed)
        shown = random.integers(1, self.alphabet + 1, (n, self.shown))
        inputs = np.zeros((n, self.steps), np.int64)
        targets = np.zeros_like(inputs)
        inputs[:, : self.shown] = shown
        inputs[:, self.shown + self.delay - 1] = self.alphabet + 1
        targets[:, -self.shown :] = shown
        return inputs, targets

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the wrong share of the symbols to repeat, and the cross-entropy of all steps."""
        last = slice(-self.shown, None)
        return {
            "recall_error": error_rate(answers[:, last], targets[:, last]),
            "cross_entropy": cross_entropy(answers, targets),
        }
