"""C5: an LSTM whose forget gate is closed (bias -6: 0.25 % of the memory passes a step)."""

from __future__ import annotations

from tests.faults.case import Case, StepReader, Trial, noise, seeded
from tests.faults.memory import forget_bias
from torch import nn

I, H, B, T = 2, 32, 16, 100  # noqa: E741  (the field's name for the input size)


def gated(bias: float) -> nn.LSTM:
    rnn = nn.LSTM(I, H, batch_first=True)
    forget_bias(rnn, bias)
    return rnn


def build(seed: int, faulty: bool) -> Trial:
    bias = -6.0 if faulty else 3.0
    model = seeded(seed, lambda: StepReader(gated(bias)))
    return Trial(model, (noise(B, T, I, seed=seed),), noise(B, T, 1, seed=seed + 10))


CASE = Case("c5", __doc__, build, "closed-gate")
