"""Tells an optimizer's treatment the loss of each of its steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.optim import Optimizer

from gradreach.treatments.pass_listener import PassListener

__all__ = ["on_step_loss"]


class _Losses:
    """The losses of the passes since each optimizer's last step; one for the whole process."""

    def __init__(self) -> None:
        self.since: WeakKeyDictionary[Optimizer, list[float]] = WeakKeyDictionary()
        self._factor = 1.0
        self.listener = PassListener(self._begins, self._passed, factors=True)

    def _begins(self, roots: Any, factor: float) -> None:
        self._factor = factor

    def _passed(self, loss: torch.Tensor | None) -> None:
        if loss is not None:
            for losses in self.since.values():
                losses.append(float(loss) / self._factor)


_every = _Losses()


def on_step_loss(optimizer: Optimizer, act: Callable[[float], None]) -> None:
    """Call ``act`` at the end of each step of an optimizer with its loss.

    That is the mean of what ``backward`` was called on since the step before, without the factor
    of a ``GradScaler``; of a closure that is called several times, what its first call found; NaN
    where no single number was differentiated.

    Cost:
        One read of the loss a pass; on a GPU it waits for it.

    Example:
        >>> weight = torch.ones(1, requires_grad=True)
        >>> optimizer = torch.optim.SGD([weight], lr=0.5)
        >>> on_step_loss(optimizer, print)
        >>> (3 * weight).sum().backward()
        >>> optimizer.step()
        3.0
    """
    _every.listener.listen()
    since = _every.since.setdefault(optimizer, [])
    outside = 0

    def before(its: Optimizer, args: Any, options: Any) -> None:
        nonlocal outside
        outside = len(since)

    def after(its: Optimizer, args: Any, options: Any) -> None:
        known = since[:outside] or since[:1]
        loss = sum(known) / len(known) if known else math.nan
        since.clear()
        _every.listener.listen()
        act(loss)

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
