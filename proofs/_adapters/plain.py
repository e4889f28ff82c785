"""The training that every general framework repeats, and the loop as a user writes it.

One network, one fixed order of batches, one optimizer, one threshold of clipping. What a
framework adds around them is bookkeeping: its weights must be the loop's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import gradreach as gr

STEPS, BATCH, TIME, WIDTH = 24, 8, 40, 16
CLIP = 3.0  # lies within the norms of this training: some steps are clipped, some are not
LAG_PROBES = 4  # loss steps that a watch follows in a sample; gr.measure is asked for as many
EVERY = 5  # passes between two exact samples
OPTIONS: dict[str, Any] = {"every": EVERY, "cost": "full"}


class Reader(nn.Module):
    """Reads a sequence and tells the sum of its first marks."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one number per sequence, from the last step."""
        return self.head(self.lstm(x)[0][:, -1])


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean squared error."""
    return nn.functional.mse_loss(model(x), y)


def new_model() -> Reader:
    """Return the network with its first weights, the same each time."""
    torch.manual_seed(0)
    return Reader()


def new_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer all of them use."""
    return torch.optim.Adam(model.parameters(), lr=0.02)


def data() -> tuple[Tensor, Tensor]:
    """Return all sequences and targets, in the order in which they are read."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS * BATCH, TIME, 4, generator=draw)
    return x, x[:, -6:, 0].sum(1, keepdim=True)


def batches() -> list[tuple[Tensor, Tensor]]:
    """Return the batches in their order."""
    x, y = data()
    return list(zip(x.split(BATCH), y.split(BATCH), strict=True))


@dataclass
class Trained:
    """What a training left behind.

    Args:
        weights: At its end, in the model's order.
        norms: Before clipping, as torch's clipping told the loop; empty where a framework clips.
        threshold: Of the clipping.
        reaches: By ``gr.measure`` on chosen steps: ``{step: {layer: reach}}``.
        history: Of the watch, where there was one.
    """

    weights: list[Tensor]
    norms: list[float] = field(default_factory=list)
    threshold: float = CLIP
    reaches: dict[int, dict[str, int | None]] = field(default_factory=dict)
    history: gr.History | None = None


def weights_of(model: nn.Module) -> list[Tensor]:
    """Return a model's weights, as they are now."""
    return [weight.detach().clone() for weight in model.parameters()]


def measured(model: nn.Module, closure: Callable[[], Tensor]) -> dict[str, int | None]:
    """Return the reach of each layer as `gr.measure` has it, from as many probes as a watch."""
    flow = gr.measure(model, closure, lag_probes=LAG_PROBES)
    return {name: layer.reach() for name, layer in flow.layers.items()}


def train(watched: bool, sampled: tuple[int, ...] = ()) -> Trained:
    """Train as a user's own loop does.

    Args:
        watched: Whether `gr.watch` is attached.
        sampled: Steps before which `gr.measure` measures the batch, as a second opinion.
    """
    model = new_model()
    optimizer = new_optimizer(model)
    watch = gr.watch(model, optimizer, **OPTIONS) if watched else None
    if watch is not None:
        watch.start()
    norms, reaches = [], {}
    for step, (x, y) in enumerate(batches()):
        if step in sampled:
            reaches[step] = measured(model, lambda x=x, y=y: loss_of(model, x, y))
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
        optimizer.step()
    if watch is not None:
        watch.stop()
    history = None if watch is None else watch.history
    return Trained(weights_of(model), norms, CLIP, reaches, history)
