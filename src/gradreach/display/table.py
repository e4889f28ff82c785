"""The table of layers, in text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradreach.display.sparkline import sparkline

__all__ = ["HEADINGS", "Row", "factor", "render_table"]

HEADINGS = ("layer", "cell", "steps", "reach", "per step", "what is left, lag 0 → (log)")
GAP = "  "


@dataclass(frozen=True)
class Row:
    """One line: a layer, how far back its gradient reaches, and the curve that shows it."""

    name: str
    cell: str
    steps: int
    reach: str
    per_step: float
    curve: NDArray[np.float64]


def factor(value: float) -> str:
    """Write a factor per step.

    Example:
        >>> factor(0.7071), factor(float("nan"))
        ('×0.707', '–')
    """
    return "–" if math.isnan(value) else f"×{value:.3g}"


def render_table(rows: Sequence[Row], width: int = 80) -> str:
    """Return the rows as aligned text no wider than ``width`` columns, from 64 columns on.

    A name that is too long loses its beginning: its end tells layers and directions apart.

    Example:
        >>> print(render_table([Row("rnn.l0", "tanh 8", 4, "2 of 4", 0.1, np.array([1, 0.1]))], 60))
        layer   cell    steps  reach   per step  what is left, lag …
        rnn.l0  tanh 8  4      2 of 4  ×0.1      █▁
    """
    cells = [(row.name, row.cell, str(row.steps), row.reach, factor(row.per_step)) for row in rows]
    widths = [max(len(line[i]) for line in [HEADINGS[:5], *cells]) for i in range(5)]
    # Long module names give way first: the numbers and the picture are what is looked for.
    widths[0] = min(widths[0], max(10, width - sum(widths[1:]) - len(GAP) * 5 - 16))
    room = max(8, width - sum(widths) - len(GAP) * 5)
    lines = [_line(HEADINGS[:5], widths, _cut(HEADINGS[5], room))]
    lines += [
        _line(line, widths, sparkline(row.curve, width=min(room, 40), log=True))
        for row, line in zip(rows, cells, strict=True)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int], last: str) -> str:
    name = cells[0] if len(cells[0]) <= widths[0] else "…" + cells[0][1 - widths[0] :]
    parts = [cell.ljust(width) for cell, width in zip([name, *cells[1:]], widths, strict=True)]
    return GAP.join([*parts, last])


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
