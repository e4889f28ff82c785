"""Sees the calls of ``torch.autograd.backward``: their loss, and calls within calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from gradreach.monitor.guard import Guard

__all__ = ["BackwardCalls", "current_pass"]


def current_pass() -> int:
    """Return the autograd engine's number of the backward pass we are in; -1 outside of any."""
    number: int = torch._C._current_graph_task_id()
    return number


class BackwardCalls:
    """A wrapper around ``torch.autograd.backward`` while started.

    Everything else is told by hooks; the value a pass starts from, and that a pass was started
    from within another (reentrant checkpointing), are not.

    Args:
        guard: Runs what is ours.
        on_nested: Called inside the outer pass, before an inner one begins.
        on_return: Called when an outermost call has returned, with its loss.
        on_begin: Called before an outermost call, with what it is called on.

    Attributes:
        loss: What the pass that runs was started from, where that is a single number.
        nested: Number of passes within passes that are running.
    """

    def __init__(
        self,
        guard: Guard,
        on_nested: Callable[[], None],
        on_return: Callable[[Tensor | None], None],
        on_begin: Callable[[Any], None] | None = None,
    ) -> None:
        self.guard, self.on_nested, self.on_return = guard, on_nested, on_return
        self.on_begin = on_begin
        self.loss: Tensor | None = None
        self.nested = 0
        self._own: Callable[..., None] | None = None
        self._wrapper: Callable[..., None] | None = None

    @property
    def wrapper(self) -> Callable[..., None] | None:
        """What stands in the place of torch's function; ``None`` while not started."""
        return self._wrapper

    def start(self) -> None:
        """Put the wrapper in place."""
        own = self._own = torch.autograd.backward

        @wraps(own)
        def backward(tensors: Any, *args: Any, **options: Any) -> None:
            if torch._C._current_graph_task_id() == -1:
                self.guard(self._note, tensors)
                loss = self.loss
                try:
                    own(tensors, *args, **options)
                finally:
                    self.loss = None
                self.guard(self.on_return, loss)
                return
            self.guard(self.on_nested)
            self.nested += 1
            try:
                own(tensors, *args, **options)
            finally:
                self.nested -= 1

        self._wrapper = torch.autograd.backward = backward

    def _note(self, tensors: Any) -> None:
        self.loss = _total(tensors)
        if self.on_begin is not None:
            self.on_begin(tensors)

    def stop(self) -> None:
        """Take the wrapper away, unless somebody has wrapped it in turn: then it only passes on."""
        if self._own is not None and torch.autograd.backward is self._wrapper:
            torch.autograd.backward = self._own
        self._own = self._wrapper = self.loss = self.on_begin = None
        self.guard, self.on_nested, self.on_return = Guard(_nothing), _nothing, _nothing


def _total(tensors: Any) -> Tensor | None:
    """Return the number that is differentiated, where it is one, or a sum of several."""
    parts = tensors if isinstance(tensors, tuple | list) else (tensors,)
    if not all(isinstance(part, Tensor) and part.numel() == 1 for part in parts):
        return None
    total: Tensor = parts[0].detach()
    for part in parts[1:]:
        total = total + part.detach()
    return total


def _nothing(*told: object) -> None:
    """Stand in for whoever listened."""
