"""Notices weights that move although no optimizer has made a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradreach.flow.sources.calls import RecordedCall

__all__ = ["HandUpdates"]


class HandUpdates:
    """Compares the smallest weight of each layer with what it was in the sample before.

    A script that writes ``p.data.add_(p.grad, alpha=-lr)`` itself calls no optimizer; there each
    backward pass is a step.

    Attributes:
        seen: Whether a weight has moved without an optimizer's step.
    """

    def __init__(self) -> None:
        self.seen = False
        self._before: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()

    def look(self, calls: Sequence[RecordedCall], values: Mapping[int, Tensor], steps: int) -> None:
        """Compare.

        Args:
            values: By ``id`` of a weight, a copy of the value it has in this pass.
            steps: Optimizer steps so far; where there are some, nothing is looked at.
        """
        if steps or self.seen:
            self._before.clear()
            return
        for module in {call.module: None for call in calls}:
            own = [values[id(p)] for p in module.parameters() if id(p) in values]
            if not own:
                continue
            smallest = min(own, key=Tensor.numel)
            before = self._before.get(module)
            if before is not None and not torch.equal(before, smallest):
                self.seen = True
            self._before[module] = smallest
