"""Hooks that are removed together, with whatever torch would leave of them."""

from __future__ import annotations

from types import TracebackType

import torch
from torch.utils.hooks import RemovableHandle

__all__ = ["HeldHooks"]

WITH_KWARGS: dict[int, bool] = torch.nn.modules.module._global_forward_hooks_with_kwargs


class HeldHooks:
    """Base of a context that sets hooks when it is entered and has none when it is left."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    @property
    def handles(self) -> list[RemovableHandle]:
        """Its hooks."""
        return self._handles

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()
            # torch forgets this mark of a global hook, and torch.compile then warns of one.
            WITH_KWARGS.pop(handle.id, None)
        self._handles.clear()
