"""What one case of the corpus is: a model with one wrong line, and its healthy twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import gradreach as gr

__all__ = [
    "SEEDS",
    "Case",
    "LastStepReader",
    "StepReader",
    "Trial",
    "mean_square",
    "noise",
    "seeded",
]

SEEDS = (0, 1, 2)


def mean_square(answer: Tensor, target: Tensor) -> Tensor:
    """Return the loss of every case: smooth, and without a size of its own."""
    return (answer - target).square().mean()


@dataclass(frozen=True)
class Trial:
    """A model and one batch: what a user has before the first optimizer step.

    Args:
        model: Reads the batch; its last layer is a linear `readout`.
        batch: Its arguments, each with the batch first.
        target: What it should answer, batch first.
        loss_scale: Factor in front of the loss.
    """

    model: nn.Module
    batch: tuple[Tensor, ...]
    target: Tensor
    loss_scale: float = 1.0

    def loss(self) -> Tensor:
        return self.loss_scale * mean_square(self.model(*self.batch), self.target)

    def measure(self) -> gr.GradientFlow:
        return gr.measure(self.model, self.loss)


@dataclass(frozen=True)
class Case:
    """One fault and its twin.

    Args:
        name: As in the probe that showed other tools blind to it (C1 … C9).
        story: The fault in a sentence.
        build: `(seed, faulty)` to the trial; `faulty` changes one line.
        code: The first finding expected; `None` where a batch cannot tell.
        needs: What else the user must do for the fault to show (a learning rate, say).
    """

    name: str
    story: str
    build: Callable[[int, bool], Trial]
    code: str | None
    needs: str = ""


class LastStepReader(nn.Module):
    """A recurrent layer of torch's, of which the last output is read."""

    def __init__(self, rnn: nn.Module, outputs: int = 1) -> None:
        super().__init__()
        self.rnn = rnn
        self.readout = nn.Linear(int(rnn.hidden_size), outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.rnn(x)[0][:, -1])


class StepReader(LastStepReader):
    """The same, with an answer at every step."""

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.rnn(x)[0])


def noise(*shape: int, seed: int) -> Tensor:
    """Return standard normal numbers that depend on the seed alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1000 + seed))


def seeded(seed: int, make: Callable[[], Any]) -> Any:
    """Build a module whose initial weights depend on the seed alone."""
    torch.manual_seed(seed)
    return make()
