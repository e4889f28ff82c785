"""A comparison as a figure for print: every seed a dot, joined to its control."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gradreach.display.figure import COLOURS, FRAME, MARK, PAGE, name_axes, new_figure
from gradreach.records.comparison_page import pairs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradreach.records.comparison import Comparison

__all__ = ["comparison_figure"]

ROW = 0.34  # inches
SHIFT = 0.17  # of a row: the control's dots above, the treatment's below


def comparison_figure(comparison: Comparison) -> Figure:
    """Draw the metric against the treatment.

    In each row the control's seeds stand above (hollow) and the treatment's below (filled), a
    line for each seed; the bar is the median. A training that did not finish is a cross at the
    side of the worst values.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    rows = pairs_of(comparison)
    figure, (axes,) = new_figure(
        purpose="`comparison.plot()`", width=PAGE, panel_height=0.9 + ROW * max(len(rows), 1)
    )
    if comparison.log_scale:
        axes.set_xscale("log")
    for place, (name, pairs) in enumerate(rows):
        _draw(axes, place, pairs, comparison, won=name == comparison.winner)
    if comparison.criterion is not None:
        axes.axvline(comparison.criterion, color=MARK, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False, axis="y")
    name_axes(axes, f"{comparison.metric} (hollow: control, filled: treated, a line a seed)", "")
    return figure


def _draw(
    axes: Axes, place: int, pairs: list[tuple[float, float]], comparison: Comparison, *, won: bool
) -> None:
    colour = COLOURS[1] if won else COLOURS[0]
    worst = 1.0 if comparison.direction == "minimize" else 0.0
    for before, after in pairs:
        if math.isfinite(before) and math.isfinite(after):
            axes.plot([before, after], [place - SHIFT, place + SHIFT], color=FRAME, linewidth=0.6)
        for value, y, face in ((before, place - SHIFT, "none"), (after, place + SHIFT, colour)):
            if math.isfinite(value):
                axes.plot(
                    [value], [y], marker="o", markersize=4, linestyle="none",
                    markerfacecolor=face, markeredgecolor=FRAME if face == "none" else colour,
                )  # fmt: skip
            else:
                axes.plot(
                    [worst], [y], marker="x", markersize=4, color=MARK, linestyle="none",
                    clip_on=False, transform=axes.get_yaxis_transform(),
                )  # fmt: skip
    finite = [after for _, after in pairs if math.isfinite(after)]
    if finite and len(finite) == len(pairs):
        middle = float(np.median(finite))
        axes.plot([middle, middle], [place, place + 2 * SHIFT], color=colour, linewidth=1.4)
