"""Multiplies an optimizer's learning rates while it steps, whoever else sets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from torch.optim import Optimizer

__all__ = ["RateFactor", "scale_steps"]

RateFactor = Callable[[int], float]  # the factor of step 0, 1, 2, …


@dataclass
class _Scaling:
    """What is done to the rates of one optimizer."""

    factors: list[RateFactor] = field(default_factory=list)
    step: int = 0
    inside: list[tuple[dict[str, Any], Any, Any]] = field(default_factory=list)

    def before(self, optimizer: Optimizer, args: Any, options: Any) -> None:
        self._put_back()  # the step before was left by an exception
        factors = [factor(self.step) for factor in self.factors]
        for group in optimizer.param_groups:
            made = group["lr"]
            for factor in factors:
                made = made * factor
            self.inside.append((group, group["lr"], made))
            group["lr"] = made

    def after(self, optimizer: Optimizer, args: Any, options: Any) -> None:
        self.step += 1
        self._put_back()

    def _put_back(self) -> None:
        """Undo it, unless the step itself has set another rate."""
        for group, own, made in self.inside:
            if group["lr"] is made:
                group["lr"] = own
        self.inside.clear()


_scalings: WeakKeyDictionary[Optimizer, _Scaling] = WeakKeyDictionary()


def scale_steps(optimizer: Optimizer, factor: RateFactor) -> None:
    """Let step t of an optimizer be made with ``factor(t)`` times the learning rate set then.

    The rate is put back after the step: a scheduler of the script, or a line that sets the rate,
    finds what it left there, and the two multiply whatever they do. Several factors multiply.
    Steps that a ``GradScaler`` skips do not count.

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
    scaling = _scalings.get(optimizer)
    if scaling is None:
        scaling = _scalings[optimizer] = _Scaling()
        optimizer.register_step_pre_hook(scaling.before)
        optimizer.register_step_post_hook(scaling.after)
    scaling.factors.append(factor)
