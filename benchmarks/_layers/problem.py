"""The work that every framework is given: shapes, numbers, operations. Knows only NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Shape = tuple[int, int, int, int]  # T, B, I, H

SHAPES: dict[str, Shape] = {
    "S1": (100, 32, 32, 32),
    "S2": (100, 32, 128, 128),
    "S3": (784, 32, 1, 128),
    "S4": (1000, 16, 2, 100),
    "S5": (100, 64, 256, 512),
    "S6": (35, 20, 650, 650),
}
TINY: Shape = (1, 1, 4, 4)  # what is left then is the cost of the call
GATES = {"rnn": 1, "gru": 3, "lstm": 4}

# 100, 98 … 38: 2208 tokens of the 3200 that the padded batch has.
RAGGED: Shape = (100, 32, 128, 128)
LENGTHS = tuple(range(100, 36, -2))


@dataclass(frozen=True)
class Case:
    """One thing to time, as it travels to a worker: four words.

    Args:
        who: ``own``, ``torch``, ``loop``, ``gemm``, ``autodiff`` or ``by-hand`` (both JAX).
        kind: ``rnn``, ``gru`` or ``lstm``.
        activation: Of the RNN; ``tanh`` for the others.
        form: ``sequence``, ``training`` (with a head and a loss) or ``packed``.
    """

    who: str
    kind: str = "rnn"
    activation: str = "tanh"
    form: str = "sequence"

    def __str__(self) -> str:
        return f"{self.who} {self.kind} {self.activation} {self.form}"

    @classmethod
    def read(cls, words: str) -> Case:
        """Return the case whose words these are."""
        return cls(*words.split())

    @property
    def answer(self) -> str | None:
        """What cases with the same results share; ``None`` where nothing is comparable."""
        return None if self.who == "gemm" else f"{self.kind} {self.activation} {self.form}"


def flops(kind: str, shape: Shape) -> int:
    """Return the operations of a training step, a multiply-add as two.

    Forward W_ih x and W_hh h; backward as much again for the weights and for x and h.
    """
    steps, batch, inputs, hidden = shape
    return 6 * steps * batch * GATES[kind] * hidden * (inputs + hidden)


def numbers(kind: str, shape: Shape) -> dict[str, np.ndarray]:
    """Return input, upstream gradient and torch-like weights; the same in every process."""
    steps, batch, inputs, hidden = shape
    draw = np.random.default_rng(0)
    bound = hidden**-0.5
    rows = GATES[kind] * hidden
    arrays = {
        "weight_ih_l0": draw.uniform(-bound, bound, (rows, inputs)),
        "weight_hh_l0": draw.uniform(-bound, bound, (rows, hidden)),
        "bias_ih_l0": draw.uniform(-bound, bound, rows),
        "bias_hh_l0": draw.uniform(-bound, bound, rows),
        "x": draw.standard_normal((steps, batch, inputs)),
        "upstream": draw.standard_normal((steps, batch, hidden)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}
