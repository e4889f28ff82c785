"""Train the one-neuron network on its four sequences by plain gradient descent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradreach.flow.scalar_bptt import Activation, Loss, ScalarWeights, bptt, unroll
from gradreach.tasks.first_bit import FIRST_BIT_SEQUENCES

__all__ = [
    "DEFAULT_EPOCHS",
    "DEFAULT_LEARNING_RATE",
    "LOSS_FLOOR_WITHOUT_BIAS",
    "SmallestRun",
    "train_smallest",
]

# Calibrated on seeds 0 … 199, tanh with bias: 0.5 learns all four in every one of them within
# 830 epochs (median 37); 0.1 needs up to 3,000 and misses one, 2.0 oscillates in a third.
DEFAULT_LEARNING_RATE = 0.5
DEFAULT_EPOCHS = 1000

# Without b: ½ ln 2 nats is below every reachable mean loss. 000 costs ln 2 whatever the weights;
# 101 and 001 have logits of one sign and opposite labels, so one of the two costs ln 2 or more.
LOSS_FLOOR_WITHOUT_BIAS = math.log(2) / 2


@dataclass(frozen=True, slots=True, eq=False)
class SmallestRun:
    """Record one training of the one-neuron network, every epoch of it.

    Row ``e`` holds the network after ``e`` updates; row 0 is the untrained one.

    Attributes:
        weights: ``(epochs + 1, 4)``: w_in, w_h, w_out, b.
        losses: ``(epochs + 1,)``, mean over the sequences.
        logits: ``(epochs + 1, N)``, one column a sequence.
        labels: ``(N,)``, what the sequences should have been answered with.
        diverged_at: The update that produced a weight that is not finite, where the run
            stopped (the arrays end before it); None if none did.
    """

    seed: int
    bias: bool
    activation: Activation
    loss: Loss
    learning_rate: float
    weights: NDArray[np.float64]
    losses: NDArray[np.float64]
    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    diverged_at: int | None = None

    @property
    def correct(self) -> NDArray[np.int64]:
        """Right answers after each epoch. A logit of exactly 0 decides nothing: not right."""
        right = np.where(self.labels == 1, self.logits > 0, self.logits < 0)
        return np.asarray(right.sum(axis=1), dtype=np.int64)

    @property
    def learned_at(self) -> int | None:
        """First epoch from which every sequence is right until the end; None if there is none."""
        wrong = np.flatnonzero(self.correct < len(self.labels))
        epoch = int(wrong[-1]) + 1 if wrong.size else 0
        return epoch if epoch < len(self.losses) and self.diverged_at is None else None


def train_smallest(
    seed: int = 0,
    *,
    bias: bool = True,
    activation: Activation = "tanh",
    loss: Loss = "bce",
    epochs: int = DEFAULT_EPOCHS,
    learning_rate: float = DEFAULT_LEARNING_RATE,
    sequences: Sequence[tuple[Sequence[float], int]] = FIRST_BIT_SEQUENCES,
) -> SmallestRun:
    """Train by full-batch gradient descent: ``w ← w - learning_rate · ∂L/∂w`` each epoch.

    Weights begin uniform in [-1, 1], drawn from the seed in the order w_in, w_h, w_out, b; the
    network without a bias starts from the same three.

    Args:
        seed: Seed of the initial weights, 0 or more.
        bias: Whether the hidden bias b is trained; otherwise it stays 0.
        activation: φ of the neuron.
        loss: ``"bce"`` or ``"squared_error"``, averaged over the sequences.
        epochs: Updates to make.
        learning_rate: Step size, above 0.
        sequences: Pairs of bits and label; by default the four.

    Raises:
        ValueError: An argument is out of its range.

    Cost:
        About 0.1 ms an epoch for the four sequences.

    Example:
        >>> train_smallest(0).learned_at, int(train_smallest(0, bias=False).correct.max())
        (123, 2)
    """
    _check(seed, epochs, learning_rate, sequences)
    start = np.random.default_rng(seed).uniform(-1.0, 1.0, size=4)
    weights = ScalarWeights(start[0], start[1], start[2], start[3] if bias else 0.0)
    history: list[tuple[ScalarWeights, float, list[float]]] = []
    diverged_at = None
    for epoch in range(epochs + 1):
        value, logits, step = _loss_and_gradient(weights, sequences, activation, loss)
        history.append((weights, value, logits))
        if epoch == epochs:
            break
        if not bias:
            step[3] = 0.0
        updated = [
            w - learning_rate * g
            for w, g in zip(
                (weights.w_in, weights.w_h, weights.w_out, weights.b), step, strict=True
            )
        ]
        if not all(map(math.isfinite, updated)):
            diverged_at = epoch + 1
            break
        weights = ScalarWeights(*updated)
    return SmallestRun(
        seed=seed,
        bias=bias,
        activation=activation,
        loss=loss,
        learning_rate=learning_rate,
        weights=np.array([(w.w_in, w.w_h, w.w_out, w.b) for w, _, _ in history]),
        losses=np.array([value for _, value, _ in history]),
        logits=np.array([logits for _, _, logits in history]),
        labels=np.array([label for _, label in sequences], dtype=np.int64),
        diverged_at=diverged_at,
    )


def _loss_and_gradient(
    weights: ScalarWeights,
    sequences: Sequence[tuple[Sequence[float], int]],
    activation: Activation,
    loss: Loss,
) -> tuple[float, list[float], list[float]]:
    """Return the mean loss, each sequence's logit and the mean gradient (w_in, w_h, w_out, b)."""
    runs = [unroll(weights, bits, y, activation=activation, loss=loss) for bits, y in sequences]
    gradients = [bptt(run) for run in runs]
    columns = zip(*((g.w_in, g.w_h, g.w_out, g.b) for g in gradients), strict=True)
    mean_gradient = [sum(column) / len(runs) for column in columns]
    return sum(run.loss_value for run in runs) / len(runs), [r.logit for r in runs], mean_gradient


def _check(seed: int, epochs: int, learning_rate: float, sequences: Sequence[object]) -> None:
    if seed < 0:
        raise ValueError(
            f"train_smallest(): argument 'seed' must not be negative; got {seed}: use 0, 1, 2 …"
        )
    if epochs < 0:
        raise ValueError(
            f"train_smallest(): argument 'epochs' must not be negative; got {epochs}:"
            " use 0 to look at the untrained network"
        )
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(
            "train_smallest(): argument 'learning_rate' must be a finite number above 0;"
            f" got {learning_rate!r}: {DEFAULT_LEARNING_RATE} learns the four sequences"
        )
    if not sequences:
        raise ValueError(
            "train_smallest(): argument 'sequences' must hold at least one pair (bits, label);"
            " got none: leave it out for the four"
        )
