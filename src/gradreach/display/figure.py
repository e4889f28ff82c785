"""Figures for print, in one style: what `flow.plot()`, `history.plot()` and the others draw with.

Nothing here touches matplotlib's global settings, its backend or pyplot: a figure is made, filled
and returned, and whoever asked for it shows or saves it. matplotlib is the extra `plot`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradreach.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "COLUMN",
    "MARK",
    "PAGE",
    "curve",
    "heat_map",
    "level_line",
    "name_axes",
    "new_figure",
    "place_line",
    "whole_numbers",
]

Array = NDArray[np.float64]

COLUMN, PAGE = 3.5, 7.2  # inches: one column and both of a two-column journal page
PANEL = 2.1  # inches, height of one panel
TEXT, SMALL = 8.0, 7.0  # points, as journals ask for

# Okabe & Ito (2008): told apart with every kind of colour vision. Their yellow is left out, as
# thin lines of it vanish on white paper; the dashes tell curves apart in greys.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 2)), (0, (2.5, 1)), "-",
)  # fmt: skip
MARK = "#B00020"  # lines that mark a place or a level, faults
FAULT = "#D81BA0"  # cells that are not finite
GRID, FRAME = "#D9DCE0", "#5A6067"
LEAST, MOST = 1e-300, 1e300  # ticks of logarithmic axes fail beyond


def new_figure(
    panels: int = 1,
    *,
    purpose: str,
    across: int = 1,
    width: float | None = None,
    panel_height: float = PANEL,
    title: str | None = None,
) -> tuple[Figure, list[Axes]]:
    """Make a figure with empty panels, filled row by row.

    Args:
        panels: How many.
        purpose: What draws it, for the error where matplotlib is missing: "`flow.plot()`".
        across: Panels side by side; the last row may be shorter.
        width: Inches; by default a column of a journal for one panel across, else its page.
        panel_height: Inches.
        title: Stands above all panels.

    Raises:
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> figure, (axes,) = new_figure(purpose="a doctest")
        >>> float(figure.get_size_inches()[0]), axes.get_title()
        (3.5, '')
    """
    require("matplotlib", extra="plot", purpose=purpose)
    drawing = importlib.import_module("gradreach.display.drawing")
    across = max(1, min(across, panels))
    down = -(-panels // across)
    wide = width if width is not None else (COLUMN if across == 1 else PAGE)
    room = 0.3 if title else 0.0
    figure: Figure = drawing.Drawing(
        figsize=(wide, panel_height * down + room), layout="constrained"
    )
    grid = figure.add_gridspec(down, across)
    axes = [figure.add_subplot(grid[index // across, index % across]) for index in range(panels)]
    for each in axes:
        _plain(each)
    if title:
        figure.suptitle(title, fontsize=TEXT + 1)
    return figure, axes


def name_axes(
    axes: Axes, x_label: str, y_label: str, *, title: str | None = None, legend: bool = False
) -> None:
    """Label both axes, with units in the words; give the panel a title and a legend if asked."""
    axes.set_xlabel(x_label, fontsize=TEXT)
    axes.set_ylabel(y_label, fontsize=TEXT)
    if title:
        axes.set_title(title, fontsize=TEXT, loc="left")
    if legend:
        axes.legend(fontsize=SMALL, frameon=False, handlelength=2.2, labelspacing=0.25)


def whole_numbers(*axis: Axis) -> None:
    """Put the ticks of linear axes at whole numbers: there is no step 0.5."""
    locator = importlib.import_module("matplotlib.ticker").MaxNLocator
    for each in axis:
        each.set_major_locator(locator(nbins=6, integer=True))


def curve(
    axes: Axes,
    x: Array,
    y: Array,
    *,
    label: str | None = None,
    index: int = 0,
    log: bool = False,
    points: bool | None = None,
) -> None:
    """Draw one curve; what is not finite is a gap, and is marked where it stands.

    Infinities get a triangle at the upper edge, NaN an open triangle there, and on a logarithmic
    axis zeros one at the lower edge: a logarithm has no place for them, and leaving them out
    would show a gradient that is gone as one that was not measured.

    Args:
        axes: Where to draw.
        x: ``(N,)``. y: ``(N,)``.
        label: Name in the legend.
        index: Which of the colours and dashes.
        log: Make the vertical axis logarithmic.
        points: Mark each value; by default where there are at most 12.

    Example:
        >>> figure, (axes,) = new_figure(purpose="a doctest")
        >>> curve(axes, np.arange(3.0), np.array([1.0, np.nan, 0.01]), log=True)
        >>> axes.get_yscale(), axes.lines[0].get_ydata()
        ('log', array([1.  ,  nan, 0.01]))
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    shown = np.where(np.isfinite(y) & ((y > 0) | (not log)), y, np.nan)
    if log:
        axes.set_yscale("log", nonpositive="mask")
        shown = np.where(np.isnan(shown), np.nan, np.clip(shown, LEAST, MOST))
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
    if points is None:
        points = len(y) <= 12
    axes.plot(
        x, shown, color=colour, linestyle=dash, linewidth=1.2, label=label,
        marker="o" if points or _lonely(shown) else None, markersize=2.5,
    )  # fmt: skip
    edges = [(np.isposinf(y), 1.0, "^", MARK), (np.isnan(y), 1.0, "^", "none")]
    edges.append((np.isneginf(y), 0.0, "v", MARK))
    if log:
        edges.append((y == 0, 0.0, "v", colour))
    for which, height, marker, face in edges:
        if which.any():
            axes.plot(
                x[which], np.full(int(which.sum()), height), linestyle="none", marker=marker,
                markersize=3.5, markerfacecolor=face, markeredgewidth=0.6, clip_on=False,
                markeredgecolor=MARK if face in (MARK, "none") else face,
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip


def level_line(axes: Axes, level: float, label: str) -> None:
    """Draw a horizontal line to compare with, its meaning written on it."""
    axes.axhline(level, color=MARK, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.annotate(
        label, (1.0, level), xycoords=("axes fraction", "data"), ha="right", va="bottom",
        fontsize=SMALL, color=MARK,
    )  # fmt: skip


def place_line(axes: Axes, place: float, label: str) -> None:
    """Draw a vertical line at a place, named at its upper end on the side where there is room."""
    low, high = axes.get_xlim()
    right = place > (low + high) / 2
    axes.axvline(place, color=MARK, linewidth=1.0)
    axes.annotate(
        label, (place, 0.97), xycoords=("data", "axes fraction"), textcoords="offset points",
        xytext=(-3 if right else 3, 0), ha="right" if right else "left", va="top",
        fontsize=SMALL, color=MARK,
    )  # fmt: skip


def heat_map(
    axes: Axes, rows: Array, x: Array, y: Array, *, x_label: str, y_label: str, legend: str
) -> None:
    """Draw sizes as colours on a logarithmic scale, twelve powers of ten at most.

    Zeros are black, what is not finite has a colour that the scale has not, and what is masked
    is left empty.

    Args:
        axes: Where to draw.
        rows: ``(N, T)`` sizes, masked where there is none.
        x: ``(T,)`` places of the columns. y: ``(N,)`` of the rows, both rising.
        x_label: Of the columns. y_label: Of the rows. legend: Of the colours.

    Example:
        >>> figure, (axes,) = new_figure(purpose="a doctest")
        >>> sizes = np.array([[1.0, 0.1], [0.0, np.nan]])
        >>> heat_map(axes, sizes, np.arange(2.0), np.arange(2.0),
        ...          x_label="t", y_label="step", legend="size")
        >>> axes.collections[0].get_array().round(1)
        masked_array(
          data=[[0.0, -1.0],
                [--, --]],
          mask=[[False, False],
                [ True,  True]],
          fill_value=1e+20)
    """
    absent = np.ma.getmaskarray(rows)
    sizes = np.ma.getdata(rows).astype(np.float64)
    usable = np.isfinite(sizes) & (sizes > 0) & ~absent
    logs = np.ma.masked_array(np.log10(sizes, where=usable, out=np.zeros_like(sizes)), ~usable)
    high = float(logs.max()) if usable.any() else 0.0
    low = max(float(logs.min()), high - 12.0) if usable.any() else -1.0
    edges = _edges(np.asarray(x, np.float64)), _edges(np.asarray(y, np.float64))
    # Without anti-aliasing: it draws seams between the cells.
    mesh = axes.pcolormesh(
        *edges, logs, cmap="viridis", vmin=low, vmax=max(high, low + 1e-9), rasterized=True
    )
    for which, colour in ((sizes == 0, "black"), (~np.isfinite(sizes), FAULT)):
        which &= ~absent
        if which.any():
            ones = np.ma.masked_array(np.ones_like(sizes), ~which)
            axes.pcolormesh(*edges, ones, cmap=_one_colour(colour), rasterized=True)
    axes.grid(False)
    bar = axes.get_figure().colorbar(mesh, ax=axes, pad=0.02)  # type: ignore[union-attr]
    bar.set_label(legend, fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL, width=0.6, length=2)
    name_axes(axes, x_label, y_label)


def _plain(axes: Axes) -> None:
    """Give a panel the frame, grid and tick labels that all panels share."""
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FRAME)
        axes.spines[side].set_linewidth(0.6)
    axes.tick_params(labelsize=SMALL, width=0.6, length=2.5, color=FRAME)
    axes.tick_params(which="minor", labelsize=SMALL - 1, width=0.4, length=1.5, color=FRAME)
    axes.grid(True, color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)


def _lonely(values: Array) -> bool:
    """Tell whether a value stands between gaps: a line of one point is invisible."""
    there = np.concatenate([[False], np.isfinite(values), [False]])
    return bool((there[1:-1] & ~there[:-2] & ~there[2:]).any())


def _edges(centres: Array) -> Array:
    """Return the borders of cells around their centres: halfway, and as far beyond the ends."""
    if len(centres) < 2:
        return np.concatenate([centres - 0.5, centres + 0.5])
    halfway = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - halfway[0], 2 * centres[-1] - halfway[-1]
    return np.concatenate([[first], halfway, [last]])


def _one_colour(name: str) -> Colormap:
    colours: Colormap = importlib.import_module("matplotlib.colors").ListedColormap([name])
    return colours
