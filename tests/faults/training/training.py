"""One small training, as a user's loop runs it, watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import gradreach as gr
from gradreach.records import History

__all__ = ["Batch", "Loop", "train"]

Batch = tuple[Tensor, Tensor]

EVERY = 12  # passes between samples; with each, a look at the loss along an update


@dataclass
class Loop:
    """All that a training consists of.

    Args:
        model: Maps the batch's first part to an answer.
        batch: `step` to (input, target).
        optimizer: Made of the parameters.
        loss: Of (answer, target), a scalar; loss_scale: a factor in front of it.
        steps: Optimizer steps.
        clip: Threshold of `clip_grad_norm_`, if any. clip_order: where it stands, see
            CLIP_ORDERS; 1 is right.
        amp: Whether a gradient scaler is used.
        mask: Called after each backward: sets parts of the gradient to zero.
        needs_lag: How far back the task looks, if the user says so.
    """

    model: nn.Module
    batch: Callable[[int], Batch]
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss
    loss_scale: float = 1.0
    steps: int = 200
    clip: float | None = None
    clip_order: int = 1
    amp: bool = False
    mask: Callable[[nn.Module], None] | None = None
    needs_lag: int | None = None
    stop_at_nan: int = 10


def train(loop: Loop) -> tuple[History, list[gr.Finding]]:
    """Run the loop; return its record and what the watch found."""
    optimizer = loop.optimizer(list(loop.model.parameters()))
    # On the CPU only the factor matters: float32 needs no scaling.
    scaler = torch.amp.GradScaler("cpu", enabled=loop.amp)
    broken = 0
    with gr.watch(loop.model, optimizer, cost="full", every=EVERY,
                  needs_lag=loop.needs_lag) as watched:  # fmt: skip
        for step in range(loop.steps):
            x, target = loop.batch(step)
            optimizer.zero_grad()
            if loop.clip_order == 2:
                _clip(loop)
            value = loop.loss_scale * loop.loss(loop.model(x), target)
            scaler.scale(value).backward()
            if loop.mask is not None:
                loop.mask(loop.model)
            if loop.clip_order == 3:
                _clip(loop)
            scaler.unscale_(optimizer)
            if loop.clip_order == 1:
                _clip(loop)
            scaler.step(optimizer)
            scaler.update()
            broken += not torch.isfinite(value)
            if broken >= loop.stop_at_nan:
                break
    assert watched.trouble is None, watched.trouble
    return watched.history, watched.findings


def _clip(loop: Loop) -> None:
    if loop.clip is not None:
        nn.utils.clip_grad_norm_(loop.model.parameters(), loop.clip)
