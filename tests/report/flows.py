"""Small measured flows whose every number is known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import gradreach
from gradreach.records import GradientFlow

HIDDEN = 4


def scaled_identity(gain: float, *, steps: int = 30, rows: int = 2) -> tuple[nn.RNN, torch.Tensor]:
    """Build a ReLU layer that multiplies its state by ``gain``, always in its linear range."""
    rnn = nn.RNN(1, HIDDEN, nonlinearity="relu")
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(gain * torch.eye(HIDDEN))
        rnn.weight_ih_l0.fill_(0.5)
        rnn.bias_hh_l0.zero_()
        rnn.bias_ih_l0.zero_()
    return rnn, torch.rand(steps, rows, 1) + 0.1


def flow_of(model: nn.Module, output: Callable[[], torch.Tensor]) -> GradientFlow:
    """Measure a model whose loss is the sum of what ``output`` returns."""

    def closure() -> torch.Tensor:
        return output().sum()

    return gradreach.measure(model, closure)


def geometric_flow(gain: float, *, steps: int = 30, every_step: bool = False) -> GradientFlow:
    """Measure it: what is left ℓ steps back is gain**ℓ exactly."""
    rnn, x = scaled_identity(gain, steps=steps)

    def read() -> torch.Tensor:
        states: torch.Tensor = rnn(x)[0]
        return states if every_step else states[-1]

    return flow_of(nn.ModuleDict({"rnn": rnn}), read)


def named_flow(name: str) -> GradientFlow:
    """Measure a two-layer LSTM that stands under any name in its model, every step a loss."""
    model = nn.Module()
    model.add_module(name, nn.LSTM(2, 8, 2))
    x = torch.randn(40, 3, 2)
    return gradreach.measure(model, lambda: getattr(model, name)(x)[0].square().mean())
