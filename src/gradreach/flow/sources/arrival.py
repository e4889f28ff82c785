"""The gradient that arrives at one tensor during a backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Arrival"]


class Arrival:
    """Receives the total gradient of a tensor, without touching tensor, graph or gradient.

    A prehook on the node that made the tensor sees what arrives from every consumer, after
    the user's own tensor hooks. A hook on the tensor itself would miss gradient that the
    user's hooks change, and would be found by ``torch.save``.
    """

    def __init__(self, tensor: Tensor, first: Callable[[], None] | None = None) -> None:
        self.first = first  # told that a backward pass has reached the tensor
        self.gradient: Tensor | None = None
        self.passes = 0
        self.second_order = False
        self.lost: str | None = None  # why the gradient could not be copied
        self.place = tensor.output_nr
        if tensor.grad_fn is not None:
            tensor.grad_fn.register_prehook(self._receive)

    def _receive(self, gradients: tuple[Any, ...]) -> None:
        self.passes += 1
        if self.first is not None:
            self.first()
        # Grad mode is on inside a backward only when it builds a graph of itself.
        self.second_order |= torch.is_grad_enabled()
        gradient = gradients[self.place] if self.place < len(gradients) else None
        if gradient is not None:
            try:
                own = gradient.detach().clone()
                self.gradient = own if self.gradient is None else self.gradient + own
            except Exception as error:  # noqa: BLE001  out of memory must not end the user's pass
                self.lost = type(error).__name__
