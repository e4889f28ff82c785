"""Recognise a digit, shown row by row, after a long stretch of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.pixel_digits import held_out_digits, training_digits
from gradreach.tasks.scores import error_rate
from gradreach.tasks.task import Seed, check_size, seeded

__all__ = ["NoisePadded", "padded_with_noise"]


@dataclass(frozen=True, slots=True)
class NoisePadded:
    """Answer at the last step which digit the first eight steps showed; noise ever since.

    Real handwritten digits of 8 × 8 pixels, a row a step, then independent normal noise, drawn
    anew for each sequence.

    Args:
        steps: Length T of each sequence, 9 or more.

    Raises:
        ValueError: ``steps`` is not a whole number of at least 9.

    Reference:
        Chang, Chen, Haber & Chi (2019), "AntisymmetricRNN", section 4.3 (noise-padded CIFAR-10,
        fresh noise), with smaller images. The code of coRNN and LEM draws one block of noise and
        repeats it for every sequence, which is an easier task.

    Example:
        >>> inputs, digits = NoisePadded(steps=100).batch(3, seed=0)
        >>> inputs.shape, digits, bool((inputs[:, :8] <= 1).all())
        ((3, 100, 8), array([6, 0, 6]), True)
    """

    steps: int = 100

    name: ClassVar[str] = "noise_padded"
    variant: ClassVar[str] = "as Chang 2019, fresh noise; UCI digits 8 x 8 row by row"
    input_size: ClassVar[int] = 8
    symbols: ClassVar[bool] = False
    output_size: ClassVar[int] = 10
    classes: ClassVar[bool] = True
    metric: ClassVar[str] = "error_rate"
    baseline: ClassVar[float] = 0.9
    criterion: ClassVar[dict[str, float]] = {"error_rate": 0.1}

    def __post_init__(self) -> None:
        check_size(self, "steps", self.steps, 9, "the image alone takes 8")

    @property
    def needs_lag(self) -> int:
        """The last row of the image; all of it begins seven steps earlier."""
        return self.steps - 8

    @property
    def first_answer(self) -> int:
        """Only the last step is answered."""
        return self.steps - 1

    def batch(self, n: int, seed: Seed) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return inputs ``(B, T, 8)`` of training digits and classes ``(B,)``; see :class:`Task`.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.
            DataFileError: The data file is missing or changed.
        """
        random = seeded(self, n, seed)
        images, digits = training_digits()
        chosen = random.integers(0, len(images), n)
        return padded_with_noise(random, images[chosen], self.steps), digits[chosen]

    def held_out(self, seed: Seed) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the digits kept out of training, with noise of ``seed``."""
        images, digits = held_out_digits()
        return padded_with_noise(np.random.default_rng(seed), images, self.steps), digits

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the share of wrong digits."""
        return {"error_rate": error_rate(answers, targets)}


def padded_with_noise(
    random: np.random.Generator, images: NDArray[Any], steps: int
) -> NDArray[np.float32]:
    """Return the images ``(B, R, C)`` with rows of normal noise after them: ``(B, T, C)``."""
    rows = images.shape[1]
    noise = random.standard_normal((len(images), steps - rows, images.shape[2]), dtype=np.float32)
    return np.concatenate([images.astype(np.float32), noise], 1)
