"""The network that answers a task: one recurrent layer and a linear readout."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from gradreach.tasks.task import Task

__all__ = ["TaskModel", "as_tensors", "task_loss"]


class TaskModel(nn.Module):
    """Shows a task's inputs to a recurrent layer and reads the answers off its output.

    Args:
        task: Says what comes in and what is answered.
        layer: Batch first, of the task's ``input_size``; what it returns first is read.

    Shape:
        inputs: as :meth:`.Task.batch` gives them. returns: ``(B, T - first_answer, O)``, or
        ``(B, O)`` where only the last step is answered.

    Example:
        >>> from gradreach.tasks.temporal_order import TemporalOrder
        >>> task = TemporalOrder(20)
        >>> model = TaskModel(task, nn.GRU(task.input_size, 8, batch_first=True))
        >>> inputs, classes = as_tensors(task, task.batch(3, seed=0))
        >>> model(inputs).shape
        torch.Size([3, 4])
    """

    def __init__(self, task: Task, layer: nn.Module) -> None:
        super().__init__()
        self.symbols = task.input_size if task.symbols else 0
        self.answered = task.steps - task.first_answer
        self.rnn = layer
        width: Any = layer.hidden_size
        self.readout = nn.Linear(width, task.output_size)

    def forward(self, inputs: Tensor) -> Tensor:
        """Answer."""
        shown = F.one_hot(inputs, self.symbols) if self.symbols else inputs
        output, _ = self.rnn(shown.to(self.readout.weight.dtype))
        last = output[:, -1] if self.answered == 1 else output[:, -self.answered :]
        answers: Tensor = self.readout(last)
        return answers


def as_tensors(task: Task, arrays: tuple[NDArray[Any], NDArray[Any]]) -> tuple[Tensor, Tensor]:
    """Return a task's inputs and targets as tensors; real inputs get a channel where they lack it.

    Example:
        >>> from gradreach.tasks.first_bit import FirstBit
        >>> [tensor.shape for tensor in as_tensors(FirstBit(9), FirstBit(9).batch(2, seed=0))]
        [torch.Size([2, 9, 1]), torch.Size([2])]
    """
    # The arrays may be shared and write-protected, which torch does not know: copy them.
    inputs, targets = (torch.tensor(array) for array in arrays)
    if not task.symbols and inputs.dim() == 2:
        inputs = inputs[..., None]
    return inputs, targets


def task_loss(task: Task, answers: Tensor, targets: Tensor) -> Tensor:
    """Return the loss: cross-entropy of classes, squared error of numbers, mean over all answers.

    Example:
        >>> from gradreach.tasks.adding import Adding
        >>> task_loss(Adding(10), torch.zeros(2, 1), torch.ones(2, 1))
        tensor(1.)
    """
    if task.classes:
        return F.cross_entropy(answers.flatten(0, -2), targets.flatten())
    return F.mse_loss(answers, targets.to(answers.dtype))
