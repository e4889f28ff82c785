"""A training script as users write it, run treated, and run with its lines edited."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradreach.treatments import Interception, Treatment

SEED = 7
STEPS = 20

LAYER = """
import torch
from torch import nn
from torch.nn import RNN, GRU, LSTM, RNNCell, GRUCell, LSTMCell


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2, 3)
        self.rnn = {line}
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        return self.head(self.rnn(self.encoder(x))[0][-1])


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
losses = []
for _ in range({steps}):
    x = torch.randn(12, 4, 2)
    loss = (model(x) - x[0, :, :1]).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
"""

CELL = LAYER.replace(
    "        return self.head(self.rnn(self.encoder(x))[0][-1])",
    """        state = None
        for step in self.encoder(x):
            state = self.rnn(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)""",
)


@dataclass
class Run:
    """What a script came to."""

    losses: list[float]
    weights: dict[str, torch.Tensor]
    layer: torch.nn.Module
    sites: list[Any]

    def same_bits(self, other: Run) -> bool:
        return (
            self.losses == other.losses
            and self.weights.keys() == other.weights.keys()
            and all(torch.equal(self.weights[n], other.weights[n]) for n in self.weights)
        )


def source(line: str, *, cell: bool) -> str:
    return (CELL if cell else LAYER).replace("{line}", line).replace("{steps}", str(STEPS))


def run(text: str, path: Path, treatment: Treatment | None = None) -> Run:
    """Run a script from a file, as a trial would: seeded, and treated before its first line."""
    path.write_text(text, encoding="utf-8")
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    random.seed(SEED)
    names: dict[str, Any] = {"__name__": "__main__"}
    with Interception() as interception:
        if treatment is not None:
            treatment.install(interception)
        exec(compile(text, str(path), "exec"), names)
    model = names["model"]
    return Run(names["losses"], model.state_dict(), model.rnn, interception.sites)
