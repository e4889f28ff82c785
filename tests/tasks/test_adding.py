"""The adding problem."""

from __future__ import annotations

import numpy as np
import pytest

from gradreach.tasks.adding import Adding


@pytest.mark.parametrize("steps", [2, 3, 50])
def test_target_is_the_sum_of_one_marked_number_of_each_half(steps: int) -> None:
    inputs, targets = Adding(steps).batch(200, seed=4)

    values, marks = inputs[..., 0], inputs[..., 1]
    assert (marks[:, : steps // 2].sum(1) == 1).all() and (marks[:, steps // 2 :].sum(1) == 1).all()
    np.testing.assert_array_equal((values * marks).sum(1), targets[:, 0])
    assert inputs.shape == (200, steps, 2) and targets.shape == (200, 1)


def test_baseline_is_the_error_of_the_mean() -> None:
    task = Adding(10)
    _, targets = task.batch(100_000, seed=1)

    # the standard error of the mean over 100,000 squared errors is 0.0006
    assert task.score(np.ones_like(targets), targets)["mse"] == pytest.approx(1 / 6, abs=2e-3)
    assert task.score(targets, targets) == {"mse": 0.0}


@pytest.mark.parametrize("steps", [1, 2.0, True])
def test_steps_of_a_wrong_kind_are_named(steps: object) -> None:
    with pytest.raises(ValueError, match=r"Adding\(\): argument 'steps' must be a whole number"):
        Adding(steps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "seed", "name"), [(0, 0, "n"), (1, -1, "seed"), (1, (0, -1), "seed")]
)
def test_batch_arguments_are_named(n: int, seed: int, name: str) -> None:
    with pytest.raises(ValueError, match=rf"Adding.batch\(\): argument '{name}' must"):
        Adding(5).batch(n, seed)
