"""A task, a cell and some numbers to a :class:`Training`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from gradreach import nn as layers
from gradreach.tasks.task import Task, held_out
from gradreach.training.loop import Training
from gradreach.training.ranks import Ranks
from gradreach.training.task_model import TaskModel, as_tensors, task_loss

__all__ = ["CELLS", "OPTIMIZERS", "TaskOptions", "is_solved", "task_training"]

CELLS = {"rnn": layers.RNN, "gru": layers.GRU, "lstm": layers.LSTM}
OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}
MODEL_SEED = 1000  # added to the run's seed for the weights: data and weights are drawn apart
CHUNK = 500  # sequences that are answered at once when the held-out ones are scored


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How a task is trained.

    Args:
        cell: One of :data:`CELLS`. hidden: its units.
        remedies: Further arguments of the layer, as of :class:`gradreach.nn.RNN`.
        steps: Optimizer steps. batch: sequences of each, over all ranks together.
        optimizer: One of :data:`OPTIMIZERS`. lr: its learning rate. clip: threshold of the
            gradient norm, if any.
        seed: Of the data; the weights are drawn with ``1000 + seed``.
        evaluate_every: Steps between two looks at the held-out sequences.
        test: How many of them, where they are generated.
    """

    cell: str = "gru"
    hidden: int = 64
    remedies: dict[str, Any] | None = None
    steps: int = 1000
    batch: int = 32
    optimizer: str = "adam"
    lr: float = 0.003
    clip: float | None = None
    seed: int = 0
    evaluate_every: int = 250
    test: int = 1000


def task_training(task: Task, options: TaskOptions, ranks: Ranks | None = None) -> Training:
    """Build model, optimizer, batches, loss and evaluation of a task.

    Step ``k`` of seed ``s`` is always trained on ``task.batch(batch, (s, k))``, of which each
    rank takes its share, so that the run is the same whatever the number of ranks, up to the
    order in which gradients are summed.

    Raises:
        ValueError: The cell does not take one of the remedies, or a number makes no sense.

    Example:
        >>> from gradreach.tasks.temporal_order import TemporalOrder
        >>> training = task_training(TemporalOrder(10), TaskOptions(steps=3, hidden=8, test=50))
        >>> trained = training.run()
        >>> trained.steps, list(trained.evaluations[-1].scores)
        (3, ['error_rate'])
    """
    ranks = ranks or Ranks()
    if options.batch % ranks.size:
        raise ValueError(
            f"task_training(): argument 'batch' must be a multiple of the {ranks.size} processes; "
            f"got {options.batch}: such as {ranks.size * max(1, options.batch // ranks.size)}"
        )
    torch.manual_seed(MODEL_SEED + options.seed)
    layer = CELLS[options.cell](
        task.input_size, options.hidden, batch_first=True, **options.remedies or {}
    )
    model = ranks.wrapped(TaskModel(task, layer))

    def batches(step: int) -> tuple[Tensor, Tensor]:
        inputs, targets = as_tensors(task, task.batch(options.batch, (options.seed, step)))
        return ranks.share(inputs), ranks.share(targets)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return task_loss(task, model(batch[0]), batch[1])

    inputs, targets = held_out(task, options.test)

    def evaluate(model: nn.Module) -> dict[str, float]:
        # What DDP wraps answers without asking the other ranks.
        own = getattr(model, "module", model)
        shown = as_tensors(task, (inputs, targets))[0]
        answers = np.concatenate([own(part).numpy() for part in torch.split(shown, CHUNK)])
        scores = task.score(answers, targets)
        return {task.metric: scores[task.metric], **scores}

    return Training(
        model=model,
        optimizer=_optimizer(model, options),
        batches=batches,
        loss=loss,
        steps=options.steps,
        evaluate=evaluate,
        evaluate_every=options.evaluate_every,
        clip=options.clip,
    )


def is_solved(task: Task, scores: Mapping[str, float]) -> bool | None:
    """Say whether scores meet the task's criterion; ``None`` where it has none.

    Example:
        >>> from gradreach.tasks.adding import Adding
        >>> is_solved(Adding(50), {"mse": 0.001}), is_solved(Adding(50), {"mse": float("nan")})
        (True, False)
    """
    if not task.criterion:
        return None
    return all(scores[name] <= bound for name, bound in task.criterion.items())


def _optimizer(model: nn.Module, options: TaskOptions) -> Optimizer:
    made: Optimizer = OPTIMIZERS[options.optimizer](model.parameters(), lr=options.lr)
    return made
