"""The four changes of tests/faults/scalings.py, made so that the training stays the same run.

A scaled loss needs a learning rate (or, where the optimizer divides by the gradient's size, an
epsilon) scaled against it, and so does its clipping. A layer made of eight copies gets an eighth
of the gradient in each, and its readout an eighth of each weight; what would grow between the
copies is kept at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from tests.faults.scalings import COPIES, RECURRENT, widened
from tests.faults.training.training import Batch, Loop
from torch import nn

__all__ = ["SCALED"]


def scaled_loss(loop: Loop, factor: float) -> Loop:
    def optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        made = loop.optimizer(parameters)
        for group in made.param_groups:
            if "eps" in group:
                group["eps"] *= factor
            else:
                group["lr"] /= factor
        return made

    clip = None if loop.clip is None else loop.clip * factor
    return replace(loop, optimizer=optimizer, loss_scale=factor, clip=clip)


def repeated_batch(loop: Loop) -> Loop:
    def batch(step: int) -> Batch:
        x, target = loop.batch(step)
        return x.repeat(COPIES, 1, 1), target.repeat(COPIES, *[1] * (target.dim() - 1))

    return replace(loop, batch=batch)


def in_float64(loop: Loop) -> Loop:
    def batch(step: int) -> Batch:
        x, target = loop.batch(step)
        return x.double(), target.double()

    return replace(loop, model=loop.model.double(), batch=batch)


def wider(loop: Loop) -> Loop:
    model = widened(loop.model)

    def optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        made = loop.optimizer(parameters)
        (group,) = made.param_groups
        rest = {name: value for name, value in group.items() if name != "params"}
        inside, readout, bias = dict(rest), dict(rest), dict(rest)
        readout["lr"] = rest["lr"] / COPIES
        if "eps" in rest:
            inside["eps"] = rest["eps"] / COPIES
        else:
            inside["lr"] = rest["lr"] * COPIES
        recurrent = [part for name, part in model.named_parameters() if "readout" not in name]
        made.param_groups = []
        for how, own in (
            (inside, recurrent),
            (readout, [model.readout.weight]),
            (bias, [model.readout.bias]),
        ):
            made.add_param_group({"params": own, **how})
        return made

    return replace(loop, model=model, optimizer=optimizer, mask=_keep_apart)


def _keep_apart(model: nn.Module) -> None:
    """Set the gradient of what connects the copies to zero."""
    for module in model.children():
        if not isinstance(module, RECURRENT):
            continue
        size = int(module.hidden_size)
        own = size // COPIES
        inside = torch.kron(torch.eye(COPIES), torch.ones(own, own))
        for name, weight in module.named_parameters():
            if name.startswith("weight_hh") and weight.grad is not None:
                weight.grad.mul_(inside.repeat(weight.shape[0] // size, 1).to(weight.dtype))


SCALED: dict[str, Callable[[Loop], Loop]] = {
    "loss × 1e-06": partial(scaled_loss, factor=1e-6),
    "loss × 1e+06": partial(scaled_loss, factor=1e6),
    "batch × 8": repeated_batch,
    "float64": in_float64,
    "hidden × 8": wider,
}
