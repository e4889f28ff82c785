"""Keeping hold of what native forwards leave for their backwards: a measurement reads it, too."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from torch import Tensor

from gradreach.kernels.native.invocation import Kept, Statistics
from gradreach.kernels.recurrence import Recurrence

__all__ = ["Forward", "forget", "remember", "remembered"]


class Forward(NamedTuple):
    """One native forward with a graph, and what it left.

    The tensors are those of the graph: whoever changes one in place breaks the backward.
    """

    cell: Recurrence
    kept: Kept
    inputs: Tensor
    hidden: Tensor
    cell_state: Tensor | None
    output: Tensor
    dense: bool  # all sequences of one length, from their start on
    told: list[Statistics]  # what its backward saw, one for each run of that


_REMEMBERED: ContextVar[list[Forward] | None] = ContextVar("remembered", default=None)


def remember() -> list[Forward]:
    """Collect the native forwards with a graph from now on, instead of who did so before.

    Example:
        >>> forwards = remember()
        >>> remembered() is forwards
        True
        >>> forget()
        >>> remembered() is None
        True
    """
    forwards: list[Forward] = []
    _REMEMBERED.set(forwards)
    return forwards


def forget() -> None:
    """Collect them no longer."""
    _REMEMBERED.set(None)


def remembered() -> list[Forward] | None:
    """Return the list that wants the forwards made now; ``None`` where nobody does."""
    return _REMEMBERED.get()
