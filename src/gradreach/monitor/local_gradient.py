"""The norm of what this process's own data gave, before gradients are averaged over processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from gradreach.monitor.vectors import Number, local, norm

__all__ = ["LocalGradient", "is_distributed"]


def is_distributed() -> bool:
    """Whether this process is one of several that average their gradients.

    Example:
        >>> is_distributed()
        False
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    return distributed.get_world_size() > 1


class LocalGradient:
    """Looks at the gradients of one pass where they arrive, before they are averaged.

    ``DistributedDataParallel`` averages as a gradient is put into ``.grad``; a hook on the
    parameter is called before that. It is there for the pass only, and changes nothing.

    Args:
        wanted: Whether there is anything to tell apart; asked once a pass.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> own = LocalGradient(wanted=lambda: True)
        >>> own.begin([weight])
        >>> (3 * weight).sum().backward()
        >>> own.end()
        4.24...
    """

    def __init__(self, wanted: Callable[[], bool] = is_distributed) -> None:
        self._wanted = wanted
        self._handles: list[RemovableHandle] = []
        self._norms: dict[int, Number] = {}

    def begin(self, parameters: Sequence[Tensor]) -> None:
        """A pass begins."""
        self.forget()
        if not self._wanted():
            return
        self._handles = [
            each.register_hook(partial(self._arrived, id(each)))  # type: ignore[no-untyped-call]
            for each in parameters
            if each.requires_grad
        ]

    def end(self) -> Number | None:
        """A pass has ended: return the norm; ``None`` where nothing was looked at."""
        norms = list(self._norms.values())
        self.forget()
        if not norms:
            return None
        device = next((each.device for each in norms if isinstance(each, Tensor)), None)
        parts = [torch.as_tensor(each, dtype=torch.float64, device=device) for each in norms]
        return norm(torch.stack(parts))

    def forget(self) -> None:
        """Take the hooks away: the pass is over, or it raised an exception."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._norms = [], {}

    def _arrived(self, parameter: int, gradient: Tensor) -> None:
        with contextlib.suppress(Exception):  # it would end the user's backward
            self._norms[parameter] = norm(local(gradient.detach()).reshape(-1))
