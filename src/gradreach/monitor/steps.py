"""Counts the updates that a process's optimizers make, and tells when each begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from gradreach.monitor.guard import Guard

__all__ = ["Listener", "StepCount"]

Listener = Callable[[Optimizer, bool], None]


class StepCount:
    """Optimizer steps of this process; those of several optimizers at one point are one.

    Args:
        on_step: Called after each with their number so far; what it raises ends the script.
        relevant: Tells whether an optimizer's steps count; without it all do.
        before, after: Called around each call of an optimizer, with whether it begins a new step
            (or goes on with that of another optimizer).
        guard: Runs ``relevant``, ``before`` and ``after``.

    Example:
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

    def __init__(
        self,
        on_step: Callable[[int], None] | None = None,
        *,
        relevant: Callable[[Optimizer], bool] | None = None,
        before: Sequence[Listener] = (),
        after: Sequence[Listener] = (),
        guard: Guard | None = None,
    ) -> None:
        self.steps = 0
        self.inside = False  # an optimizer's step is running: a pass now is one of its closure
        self._on_step, self._relevant = on_step, relevant
        self._listeners = (before, after)
        self._guard = guard or Guard(_nothing)
        # The count goes on where the watch has failed: a script is ended by it.
        self._own_guard = Guard(self._failed)
        self._stepped: WeakSet[Optimizer] = WeakSet()
        self._new = True
        self._handles = [
            register_optimizer_step_pre_hook(partial(self._own_guard, self._before)),
            register_optimizer_step_post_hook(partial(self._own_guard, self._after)),
        ]

    def passed(self) -> None:
        """Note that a backward pass has ended: what steps after it is a step of its own."""
        if not self.inside:
            self._stepped.clear()

    def skipped(self, optimizer: Optimizer) -> bool | None:
        """Note a step that a scaler has skipped: it has its number all the same.

        Returns:
            Whether it is a new step; ``None`` where the optimizer's own hooks have told of it, or
            where it does not count.
        """
        if not self._counts(optimizer) or optimizer in self._stepped:
            return None
        new = not self._stepped
        self._stepped.add(optimizer)
        self.steps += new
        return new

    def ended(self, optimizer: Optimizer) -> None:
        """Note that a step has ended with an exception of ours: torch calls no hook then."""
        self._own_guard(self._after, optimizer, (), {})

    def stop(self) -> None:
        """Count no more."""
        for handle in self._handles:
            handle.remove()

    def _failed(self) -> None:
        """The count itself has failed: so has the watch."""
        self._guard.fail(self._own_guard.fault or "")

    def _counts(self, optimizer: Optimizer) -> bool:
        if torch.compiler.is_compiling():
            return False
        return self._relevant is None or self._relevant(optimizer)

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._counts(optimizer):
            return
        self._new = not self._stepped or optimizer in self._stepped
        if self._new:
            self._stepped.clear()
        self._stepped.add(optimizer)
        self.inside = True
        for listener in self._listeners[0]:
            self._guard(listener, optimizer, self._new)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._counts(optimizer):
            return
        self.inside = False
        for listener in self._listeners[1]:
            self._guard(listener, optimizer, self._new)
        if not self._new:
            return
        self.steps += 1
        if self._on_step is not None:
            self._on_step(self.steps)


def _nothing() -> None:
    """Do nothing when a guard fails."""
