"""Recognise a digit that is shown pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.real_data import load_digits
from gradreach.tasks.scores import error_rate
from gradreach.tasks.task import Seed, seeded

__all__ = ["PixelDigits", "held_out_digits", "training_digits"]

HELD_OUT = 360  # the last of them, a fifth: by other writers than most of the rest
PIXELS = 64
PERMUTATION = 92916  # of the published tables (expRNN, DilatedRNN): RandomState(92916)


@dataclass(frozen=True, slots=True)
class PixelDigits:
    """Answer at the last step which digit was shown, one pixel a step, 64 steps.

    Real handwritten digits of 8 × 8 pixels, read row by row, or in one fixed random order, which
    spreads what belongs together over all the steps. 1,437 are for training, the last 360 held
    out.

    Args:
        permuted: Whether the pixels come in the fixed random order.

    Reference:
        Le, Jaitly & Hinton (2015), pixel-by-pixel MNIST, with the smaller UCI digits.

    Example:
        >>> inputs, digits = PixelDigits().batch(2, seed=0)
        >>> inputs.shape, digits
        ((2, 64, 1), array([6, 0]))
    """

    permuted: bool = False

    name: ClassVar[str] = "pixel_digits"
    steps: ClassVar[int] = PIXELS
    needs_lag: ClassVar[int] = PIXELS - 1
    first_answer: ClassVar[int] = PIXELS - 1
    input_size: ClassVar[int] = 1
    symbols: ClassVar[bool] = False
    output_size: ClassVar[int] = 10
    classes: ClassVar[bool] = True
    metric: ClassVar[str] = "error_rate"
    baseline: ClassVar[float] = 0.9
    criterion: ClassVar[dict[str, float]] = {}

    @property
    def variant(self) -> str:
        """Which data, in which order."""
        order = f"order of RandomState({PERMUTATION})" if self.permuted else "row by row"
        return f"UCI digits 8 x 8, {order}; last {HELD_OUT} held out"

    def batch(self, n: int, seed: Seed) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return inputs ``(B, 64, 1)`` of training digits and classes ``(B,)``.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.
            DataFileError: The data file is missing or changed.
        """
        images, digits = training_digits()
        chosen = seeded(self, n, seed).integers(0, len(images), n)
        return self._read(images[chosen]), digits[chosen]

    def held_out(self, seed: Seed) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the digits kept out of training; nothing about them is random."""
        images, digits = held_out_digits()
        return self._read(images), digits

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the share of wrong digits."""
        return {"error_rate": error_rate(answers, targets)}

    def _read(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        pixels = images.reshape(len(images), PIXELS)
        if self.permuted:
            pixels = pixels[:, np.random.RandomState(PERMUTATION).permutation(PIXELS)]
        return pixels[..., None].copy()


def training_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the images ``(1437, 8, 8)`` to train on, and their digits."""
    images, digits = load_digits()
    return images[:-HELD_OUT], digits[:-HELD_OUT]


def held_out_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the images ``(360, 8, 8)`` that are never trained on, and their digits."""
    images, digits = load_digits()
    return images[-HELD_OUT:], digits[-HELD_OUT:]
