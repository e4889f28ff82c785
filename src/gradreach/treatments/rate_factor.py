"""Multiplies an optimizer's learning rates while it steps, whoever else sets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

__all__ = ["RateFactor", "scale_steps"]

RateFactor = Callable[[int], float]  # the factor of step 0, 1, 2, …


def scale_steps(optimizer: Optimizer, factor: RateFactor) -> None:
    """Let step t of an optimizer be made with ``factor(t)`` times the learning rate set then.

    The rate is put back after the step: a scheduler of the script, or a line that sets the rate,
    finds what it left there, and the two multiply whatever they do. Steps that a ``GradScaler``
    skips do not count.

    Args:
        factor: Called once a step, in order.

    Example:
        >>> import torch
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> optimizer = torch.optim.SGD([weight], lr=1.0)
        >>> scale_steps(optimizer, lambda step: 0.5**step)
        >>> for _ in range(3):
        ...     weight.grad = torch.ones(1)
        ...     optimizer.step()
        >>> weight.item(), optimizer.param_groups[0]["lr"]
        (-1.75, 1.0)
    """
    step = 0
    set_by_others: list[tuple[dict[str, Any], Any, Any]] = []

    def before(its: Optimizer, args: Any, options: Any) -> None:
        now = factor(step)
        _put_back(set_by_others)  # the step before was left by an exception
        for group in its.param_groups:
            made = group["lr"] * now
            set_by_others.append((group, group["lr"], made))
            group["lr"] = made

    def after(its: Optimizer, args: Any, options: Any) -> None:
        nonlocal step
        step += 1
        _put_back(set_by_others)

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)


def _put_back(rates: list[tuple[dict[str, Any], Any, Any]]) -> None:
    """Undo it, unless the step itself has set another rate."""
    for group, own, made in rates:
        if group["lr"] is made:
            group["lr"] = own
    rates.clear()
