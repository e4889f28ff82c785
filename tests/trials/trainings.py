"""Trainings that studies compare treatments on: small, and each with a known cure."""

from __future__ import annotations

import torch
from torch import nn

import gradreach


class Last(nn.Module):
    """A tanh RNN whose last state answers."""

    def __init__(self, hidden: int = 12) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0][:, -1]).squeeze(-1)


def first_value(seed: int, *, steps: int = 24, length: int = 20, lr: float = 0.02):
    """Ask for the first of many inputs, which a contracting network cannot see."""
    model = Last()
    with torch.no_grad():
        model.rnn.weight_hh_l0.mul_(0.1)  # contracts tenfold a step
    return training(seed, model, lr, steps, length)


def diverging(seed: int, *, steps: int = 30):
    """Train with steps so large that the loss leaves the numbers."""
    model = Last()
    model.rnn = nn.RNN(2, 12, batch_first=True, nonlinearity="relu")
    with torch.no_grad():
        model.rnn.weight_hh_l0.copy_(1.5 * torch.eye(12))
    return training(seed, model, 10.0, steps, 30, torch.optim.SGD)


def raising(seed: int):
    raise RuntimeError("there is no data")


def nothing(seed: int) -> None:
    """Return nothing that could be compared."""


def training(seed, model, lr, steps, length, kind=torch.optim.Adam):
    generator = torch.Generator().manual_seed(seed)

    def batch(step: int):
        x = torch.randn(16, length, 2, generator=generator)
        return x, x[:, 0, 0]

    return gradreach.Training(
        model=model,
        optimizer=kind(model.parameters(), lr=lr),
        batches=batch,
        loss=lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
        steps=steps,
    )
