"""One row a group, one dot a number, as inline SVG: every value is seen, not only a mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

__all__ = ["dots_svg"]

LEFT, RIGHT, TOP, BOTTOM, ROW = 210, 16, 8, 34, 26
MOST = 30  # letters of a row's name: a longer one loses its end


def dots_svg(
    rows: Sequence[tuple[str, Sequence[float]]],
    *,
    title: str,
    x_label: str,
    level: float | None = None,
    width: int = 640,
) -> str:
    """Draw the rows on one axis, logarithmic where all numbers are positive and far apart.

    A number that is not finite is a cross at the right edge. The first row's median is drawn as
    a line through all rows: it is what the others are compared with.

    Args:
        rows: Names with their numbers, the one to compare with first.
        level: A vertical line, such as a target.

    Example:
        >>> dots_svg([("control", [0.2, 0.3])], title="loss", x_label="loss").count("<circle")
        2
    """
    finite = [value for _, values in rows for value in values if math.isfinite(value)]
    shown = [*finite, *([] if level is None else [level])]
    log = bool(shown) and min(shown) > 0 and max(shown) > 4 * min(shown)
    low, high = _ends([_place(value, log) for value in shown])
    height = TOP + ROW * len(rows) + BOTTOM

    def x(value: float) -> float:
        if not math.isfinite(value):
            return width - RIGHT
        share = (_place(value, log) - low) / (high - low)
        return LEFT + share * (width - LEFT - RIGHT - 24)

    foot = TOP + ROW * len(rows)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        'style="width:100%;max-width:52rem;height:auto" font-size="12" fill="currentColor">',
        f"<title>{escape(title)}</title>",
        f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{foot}" y2="{foot}" stroke="currentColor" '
        'stroke-opacity=".4"/>',
    ]
    for tick in _ticks(low, high):
        value = 10**tick if log else tick
        parts.append(
            f'<text x="{x(value):.1f}" y="{foot + 14}" text-anchor="middle">{value:.3g}</text>'
        )
    middle = _median(rows[0][1]) if rows else math.nan
    for at, colour in ((middle, "currentColor"), (math.nan if level is None else level, "#c33")):
        if math.isfinite(at):
            parts.append(
                f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP}" y2="{foot}" '
                f'stroke="{colour}" stroke-opacity=".6" stroke-dasharray="4 3"/>'
            )
    for place, (name, values) in enumerate(rows):
        y = TOP + ROW * (place + 0.5)
        short = name if len(name) <= MOST else name[: MOST - 1] + "…"
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end"><title>{escape(name)}'
            f"</title>{escape(short)}</text>"
        )
        parts += [_mark(x(value), y, math.isfinite(value), place == 0) for value in values]
    parts.append(
        f'<text x="{(LEFT + width) / 2:.0f}" y="{height - 4}" text-anchor="middle">'
        f"{escape(x_label)}{' (logarithmic)' if log else ''}</text></svg>"
    )
    return "".join(parts)


def _mark(x: float, y: float, finite: bool, first: bool) -> str:
    if not finite:
        return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="#c33" stroke-width="2"/>'
    colour = "currentColor" if first else "#27c"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}" fill-opacity=".65"/>'


def _place(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _ends(places: Sequence[float]) -> tuple[float, float]:
    if not places:
        return 0.0, 1.0
    low, high = min(places), max(places)
    room = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    return [low + share * (high - low) for share in (0.05, 0.35, 0.65, 0.95)]


def _median(values: Sequence[float]) -> float:
    known = sorted(value for value in values if math.isfinite(value))
    return known[len(known) // 2] if known else math.nan
