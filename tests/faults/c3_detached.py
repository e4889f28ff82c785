"""C3: a loop over an LSTM cell that detaches its state every 10 of 100 steps."""

from __future__ import annotations

import torch
from tests.faults.case import Case, Trial, noise, seeded
from tests.faults.memory import open_forget_gate
from torch import Tensor, nn

I, H, B, T = 2, 32, 16, 100  # noqa: E741  (the field's name for the input size)
EVERY = 10


class Loop(nn.Module):
    def __init__(self, detach: bool) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(I, H)
        open_forget_gate(self.cell)
        self.readout = nn.Linear(H, 1)
        self.detach = detach

    def forward(self, x: Tensor) -> Tensor:
        state, answers = None, []
        for step in range(x.shape[1]):
            if self.detach and step and step % EVERY == 0:
                state = tuple(part.detach() for part in state)
            state = self.cell(x[:, step], state)
            answers.append(self.readout(state[0]))
        return torch.stack(answers, dim=1)


def build(seed: int, faulty: bool) -> Trial:
    model = seeded(seed, lambda: Loop(detach=faulty))
    return Trial(model, (noise(B, T, I, seed=seed),), noise(B, T, 1, seed=seed + 10))


CASE = Case("c3", __doc__, build, "truncated-gradient")
