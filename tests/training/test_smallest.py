"""The one-neuron network: what it provably cannot learn, and what it learns with a bias."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from gradreach.flow.scalar_bptt import ScalarWeights, unroll
from gradreach.tasks.first_bit import FIRST_BIT_SEQUENCES
from gradreach.training.smallest import LOSS_FLOOR_WITHOUT_BIAS, train_smallest

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_bias_learns_all_four_in_every_seed(seed):
    run = train_smallest(seed)

    assert run.learned_at is not None
    assert run.correct[-1] == 4
    assert run.losses[-1] < 0.01


@pytest.mark.parametrize("seed", SEEDS)
def test_without_bias_never_gets_more_than_two(seed):
    run = train_smallest(seed, bias=False)

    assert run.learned_at is None
    assert run.correct.max() == 2
    assert run.losses.min() > LOSS_FLOOR_WITHOUT_BIAS
    assert np.all(run.weights[:, 3] == 0)
    assert np.all(run.logits[:, 2] == 0)  # 000 is answered with 0.5 in every epoch


@pytest.mark.parametrize("activation", ["tanh", "relu", "leaky_relu"])
def test_no_three_weights_put_101_and_001_on_different_sides(activation):
    grid = (-8, -2, -1, -0.3, -0.01, 0, 0.01, 0.3, 1, 2, 8)
    right, losses = [], []
    for w_in, w_h, w_out in itertools.product(grid, repeat=3):
        weights = ScalarWeights(w_in, w_h, w_out)
        runs = [unroll(weights, x, y, activation=activation) for x, y in FIRST_BIT_SEQUENCES]
        right.append(sum(run.decision == run.target for run in runs))
        losses.append(sum(run.loss_value for run in runs) / 4)

        assert runs[0].logit * runs[1].logit >= 0

    assert max(right) == 2
    assert min(losses) > LOSS_FLOOR_WITHOUT_BIAS


def test_loss_floor_without_bias_is_approached():
    # w_in → 0 and the rest large: 001 is left undecided, 101 and 111 become certain.
    weights = ScalarWeights(1e-9, 1e6, 1e3)

    losses = [unroll(weights, x, y).loss_value for x, y in FIRST_BIT_SEQUENCES]

    assert sum(losses) / 4 == pytest.approx(LOSS_FLOOR_WITHOUT_BIAS, rel=1e-5)
    assert math.log(2) / 2 == LOSS_FLOOR_WITHOUT_BIAS


@pytest.mark.parametrize("seed", range(3))
def test_relu_cannot_learn_it_even_with_a_bias(seed):
    run = train_smallest(seed, activation="relu", epochs=100)

    assert run.correct.max() <= 2
    assert np.all(run.logits.min(axis=1) * run.logits.max(axis=1) >= 0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss", ["bce", "squared_error"])
def test_epochs_are_those_of_torch_sgd(bias, loss):
    epochs, rate = 50, 0.3
    run = train_smallest(1, bias=bias, loss=loss, epochs=epochs, learning_rate=rate)
    w = torch.tensor(run.weights[0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([bits for bits, _ in FIRST_BIT_SEQUENCES], dtype=torch.float64)
    y = torch.tensor([label for _, label in FIRST_BIT_SEQUENCES], dtype=torch.float64)
    sgd = torch.optim.SGD([w], lr=rate)

    expected = [w.detach().clone()]
    for _ in range(epochs):
        h = torch.zeros(4, dtype=torch.float64)
        for t in range(3):
            h = torch.tanh(x[:, t] * w[0] + h * w[1] + (w[3] if bias else 0.0))
        logit = h * w[2]
        value = (
            torch.nn.functional.binary_cross_entropy_with_logits(logit, y)
            if loss == "bce"
            else torch.nn.functional.mse_loss(torch.sigmoid(logit), y)
        )
        sgd.zero_grad()
        value.backward()
        sgd.step()
        expected.append(w.detach().clone())

    # 50 updates that each add a few roundings of 1e-16, on weights of size 1.
    np.testing.assert_allclose(run.weights, torch.stack(expected).numpy(), rtol=0, atol=1e-13)


def test_both_variants_start_from_the_same_three_weights():
    with_bias, without = (train_smallest(7, bias=bias, epochs=0) for bias in (True, False))

    assert np.array_equal(with_bias.weights[0, :3], without.weights[0, :3])
    assert with_bias.weights[0, 3] != 0
    assert len(with_bias.losses) == 1


def test_learned_at_counts_only_what_lasts():
    run = train_smallest(0)
    lost_again = train_smallest(0)
    lost_again.logits[-1] *= -1

    assert run.correct[run.learned_at - 1] < 4
    assert np.all(run.correct[run.learned_at :] == 4)
    assert lost_again.learned_at is None


def test_diverged_run_ends_where_it_left_float64():
    run = train_smallest(0, activation="leaky_relu", learning_rate=1e200, epochs=50)

    assert run.diverged_at is not None
    assert len(run.weights) == run.diverged_at
    assert np.isfinite(run.weights).all()
    assert run.learned_at is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, r"argument 'seed' must not be negative; got -1: use"),
        ({"epochs": -1}, r"argument 'epochs' must not be negative; got -1: use"),
        ({"learning_rate": 0.0}, r"argument 'learning_rate' .*above 0; got 0.0: 0.5 learns"),
        ({"learning_rate": math.nan}, r"argument 'learning_rate' .*above 0; got nan"),
        ({"sequences": ()}, r"argument 'sequences' .*at least one pair.*got none: leave"),
    ],
)
def test_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=r"train_smallest\(\): " + message):
        train_smallest(**arguments)
