"""Curves as inline SVG, for pages that must open without a network."""

from __future__ import annotations

import math
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["curve_svg"]

LEFT, BOTTOM, TOP, RIGHT = 52, 28, 10, 10


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

    def x(index: float) -> float:
        return LEFT + index / max(len(values) - 1, 1) * (width - LEFT - RIGHT)

    def y(log: float) -> float:
        return TOP + (high - log) / (high - low) * (height - TOP - BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        'style="width:100%;max-width:44rem;height:auto" font-size="11" fill="currentColor">',
        f"<title>{escape(title)}</title>",
    ]
    stride = max(1, math.ceil((high - low) / 5))
    for power in range(low, high + 1, stride):
        parts.append(  # noqa: PERF401
            f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y(power):.1f}" y2="{y(power):.1f}" '
            'stroke="currentColor" stroke-opacity=".15"/>'
            f'<text x="{LEFT - 6}" y="{y(power) + 4:.1f}" text-anchor="end">1e{power}</text>'
        )
    if level is not None:
        parts.append(
            f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y(math.log10(level)):.1f}" '
            f'y2="{y(math.log10(level)):.1f}" stroke="#c33" stroke-dasharray="4 3"/>'
        )
    if marked is not None and marked < len(values):
        parts.append(
            f'<line x1="{x(marked):.1f}" x2="{x(marked):.1f}" y1="{TOP}" y2="{height - BOTTOM}" '
            'stroke="#c33"/>'
        )
        if marked_label:
            right = marked > len(values) / 2
            parts.append(
                f'<text x="{x(marked) + (-5 if right else 5):.1f}" y="{height - BOTTOM - 5}" '
                f'fill="#c33" text-anchor="{"end" if right else "start"}">'
                f"{escape(marked_label)}</text>"
            )
    for points in _runs(logs):
        path = " ".join(f"{x(index):.1f},{y(logs[index]):.1f}" for index in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="#27c" stroke-width="2"/>')
    last = len(values) - 1
    for index in sorted({0, last // 2, last}) if last > 0 else [0]:
        parts.append(  # noqa: PERF401
            f'<text x="{x(index):.1f}" y="{height - BOTTOM + 14}" text-anchor="middle">'
            f"{index}</text>"
        )
    parts.append(
        f'<text x="{width / 2:.0f}" y="{height - 2}" text-anchor="middle">{escape(x_label)}</text>'
        "</svg>"
    )
    return "".join(parts)


def _runs(logs: NDArray[np.float64]) -> list[list[int]]:
    """Split indices into runs without a gap."""
    runs: list[list[int]] = [[]]
    for index, value in enumerate(logs):
        if math.isnan(value):
            runs.append([])
        else:
            runs[-1].append(index)
    return [run for run in runs if run]
