"""C6: a ReLU RNN with W_hh = 1.15 I; exactly I keeps the gradient."""

from __future__ import annotations

import torch
from tests.faults.case import Case, LastStepReader, Trial, noise, seeded
from torch import nn

I, H, B, T = 2, 32, 16, 100  # noqa: E741  (the field's name for the input size)


def scaled_identity(gain: float, bias: float = 0.0) -> nn.RNN:
    rnn = nn.RNN(I, H, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(gain * torch.eye(H))
        rnn.bias_ih_l0.fill_(bias)
        rnn.bias_hh_l0.zero_()
    return rnn


def build(seed: int, faulty: bool) -> Trial:
    gain = 1.15 if faulty else 1.0
    model = seeded(seed, lambda: LastStepReader(scaled_identity(gain)))
    return Trial(model, (noise(B, T, I, seed=seed),), noise(B, 1, seed=seed + 10))


CASE = Case("c6", __doc__, build, "exploding-gradient")
