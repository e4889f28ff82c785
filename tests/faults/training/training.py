"""One small training, as a user's loop runs it, and its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from tests.faults.training.recorder import Recorder, is_probed, is_sampled
from torch import Tensor, nn

from gradreach.records import History

__all__ = ["Batch", "Loop", "train"]

Batch = tuple[Tensor, Tensor]


@dataclass
class Loop:
    """All that a training consists of.

    Args:
        model: Maps the batch's first part to an answer.
        batch: `step` to (input, target).
        optimizer: Made of the parameters.
        loss: Of (answer, target), a scalar.
        steps: Optimizer steps.
        clip: Threshold of `clip_grad_norm_`, if any. clip_order: where it stands, see
            CLIP_ORDERS; 1 is right.
        amp_scale: Factor of a gradient scaler, by which the loss is multiplied and which is
            taken out of the gradient before the step.
        carry: Called with the model after each step.
        mask: Called after each backward: sets parts of the gradient to zero.
        needs_lag: How far back the task looks, if the user says so.
    """

    model: nn.Module
    batch: Callable[[int], Batch]
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss
    steps: int = 200
    clip: float | None = None
    clip_order: int = 1
    amp_scale: float = 1.0
    loss_scale: float = 1.0
    mask: Callable[[nn.Module], None] | None = None
    needs_lag: int | None = None
    stop_at_nan: int = 20
    extra: dict[str, object] = field(default_factory=dict)


def train(loop: Loop) -> History:
    """Run the loop and record it."""
    parameters = list(loop.model.parameters())
    optimizer = loop.optimizer(parameters)
    recorder = Recorder(loop.model, optimizer)
    broken = 0
    for step in range(loop.steps):
        x, target = loop.batch(step)

        def closure(x: Tensor = x, target: Tensor = target) -> Tensor:
            return loop.loss_scale * loop.loss(loop.model(x), target)

        close = is_probed(step)
        if is_sampled(step):
            recorder.sample(closure, loop.needs_lag)
        value = _pass(loop, recorder, optimizer, closure)
        before = [each.detach().clone() for each in recorder.parameters] if close else []
        recorder.step(optimizer.step)
        if close:
            recorder.probe(closure, before)
        broken += not torch.isfinite(value)
        if broken >= loop.stop_at_nan:
            break
    return recorder.history(loop.needs_lag)


def _pass(
    loop: Loop,
    recorder: Recorder,
    optimizer: torch.optim.Optimizer,
    closure: Callable[[], Tensor],
) -> Tensor:
    """Forward, backward and clipping, in the order that the loop has them."""
    optimizer.zero_grad()
    value = closure()
    recorder.begin(float(value.detach()))
    if loop.clip_order == 2:
        _clip(loop, recorder)
    (loop.amp_scale * value).backward()
    recorder.gradient("gradient_norm", loop.amp_scale)
    if loop.mask is not None:
        loop.mask(loop.model)
    if loop.clip_order == 3:
        _clip(loop, recorder)
    for parameter in recorder.parameters:
        if parameter.grad is not None:
            parameter.grad.div_(loop.amp_scale)
    if loop.clip_order == 1:
        _clip(loop, recorder)
    recorder.gradient("clipped_norm")
    return value.detach()


def _clip(loop: Loop, recorder: Recorder) -> None:
    if loop.clip is None:
        return
    seen = nn.utils.clip_grad_norm_(loop.model.parameters(), loop.clip)
    recorder.clip(loop.clip_order, loop.clip, float(seen))
