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


_hidden: set[int] = set()  # ids of hooks, of everybody who hides some
_replaced: list[tuple[Callable[[], Any], Callable[[], Any]]] = []  # torch's question, and ours


class HiddenHooks:
    """Makes torch's question for global module hooks overlook some of them.

    A script run with ``-W error`` would die of the warning; a warnings filter in its stead would
    be the user's to see and to lose. Several may hide hooks at a time, and end in any order.
    """

    def __init__(self) -> None:
        self._own: set[int] = set()

    def start(self, handles: Iterable[RemovableHandle]) -> None:
        """Overlook these hooks."""
        self._own = {handle.id for handle in handles}
        _hidden.update(self._own)
        asked = getattr(MODULES, ASKED, None)
        if asked is not None and not _replaced:
            _replaced.append((asked, _others))
            setattr(MODULES, ASKED, _others)

    def stop(self) -> None:
        """Overlook nothing."""
        _hidden.difference_update(self._own)
        self._own = set()
        if _replaced and not _hidden:
            own, ours = _replaced.pop()
            if getattr(MODULES, ASKED) is ours:
                setattr(MODULES, ASKED, own)


def _others() -> bool:
    """Whether there is a hook of somebody else's."""
    return any(set(getattr(MODULES, name, ())) - _hidden for name in DICTS)
