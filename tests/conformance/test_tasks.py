"""Every task through one suite: the arrays of its reference, its shapes, and its baseline.

The SHA-256 are those of generators written apart from these (the same definitions in a few lines
of NumPy), over the bytes of what they return for seed 20240.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from gradreach.tasks.catalogue import TASKS, task_named
from gradreach.tasks.copy_memory import CopyMemory
from gradreach.tasks.delayed_xor import DelayedXor
from gradreach.tasks.noise_padded import padded_with_noise
from gradreach.tasks.random_permutation import RandomPermutation
from gradreach.tasks.selective_copy import SelectiveCopy
from gradreach.tasks.task import Task, WithHeldOut, held_out
from gradreach.tasks.temporal_order import TemporalOrder

SEED = 20240
SHORT = {name: {"selective_copy": 40, "delayed_xor": 5}.get(name, 20) for name in TASKS}
SHORT |= {"pixel_digits": None, "permuted_digits": None}


def digest(*arrays: np.ndarray) -> str:
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()[:16]


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return task_named(request.param, SHORT[request.param])


def only(keep: Callable[[Task], bool]) -> pytest.MarkDecorator:
    """Run for those tasks only for which there is something to ask."""
    names = [name for name in TASKS if keep(task_named(name, SHORT[name]))]
    return pytest.mark.parametrize("task", names, indirect=True)


def on_real_data(task: Task) -> bool:
    return isinstance(task, WithHeldOut)


@pytest.mark.parametrize(
    ("made", "n", "expected"),
    [
        (task_named("adding", 200), 32, "10a7940a7e2ffae5"),
        (task_named("multiplication", 200), 32, "6cff3ad6f67985d7"),
        (TemporalOrder(100), 32, "dc582860de3c6ec0"),
        (TemporalOrder(100, bits=3), 32, "efd7eed3fc5fc05f"),
        (CopyMemory(100), 32, "de34c3809bfac08e"),
        (RandomPermutation(100), 32, "fe093a32c6ab8202"),
        (SelectiveCopy(256), 8, "f8b6458e570e27e4"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_arrays_are_those_of_the_reference(made: Task, n: int, expected: str) -> None:
    assert digest(*made.batch(n, SEED)) == expected


def test_delayed_xor_is_the_reference_with_its_unanswered_steps_put_back() -> None:
    task = DelayedXor(steps=300, delay=10)
    bits, targets = task.batch(16, SEED)

    whole = np.zeros_like(bits)
    whole[:, task.first_answer :] = targets

    assert digest(bits, whole, np.arange(300) >= task.first_answer) == "06aae4c9d0354467"


def test_noise_is_that_of_the_reference() -> None:
    padded = padded_with_noise(np.random.default_rng(SEED), np.zeros((4, 8, 8)), 100)

    assert digest(padded) == "9f7514522970528c"


def test_same_seed_gives_the_same_arrays_and_another_others(task: Task) -> None:
    first, again, other = (task.batch(16, seed) for seed in ((3, 1), (3, 1), (3, 2)))

    assert digest(*first) == digest(*again) != digest(*other)


def test_batch_draws_from_no_global_generator(task: Task) -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].tobytes()
    task.batch(4, 1)
    held_out(task, 4)

    assert np.random.get_state()[1].tobytes() == before


def test_shapes_and_ranges_are_as_said(task: Task) -> None:
    inputs, targets = task.batch(7, 0)
    answered = task.steps - task.first_answer

    assert inputs.shape[:2] == (7, task.steps)
    if task.symbols:
        assert inputs.ndim == 2 and inputs.dtype == np.int64
        assert inputs.min() >= 0 and inputs.max() < task.input_size
    else:
        assert (inputs.shape[2:] or (1,)) == (task.input_size,)
        assert inputs.dtype.kind == "f" and np.isfinite(inputs).all()
    if task.classes:
        assert targets.shape == ((7,) if answered == 1 else (7, answered))
        assert targets.dtype == np.int64 and 0 <= targets.min() <= targets.max() < task.output_size
    else:
        assert targets.shape == (7, task.output_size) and targets.dtype == np.float32
    assert 0 < task.needs_lag < task.steps


def test_right_answers_meet_the_criterion_and_the_baseline_does_not(task: Task) -> None:
    _, targets = held_out(task, 500)
    right = 50.0 * np.eye(task.output_size)[targets] if task.classes else targets

    scores = task.score(right, targets)

    assert scores[task.metric] == 0.0
    assert all(scores[name] <= bound for name, bound in task.criterion.items())
    assert all(name in scores for name in task.criterion)
    assert task.baseline > task.criterion.get(task.metric, 0.0) >= 0.0


@only(lambda task: task.name != "series")  # affine in the last value: tests/tasks/test_series.py
def test_baseline_is_what_the_best_constant_answer_gets(task: Task) -> None:
    _, targets = held_out(task, 10_000)
    if task.classes:  # one class throughout the answers that decide
        last = targets[:, -1] if targets.ndim == 2 else targets
        found = 1.0 - np.bincount(last).max() / len(last)
        # A share of 10,000 wavers by 0.005; the 360 held-out digits are not quite equally frequent.
        tolerance = 0.02
    else:
        found = task.score(np.full_like(targets, targets.mean()), targets)[task.metric]
        tolerance = 0.03 * task.baseline

    assert task.baseline == pytest.approx(found, abs=tolerance)


@only(lambda task: task.classes)
def test_answers_that_are_not_finite_or_all_alike_are_wrong(task: Task) -> None:
    _, targets = task.batch(50, 0)
    for value in (0.0, np.nan):
        answers = np.full((*targets.shape, task.output_size), value)
        with np.errstate(invalid="ignore"):
            assert task.score(answers, targets)[task.metric] == 1.0


@only(lambda task: not on_real_data(task))
def test_needed_lag_is_the_furthest_that_matters(task: Task) -> None:
    """Among many sequences there is one whose decisive input stands exactly that far back."""
    inputs, targets = task.batch(3000, 0)
    if task.name in {"adding", "multiplication"}:
        assert inputs[..., 1].argmax(1).min() == task.steps - 1 - task.needs_lag
    elif task.name == "temporal_order":
        assert (inputs < 2).argmax(1).min() == task.steps - 1 - task.needs_lag
    elif task.name == "copy_memory":
        lag = task.needs_lag
        np.testing.assert_array_equal(inputs[:, :10], targets[:, lag : lag + 10])
    elif task.name == "selective_copy":
        assert (inputs > 1).argmax(1).min() == task.first_answer - task.needs_lag == 0
    elif task.name == "delayed_xor":
        lag = task.needs_lag
        np.testing.assert_array_equal(
            targets, inputs[:, lag // 2 : -(lag // 2)] ^ inputs[:, : task.steps - lag]
        )
    else:
        np.testing.assert_array_equal(inputs[:, task.steps - 1 - task.needs_lag], targets)
