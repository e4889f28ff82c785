"""Keeps ``torch.compile`` from warning a user of hooks that are ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

__all__ = ["HiddenHooks"]

MODULES: Any = torch.nn.modules.module
ASKED = "_has_any_global_hook"  # what torch.compile asks before it warns
DICTS = (
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
    "_global_forward_pre_hooks",
    "_global_forward_hooks",
)


class HiddenHooks:
    """Makes torch's question for global module hooks overlook some of them.

    A script run with ``-W error`` would die of the warning; a warnings filter in its stead would
    be the user's to see and to lose.
    """

    def __init__(self) -> None:
        self._own: Callable[[], Any] | None = None
        self._others: Callable[[], Any] | None = None

    def start(self, handles: Iterable[RemovableHandle]) -> None:
        """Overlook these hooks."""
        hidden = {handle.id for handle in handles}

        def others() -> bool:
            return any(set(getattr(MODULES, name, ())) - hidden for name in DICTS)

        self._own = getattr(MODULES, ASKED, None)
        if self._own is not None:
            self._others = others
            setattr(MODULES, ASKED, others)

    def stop(self) -> None:
        """Overlook nothing."""
        if self._own is not None and getattr(MODULES, ASKED) is self._others:
            setattr(MODULES, ASKED, self._own)
        self._own = self._others = None
