"""Passes what ``backward`` is called on through the treatments."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from gradreach.treatments.attributes import Attributes
from gradreach.treatments.sites import Site, caller, site_at

__all__ = ["BackwardPatch"]


class BackwardPatch:
    """``torch.autograd.backward``, through which ``loss.backward()`` goes as well, while started.

    Calls from within a backward pass (checkpointing) are torch's own affair and pass unseen.
    """

    def __init__(self, note: Callable[[Site], None]) -> None:
        self.note = note
        self.acts: list[Callable[[Tensor], Tensor | None]] = []
        self._attributes = Attributes()
        self._started = False

    def start(self) -> None:
        """Put the wrapper in place."""
        if self._started:
            return
        self._started = True
        own = torch.autograd.backward

        @wraps(own)
        def backward(tensors: Any, *args: Any, **options: Any) -> None:
            # Stopped, it stays where somebody has wrapped it in turn.
            if not self._started or torch._C._current_graph_task_id() != -1:
                own(tensors, *args, **options)
                return
            self.note(site_at(caller(), "backward", "torch.autograd.backward"))
            if isinstance(tensors, Tensor):
                for act in self.acts:
                    changed = act(tensors)
                    tensors = tensors if changed is None else changed
            own(tensors, *args, **options)

        self._attributes.put(torch.autograd, "backward", backward)

    def stop(self) -> None:
        """Put torch's back."""
        self._started = False
        self._attributes.restore()
