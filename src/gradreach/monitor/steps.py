"""Counts the updates that a script's optimizers make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

__all__ = ["StepCount"]


class StepCount:
    """Optimizer steps of this process; those of several optimizers at one point are one.

    Args:
        on_step: Called after each with their number so far; what it raises ends the script.

    Example:
        >>> import torch
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> count = StepCount()
        >>> encoder, decoder = torch.optim.SGD([weight]), torch.optim.SGD([weight])
        >>> for _ in range(3):
        ...     encoder.step(), decoder.step()
        (None, None)
        (None, None)
        (None, None)
        >>> count.stop()
        >>> count.steps
        3
    """

    def __init__(self, on_step: Callable[[int], None] | None = None) -> None:
        self.steps = 0
        self._on_step = on_step
        self._stepped: WeakSet[Optimizer] = WeakSet()
        self._handle = register_optimizer_step_post_hook(self._after)

    def passed(self) -> None:
        """Note that a backward pass has ended: what steps after it is a step of its own."""
        self._stepped.clear()

    def stop(self) -> None:
        """Count no more."""
        self._handle.remove()

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._stepped and optimizer not in self._stepped:
            self._stepped.add(optimizer)
            return
        self._stepped.clear()
        self._stepped.add(optimizer)
        self.steps += 1
        if self._on_step is not None:
            self._on_step(self.steps)
