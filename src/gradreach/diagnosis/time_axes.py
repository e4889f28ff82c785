"""Which layers share one time axis."""

from __future__ import annotations

from gradreach.records import GradientFlow

__all__ = ["time_axes"]


def time_axes(flow: GradientFlow) -> dict[str, list[str]]:
    """Return the layers of each time axis, the lowest first.

    ``rnn.l0``, ``rnn.l0_reverse`` and ``rnn.l1`` read one sequence; ``rnn#2.l0`` another; a loop
    over a cell is an axis of its own.
    """
    axes: dict[str, list[str]] = {}
    for name, layer in flow.layers.items():
        axis = name if layer.source == "cells" else name.rpartition(".l")[0]
        axes.setdefault(axis, []).append(name)
    return axes
