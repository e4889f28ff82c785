"""Tells whether a backward pass has sent a gradient to some parameters, without a hook on them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["GradientArrivals"]


class GradientArrivals:
    """Compares ``.grad`` before a pass with what it is after it.

    A gradient that arrives is a new tensor, or a new version of the one that was there.

    Example:
        >>> import torch
        >>> weight, other = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
        >>> arrivals = GradientArrivals()
        >>> for loss in (weight.sum(), other.sum(), (weight + other).sum()):
        ...     arrivals.begin([weight])
        ...     loss.backward()
        ...     arrivals.end([weight])
        True
        False
        True
    """

    def __init__(self) -> None:
        self._before: dict[int, tuple[Tensor, int]] | None = None

    def begin(self, parameters: Sequence[Tensor]) -> None:
        """A pass begins; the gradients there are are held until it ends, and no longer."""
        self._before = {
            id(each): (each.grad, each.grad._version)
            for each in parameters
            if each.grad is not None
        }

    def end(self, parameters: Sequence[Tensor]) -> bool:
        """A pass has ended: whether one of the parameters got a gradient."""
        before, self._before = self._before, None
        if before is None:
            return False
        for each in parameters:
            gradient = each.grad
            if gradient is None:
                continue
            held = before.get(id(each))
            if held is None or held[0] is not gradient or held[1] != gradient._version:
                return True
        return False

    def forget(self) -> None:
        """The pass that ran raised an exception."""
        self._before = None
