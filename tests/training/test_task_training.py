"""A training of each task: it answers what is asked, learns, and is the same for one seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gradreach.tasks.adding import Adding
from gradreach.tasks.catalogue import TASKS, task_named
from gradreach.tasks.first_bit import FirstBit
from gradreach.tasks.pixel_digits import PixelDigits
from gradreach.training.ranks import Ranks
from gradreach.training.task_training import TaskOptions, is_solved, task_training

SHORT = {"selective_copy": 20, "delayed_xor": 3, "pixel_digits": None, "permuted_digits": None}
QUICK = TaskOptions(steps=2, hidden=5, batch=4, test=30, evaluate_every=2)


@pytest.mark.parametrize("name", TASKS)
def test_each_task_is_trained_and_scored(name: str) -> None:
    task = task_named(name, SHORT.get(name, 12))
    training = task_training(task, QUICK)

    trained = training.run()

    assert np.isfinite(trained.losses).all() and trained.steps == 2
    (evaluation,) = trained.evaluations
    assert next(iter(evaluation.scores)) == task.metric
    assert set(task.criterion) <= set(evaluation.scores)
    for parameter in training.model.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_one_seed_is_one_training_whatever_was_drawn_before(cell: str) -> None:
    options = replace(QUICK, cell=cell, seed=4)
    first = task_training(Adding(9), options).run()
    torch.manual_seed(99)
    torch.randn(3)

    again = task_training(Adding(9), options).run()

    assert again.losses.tolist() == first.losses.tolist()
    assert again.metric == first.metric
    assert task_training(Adding(9), replace(options, seed=5)).run().metric != first.metric


def test_remembering_three_bits_is_learned() -> None:
    task = FirstBit(3)
    options = TaskOptions(hidden=8, steps=120, lr=0.03, evaluate_every=40, test=200)

    trained = task_training(task, options).run()

    assert is_solved(task, trained.evaluations[-1].scores)


def test_shares_of_the_ranks_make_the_batch() -> None:
    batch = torch.arange(12).reshape(6, 2)

    parts = [Ranks(rank, 3).share(batch) for rank in range(3)]

    assert torch.equal(torch.cat(parts), batch) and {len(part) for part in parts} == {2}


def test_batch_that_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(ValueError, match="'batch' must be a multiple of the 3 processes; got 4"):
        task_training(Adding(9), QUICK, Ranks(0, 3))


def test_task_without_a_criterion_is_neither_solved_nor_not() -> None:
    assert is_solved(PixelDigits(), {"error_rate": 0.0}) is None
