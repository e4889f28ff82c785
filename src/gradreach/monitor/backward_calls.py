"""Sees the calls of ``torch.autograd.backward``: their loss, and calls within calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

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
        on_nested: Called inside the outer pass, before an inner one begins.

    Attributes:
        loss: What the pass that runs was started from, where that is a single number.
        nested: Number of passes within passes that are running.
    """

    def __init__(self, on_nested: Callable[[], None]) -> None:
        self.on_nested = on_nested
        self.loss: Tensor | None = None
        self.nested = 0
        self._own: Callable[..., None] | None = None
        self._wrapper: Callable[..., None] | None = None

    def start(self) -> None:
        """Put the wrapper in place."""
        own = self._own = torch.autograd.backward

        @wraps(own)
        def backward(tensors: Any, *args: Any, **options: Any) -> None:
            if current_pass() == -1:
                single = isinstance(tensors, Tensor) and tensors.numel() == 1
                self.loss = tensors.detach() if single else None
                try:
                    own(tensors, *args, **options)
                finally:
                    self.loss = None
                return
            self.on_nested()
            self.nested += 1
            try:
                own(tensors, *args, **options)
            finally:
                self.nested -= 1

        self._wrapper = torch.autograd.backward = backward

    def stop(self) -> None:
        """Take the wrapper away, unless somebody has wrapped it in turn: then it only passes on."""
        if self._own is not None and torch.autograd.backward is self._wrapper:
            torch.autograd.backward = self._own
        self._own = self._wrapper = self.loss = None
        self.on_nested = _nothing


def _nothing() -> None:
    """Stand in for whoever listened."""
