"""Say in which order two or three symbols came, long ago, among many that mean nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.scores import error_rate
from gradreach.tasks.task import Seed, check_size, seeded

__all__ = ["TemporalOrder"]

# Tenths of the sequence in which the symbols that matter begin to be shown.
WINDOWS = {2: (1, 5), 3: (1, 3, 6)}


@dataclass(frozen=True, slots=True)
class TemporalOrder:
    """Answer at the last step which of A and B stood at each of two (or three) places.

    Symbols 0 and 1, A and B, stand at one random step of each window, a tenth of the sequence
    long; the other steps show one of four symbols that mean nothing. The class is the sum of
    symbol · 2^window.

    Args:
        steps: Length T of each sequence, 10 or more.
        bits: Windows, 2 or 3.

    Raises:
        ValueError: ``steps`` is not a whole number of at least 10, or ``bits`` not 2 or 3.

    Reference:
        Hochreiter & Schmidhuber (1997), experiment 6, in the definition of Pascanu, Mikolov &
        Bengio (2013): windows from T/10 and T/2 on (2 bits), T/10, 3T/10 and 6T/10 (3 bits), no
        symbols for begin and end.

    Example:
        >>> task = TemporalOrder(steps=20)
        >>> inputs, classes = task.batch(1, seed=0)
        >>> inputs[0, 2:4], inputs[0, 10:12], classes
        (array([1, 3]), array([4, 0]), array([1]))
    """

    steps: int = 100
    bits: int = 2

    name: ClassVar[str] = "temporal_order"
    input_size: ClassVar[int] = 6
    symbols: ClassVar[bool] = True
    classes: ClassVar[bool] = True
    metric: ClassVar[str] = "error_rate"
    criterion: ClassVar[dict[str, float]] = {"error_rate": 0.01}

    def __post_init__(self) -> None:
        check_size(self, "steps", self.steps, 10, "a window is a tenth of it")
        if self.bits not in WINDOWS:
            raise ValueError(
                f"TemporalOrder(): argument 'bits' must be 2 or 3; got {self.bits!r}: 2 is the "
                "task of two symbols and four classes"
            )

    @property
    def variant(self) -> str:
        """Whose definition it is."""
        return f"Pascanu 2013: {self.bits} bits, windows of T/10"

    @property
    def needs_lag(self) -> int:
        """The first symbol may stand at the first step of its window."""
        return self.steps - 1 - self.steps * WINDOWS[self.bits][0] // 10

    @property
    def output_size(self) -> int:
        """One class for each order."""
        return int(2**self.bits)

    @property
    def first_answer(self) -> int:
        """Only the last step is answered."""
        return self.steps - 1

    @property
    def baseline(self) -> float:
        """All orders are equally frequent."""
        return 1.0 - 1.0 / self.output_size

    def batch(self, n: int, seed: Seed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return symbols ``(B, T)`` and classes ``(B,)``; see :class:`Task`.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.
        """
        random = seeded(self, n, seed)
        width, rows = self.steps // 10, np.arange(n)
        shown = random.integers(2, 6, (n, self.steps))
        classes = np.zeros(n, np.int64)
        for bit, tenths in enumerate(WINDOWS[self.bits]):
            at = self.steps * tenths // 10 + random.integers(0, width, n)
            value = random.integers(0, 2, n)
            shown[rows, at] = value
            classes += value << bit
        return shown, classes

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the share of wrong classes."""
        return {"error_rate": error_rate(answers, targets)}
