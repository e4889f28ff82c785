"""The study that is disturbed: a driver as a user writes one, and what it trains."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

import gradreach

TREATMENTS = ["gating(GRU)", "initialization(identity)", "clipping(norm=0.1)"]
SEEDS = 8


class Last(nn.Module):
    """A tanh RNN whose last state answers; it contracts tenfold a step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 12, batch_first=True)
        self.out = nn.Linear(12, 1)
        with torch.no_grad():
            for name, weight in self.rnn.named_parameters():
                if name.startswith("weight_hh"):
                    weight.mul_(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer with one number a sequence."""
        return self.out(self.rnn(x)[0][:, -1]).squeeze(-1)


def first_value(seed: int, steps: int = 12) -> gradreach.Training:
    """Ask for the first of twenty inputs."""
    model, generator = Last(), torch.Generator().manual_seed(seed)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(16, 20, 2, generator=generator)
        return x, x[:, 0, 0]

    return gradreach.Training(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.02),
        batches=batch,
        loss=lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
        steps=steps,
    )


def main() -> None:
    """Compare on so many jobs or on Ray, and leave the results as JSON."""
    study, out, how = sys.argv[1:]
    where = {"ray": how[4:]} if how.startswith("ray=") else {"jobs": int(how)}
    import killed_study as importable  # not as __main__: a cluster's nodes import it by its name

    comparison = gradreach.compare(
        importable.first_value, TREATMENTS, seeds=SEEDS, finalists=3, study=study, **where
    )
    Path(out).write_text(json.dumps(comparison.results()))


if __name__ == "__main__":
    main()
