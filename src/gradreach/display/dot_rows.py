"""Pairs of dots in rows, before and after, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

__all__ = ["dot_rows_svg"]

Pairs = Sequence[tuple[float, float]]

LEFT, RIGHT, TOP, ROW, BOTTOM = 210, 30, 8, 26, 34
SHOWN = 34  # characters of a name


def dot_rows_svg(
    rows: Sequence[tuple[str, Pairs]],
    *,
    title: str,
    x_label: str,
    log: bool,
    level: float | None = None,
    width: int = 640,
) -> str:
    """Draw a row for each name, with a hollow dot for each first value, joined to its second one.

    A value that is not finite is a cross at the right edge. The SVG takes its colour from the
    text around it and scales with the page.

    Args:
        rows: Names with their pairs. title: For a screen reader. x_label: What the values are.
        log: Whether equal distances are equal factors.
        level: A vertical line to compare with.

    Example:
        >>> drawn = dot_rows_svg([("<GRU>", [(0.2, 0.1)])], title="t", x_label="loss", log=True)
        >>> drawn.count("<circle"), "&lt;GRU&gt;" in drawn
        (2, True)
    """
    values = [value for _, pairs in rows for pair in pairs for value in pair]
    scale = _Scale([*values, *([] if level is None else [level])], log=log, width=width)
    height = TOP + ROW * len(rows) + BOTTOM
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        'style="width:100%;max-width:44rem;height:auto" font-size="11" fill="currentColor">',
        f"<title>{escape(title)}</title>",
    ]
    floor = height - BOTTOM
    if level is not None and math.isfinite(scale.of(level)):
        parts.append(
            f'<line x1="{scale.of(level):.1f}" x2="{scale.of(level):.1f}" y1="{TOP}" '
            f'y2="{floor}" stroke="#c33" stroke-dasharray="4 3"/>'
        )
    for place, (name, pairs) in enumerate(rows):
        middle = TOP + ROW * (place + 0.5)
        parts.append(_row(name, pairs, middle, scale, width))
    for value in scale.ticks:
        parts.append(  # noqa: PERF401
            f'<text x="{scale.of(value):.1f}" y="{floor + 13}" text-anchor="middle">{value:.3g}'
            "</text>"
        )
    middle_x = (LEFT + width - RIGHT) / 2
    parts.append(
        f'<text x="{middle_x:.0f}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>'
        "</svg>"
    )
    return "".join(parts)


class _Scale:
    """From values to places on the page."""

    def __init__(self, values: Sequence[float], *, log: bool, width: int) -> None:
        self.log = log
        self.end = width - RIGHT
        known = [self._on(value) for value in values]
        known = [value for value in known if math.isfinite(value)] or [0.0, 1.0]
        self.low, self.high = min(known), max(known)
        if self.high - self.low < 1e-12:
            self.low, self.high = self.low - 0.5, self.high + 0.5
        places = [self.low + (self.high - self.low) * share for share in (0, 0.5, 1)]
        self.ticks = [10**place if log else place for place in places]

    def _on(self, value: float) -> float:
        if not self.log:
            return value
        return math.log10(value) if value > 0 and math.isfinite(value) else math.nan

    def of(self, value: float) -> float:
        """Return the place of a value; NaN where it has none."""
        share = (self._on(value) - self.low) / (self.high - self.low)
        return LEFT + 10 + share * (self.end - LEFT - 24)


def _row(name: str, pairs: Pairs, middle: float, scale: _Scale, width: int) -> str:
    shown = name if len(name) <= SHOWN else name[: SHOWN - 1] + "…"
    parts = [
        f'<text x="{LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(shown)}</text>'
        f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{middle:.1f}" y2="{middle:.1f}" '
        'stroke="currentColor" stroke-opacity=".12"/>'
    ]
    for place, (before, after) in enumerate(pairs):
        y = middle + (place - (len(pairs) - 1) / 2) * min(5.0, 16 / max(len(pairs), 1))
        first, second = scale.of(before), scale.of(after)
        if math.isfinite(first) and math.isfinite(second):
            parts.append(
                f'<line x1="{first:.1f}" x2="{second:.1f}" y1="{y:.1f}" y2="{y:.1f}" '
                'stroke="currentColor" stroke-opacity=".35"/>'
            )
        parts.append(_dot(first, y, scale.end, 'fill="none" stroke="currentColor"'))
        parts.append(_dot(second, y, scale.end, 'fill="#27c" stroke="#27c"'))
    return "".join(parts)


def _dot(x: float, y: float, edge: float, colour: str) -> str:
    if math.isfinite(x):
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" {colour}/>'
    return f'<text x="{edge}" y="{y + 4:.1f}" text-anchor="middle" fill="#c33">×</text>'
