"""Curves as inline SVG, for pages that must open without a network."""

from __future__ import annotations

import math
from html import escape

import numpy as np
from numpy.typing import NDArray

from gradreach.display.line_path import line_path
from gradreach.display.step_curves import thinned
from gradreach.display.svg_axes import BOTTOM, RIGHT, SvgAxes

__all__ = ["curve_svg"]

LEFT, TOP = 52, 10
MOST = 200  # stretches of a curve: two points each, closer than the width of the line


def curve_svg(
    values: NDArray[np.float64],
    *,
    title: str,
    x_label: str,
    level: float | None = None,
    marked: int | None = None,
    marked_label: str = "",
    width: int = 560,
    height: int = 170,
) -> str:
    """Draw a curve on a logarithmic axis.

    Zeros sit on the lower edge; NaN and infinity leave a gap. The SVG scales with the page,
    takes its colour from the text around it, and says ``title`` to a screen reader.

    Args:
        values: The curve, ``(N,)``.
        level: A horizontal line to compare with. marked: An index to mark with a line.
        marked_label: Written beside that line.

    Example:
        >>> curve_svg(np.array([1.0, 0.1]), title="left", x_label="lag").startswith("<svg")
        True
    """
    logs = np.full(len(values), math.nan)
    usable = np.isfinite(values) & (values > 0)
    logs[usable] = np.log10(values[usable])
    high = math.ceil(logs[usable].max()) if usable.any() else 0
    low = min(math.floor(logs[usable].min()) if usable.any() else -1, high - 1)
    if level is not None:
        low = min(low, math.floor(math.log10(level)))
        high = max(high, math.ceil(math.log10(level)))
    logs[np.isfinite(values) & (values == 0)] = low

    last = len(values) - 1
    axes = SvgAxes(width, height, LEFT, TOP, (0, max(last, 1)), low, high)
    stride = max(1, math.ceil((high - low) / 5))
    powers = range(low, high + 1, stride)
    parts = [axes.opening(title), axes.grid([(power, f"1e{power}") for power in powers])]
    if level is not None:
        parts.append(_level(axes, math.log10(level)))
    if marked is not None and marked < len(values):
        parts.append(_mark(axes, marked, marked_label, right=marked > len(values) / 2))
    for run in _runs(logs):
        # Of a stretch of steps that share a pixel only the least and the largest are seen.
        at, heights = thinned(run.astype(np.float64), logs[run], MOST)
        points = zip(axes.x(at), axes.y(heights), strict=True)
        parts.append(line_path(points, colour="#27c", width=2))
    named = sorted({0, last // 2, last}) if last > 0 else [0]
    parts += [axes.below(index, str(index)) for index in named]
    return "".join([*parts, axes.named(x_label), "</svg>"])


def _level(axes: SvgAxes, log: float) -> str:
    """Return a line to compare with."""
    at = f"{axes.y(log):.1f}"
    return (
        f'<line x1="{LEFT}" x2="{axes.width - RIGHT}" y1="{at}" y2="{at}" stroke="#c33" '
        'stroke-dasharray="4 3"/>'
    )


def _mark(axes: SvgAxes, index: int, label: str, *, right: bool) -> str:
    """Return an upright line; its label stands on the side where there is more room."""
    at, foot = axes.x(float(index)), axes.height - BOTTOM
    line = f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{foot}" stroke="#c33"/>'
    if not label:
        return line
    return (
        f'{line}<text x="{at + (-5 if right else 5):.1f}" y="{foot - 5}" fill="#c33" '
        f'text-anchor="{"end" if right else "start"}">{escape(label)}</text>'
    )


def _runs(logs: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Split indices into runs without a gap."""
    there = np.flatnonzero(~np.isnan(logs))
    runs = np.split(there, np.flatnonzero(np.diff(there) > 1) + 1)
    return [run for run in runs if len(run)]
