"""Say, at the end of a sequence of bits, what the first bit was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.scores import error_rate
from gradreach.tasks.task import Seed, seeded

__all__ = ["FIRST_BIT_SEQUENCES", "FirstBit"]

# The data of the smallest recurrent network: three timestamps, and a label that only the first
# of them decides. The four are all it is trained and judged on.
FIRST_BIT_SEQUENCES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((1, 0, 1), 1),
    ((0, 0, 1), 0),
    ((0, 0, 0), 0),
    ((1, 1, 1), 1),
)


@dataclass(frozen=True, slots=True)
class FirstBit:
    """Generate sequences of ``steps`` random bits whose label is bit 1.

    The purest long-term dependency: one bit has to survive ``steps - 1`` updates of the state,
    each of which brings a bit that means nothing. Bits are independent and fair, so no later
    bit tells anything about the label, and a network that is blind to step 1 is right half of
    the time. ``steps = 1`` asks for no memory at all: a counter-check that must be easy.

    Args:
        steps: Length T of each sequence, 1 or more; the dependency spans ``steps - 1`` steps.

    Raises:
        ValueError: ``steps`` is not a whole number of at least 1.

    Reference:
        The two-class latching problem of Bengio, Simard & Frasconi (1994), "Learning long-term
        dependencies with gradient descent is difficult", with a clean bit in place of a real
        number and random bits in place of small noise.

    Example:
        >>> inputs, labels = FirstBit(steps=5).batch(3, seed=0)
        >>> inputs
        array([[1., 1., 1., 0., 0.],
               [0., 0., 0., 0., 1.],
               [1., 1., 1., 1., 1.]])
        >>> labels
        array([1, 0, 1])
    """

    steps: int = 3

    name: ClassVar[str] = "first_bit"
    variant: ClassVar[str] = "Bengio 1994's latch with clean bits, random bits after the first"
    input_size: ClassVar[int] = 1
    symbols: ClassVar[bool] = False
    output_size: ClassVar[int] = 2
    classes: ClassVar[bool] = True
    metric: ClassVar[str] = "error_rate"
    baseline: ClassVar[float] = 0.5
    criterion: ClassVar[dict[str, float]] = {"error_rate": 0.01}
    baseline_accuracy: ClassVar[float] = 0.5
    """Share of right answers without any memory."""
    chance_loss: ClassVar[float] = math.log(2)
    """Binary cross-entropy, in nats, of the best answer without any memory."""

    def __post_init__(self) -> None:
        steps: object = self.steps  # annotations bind nobody at run time
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(
                "FirstBit(): argument 'steps' must be a whole number of at least 1;"
                f" got {steps!r}: pass the length of the sequences, such as steps=100"
            )

    @property
    def needs_lag(self) -> int:
        """The first step decides the answer at the last."""
        return self.steps - 1

    @property
    def first_answer(self) -> int:
        """Only the last step is answered."""
        return self.steps - 1

    def batch(self, n: int, seed: Seed) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Generate ``n`` sequences; the same seed gives the same bits on every machine.

        Shape:
            returns: inputs ``(B, T)`` of 0.0 and 1.0, labels ``(B,)`` of 0 and 1, ``B = n``.

        Args:
            n: Number of sequences, 1 or more.
            seed: Seed of NumPy's default generator; no global random state is touched.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.

        Cost:
            ``8·n·T`` bytes.

        Example:
            >>> inputs, labels = FirstBit(steps=1000).batch(64, seed=1)
            >>> inputs.shape, bool((inputs[:, 0] == labels).all())
            ((64, 1000), True)
        """
        bits = seeded(self, n, seed).integers(0, 2, size=(n, self.steps))
        return bits.astype(np.float64), bits[:, 0].astype(np.int64)

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the share of wrong labels, of answers ``(B, 2)``."""
        return {"error_rate": error_rate(answers, targets)}
