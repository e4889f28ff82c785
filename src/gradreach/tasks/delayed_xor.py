"""Say, at every step, whether two bits of the past were different."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.scores import error_rate
from gradreach.tasks.task import Seed, check_size, seeded

__all__ = ["DelayedXor"]


@dataclass(frozen=True, slots=True)
class DelayedXor:
    """Answer ``s[t − d] xor s[t − 2d]`` at every step from ``2d`` on, for random bits ``s``.

    Neither bit alone tells anything, and 2d bits have to be kept at a time.

    Args:
        steps: Length T of each sequence, more than ``2 · delay``.
        delay: d, 1 or more.

    Raises:
        ValueError: An argument is no whole number, or too small.

    Reference:
        Engelken (2023), "Gradient flossing": delayed temporal XOR as its code has it. The paper
        writes ``x[t − d/2] xor x[t − d]``: the code's d is half the paper's.

    Example:
        >>> bits, targets = DelayedXor(steps=7, delay=2).batch(1, seed=0)
        >>> bits, targets
        (array([[1, 1, 1, 0, 0, 0, 0]]), array([[0, 1, 1]]))
    """

    steps: int = 300
    delay: int = 10

    name: ClassVar[str] = "delayed_xor"
    input_size: ClassVar[int] = 2
    symbols: ClassVar[bool] = True
    output_size: ClassVar[int] = 2
    classes: ClassVar[bool] = True
    metric: ClassVar[str] = "error_rate"
    baseline: ClassVar[float] = 0.5
    criterion: ClassVar[dict[str, float]] = {"error_rate": 0.05}

    def __post_init__(self) -> None:
        check_size(self, "delay", self.delay, 1, "the bits asked for lie in the past")
        check_size(
            self, "steps", self.steps, 2 * self.delay + 1, "the first answer is at 2 · delay"
        )

    @property
    def variant(self) -> str:
        """Whose definition it is."""
        return f"flossing code: s[t-{self.delay}] xor s[t-{2 * self.delay}]"

    @property
    def needs_lag(self) -> int:
        """The older of the two bits."""
        return 2 * self.delay

    @property
    def first_answer(self) -> int:
        """The first step that has both bits."""
        return 2 * self.delay

    def batch(self, n: int, seed: Seed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return bits ``(B, T)`` and classes ``(B, T − 2d)``; see :class:`Task`.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.
        """
        bits = seeded(self, n, seed).integers(0, 2, (n, self.steps))
        late = bits[:, self.delay : self.steps - self.delay]
        early = bits[:, : self.steps - 2 * self.delay]
        return bits, late ^ early

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the share of wrong answers."""
        return {"error_rate": error_rate(answers, targets)}
