"""The first-bit task: the label is bit 1 and nothing else tells it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradreach.tasks.first_bit import FIRST_BIT_SEQUENCES, FirstBit


def test_four_sequences_are_labelled_by_their_first_bit():
    words = {"".join(map(str, bits)): label for bits, label in FIRST_BIT_SEQUENCES}

    assert words == {"101": 1, "001": 0, "000": 0, "111": 1}


@pytest.mark.parametrize("steps", [1, 3, 100, 3000])
def test_label_is_bit_one(steps):
    inputs, labels = FirstBit(steps).batch(20, seed=1)

    assert inputs.shape == (20, steps)
    assert (inputs.dtype, labels.dtype) == (np.float64, np.int64)
    assert set(np.unique(inputs)) == {0.0, 1.0}
    assert np.array_equal(inputs[:, 0], labels)


def test_no_later_bit_tells_the_label():
    n = 20_000
    inputs, labels = FirstBit(8).batch(n, seed=2)

    agreement = (inputs[:, 1:] == labels[:, None]).mean(axis=0)

    # 5 standard deviations of a fair coin: one false alarm in 10⁶, and the seed is fixed.
    assert np.all(np.abs(agreement - FirstBit.baseline_accuracy) < 5 * 0.5 / math.sqrt(n))


def test_chance_loss_is_that_of_the_constant_answer():
    labels = FirstBit(3).batch(1000, seed=3)[1]
    always_half = -np.where(labels == 1, math.log(0.5), math.log(1 - 0.5)).mean()

    assert always_half == pytest.approx(FirstBit.chance_loss, rel=1e-12)


def test_seed_decides_the_bits_and_nothing_else_does():
    task = FirstBit(50)
    first = task.batch(10, seed=4)[0]
    before = np.random.get_state()[1].copy()

    again, other = task.batch(10, seed=4)[0], task.batch(10, seed=5)[0]

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("steps", [0, -3, 2.0, True, "3"])
def test_impossible_length_is_refused(steps):
    with pytest.raises(
        ValueError, match=r"FirstBit\(\): argument 'steps' .*at least 1; got .*pass"
    ):
        FirstBit(steps)


@pytest.mark.parametrize(
    ("n", "seed", "message"),
    [
        (0, 0, r"FirstBit.batch\(\): argument 'n' must be at least 1; got 0: ask"),
        (1, -1, r"FirstBit.batch\(\): argument 'seed' must not be negative; got -1: use"),
    ],
)
def test_wrong_argument_of_batch_is_named(n, seed, message):
    with pytest.raises(ValueError, match=message):
        FirstBit(3).batch(n, seed)
