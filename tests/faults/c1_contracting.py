"""C1: a tanh RNN whose recurrence has radius 0.5; the loss reads the last of 200 steps."""

from __future__ import annotations

import torch
from tests.faults.case import Case, LastStepReader, Trial, noise, seeded
from torch import nn

I, H, B, T = 2, 32, 16, 200  # noqa: E741  (the field's name for the input size)


def near_linear(seed: int, radius: float) -> nn.RNN:
    """Return a tanh RNN with W_hh = radius · orthogonal, whose tanh stays near its slope of 1."""
    rnn = nn.RNN(I, H, batch_first=True)
    nn.init.orthogonal_(rnn.weight_hh_l0)
    with torch.no_grad():
        rnn.weight_hh_l0.mul_(radius)
        rnn.weight_ih_l0.mul_(0.02)  # keeps |h| < 0.2 over 200 steps: φ' > 0.96
        rnn.bias_ih_l0.zero_()
        rnn.bias_hh_l0.zero_()
    return rnn


def build(seed: int, faulty: bool) -> Trial:
    radius = 0.5 if faulty else 1.0
    model = seeded(seed, lambda: LastStepReader(near_linear(seed, radius)))
    return Trial(model, (noise(B, T, I, seed=seed),), noise(B, 1, seed=seed + 10))


CASE = Case("c1", __doc__, build, "vanishing-gradient")
