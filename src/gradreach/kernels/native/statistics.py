"""Asking the native backward what it sees on its way: it costs a few per cent, not a replay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

from gradreach.kernels.native.invocation import Statistics

__all__ = ["Listener", "asked_for", "statistics_for", "tell", "watched"]

GATES = {"gru": 3, "lstm": 4}


class Listener(NamedTuple):
    """Who wants the statistics of a call, and whether with the pre-activations' gradients."""

    seen: list[Statistics]
    pre_activations: bool = False


_LISTENERS: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


@contextmanager
def watched(*, pre_activations: bool = False) -> Iterator[list[Statistics]]:
    """Collect the statistics of every native layer called inside, as its backward runs.

    Args:
        pre_activations: Also the gradient of the pre-activations, as large as all gates.

    Example:
        >>> with watched() as seen:
        ...     pass
        >>> seen
        []
    """
    listener = Listener([], pre_activations)
    token = _LISTENERS.set((*_LISTENERS.get(), listener))
    try:
        yield listener.seen
    finally:
        _LISTENERS.reset(token)


def asked_for() -> tuple[Listener, ...]:
    """Return who wants the statistics of calls made now."""
    return _LISTENERS.get()


def statistics_for(
    listeners: Sequence[Listener], kind: str, output: Tensor, size: int
) -> Statistics | None:
    """Return statistics for a backward to fill; ``None`` where nobody listens.

    Args:
        output: Of the call; tells steps, rows and dtype.
        size: Hidden units.
    """
    if not listeners:
        return None
    gates, shape = GATES.get(kind, 0), output.shape[:-1]
    numbers = torch.empty(shape.numel() + (2 + gates) * size, dtype=torch.float64)
    made = Statistics(numbers, shape, size, gates)
    if any(listener.pre_activations for listener in listeners):
        made.pre_activations = output.new_empty(*shape, max(gates, 1) * size)
    return made


def tell(listeners: Sequence[Listener], statistics: Statistics | None) -> None:
    """Give filled statistics to those who listen."""
    for listener in listeners:
        assert statistics is not None
        listener.seen.append(statistics)
