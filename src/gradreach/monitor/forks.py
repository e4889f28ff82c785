"""Ends a watch in the children that a watched process forks."""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakMethod

__all__ = ["end_in_children"]

# Python can register what a fork does, not take it back: one function, and a list that can.
_ends: list[WeakMethod[Callable[[], None]]] = []
_registered: list[Callable[[], None]] = []


def end_in_children(end: Callable[[], None]) -> None:
    """Call a method in every child forked from now on, as long as its object lives.

    A data loader's worker, say, inherits all hooks, and would write into its parent's run.
    """
    _ends.append(WeakMethod(end))
    if not _registered:
        _registered.append(_in_child)
        os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    for reference in _ends:
        end = reference()
        if end is not None:
            end()
    _ends.clear()
