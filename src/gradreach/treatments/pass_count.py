"""Counts the backward passes of this process, once something wants to know."""

from __future__ import annotations

from typing import Any

from gradreach.treatments.pass_listener import PassListener

__all__ = ["COUNTER", "passes"]

_counted = [0]


def passes() -> int:
    """Return how many outermost calls of ``backward`` have returned since the first call of this.

    Example:
        >>> import torch
        >>> before = passes()
        >>> torch.ones(1, requires_grad=True).sum().backward()
        >>> passes() - before
        1
    """
    COUNTER.listen()
    return _counted[0]


def _count(loss: Any) -> None:
    _counted[0] += 1


COUNTER = PassListener(passed=_count)
