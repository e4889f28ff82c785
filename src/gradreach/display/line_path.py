"""A curve as an SVG path: to a tenth of a unit, in half the characters of a polyline."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

__all__ = ["grid_path", "line_path"]

TENTH = 10


def line_path(points: Iterable[tuple[float, float]], *, colour: str, width: float) -> str:
    """Return a line through points.

    A page holds dozens of curves, and most of its size is their points. Each is written as its
    distance from the one before, in whole tenths of a unit: what a polyline with one decimal says,
    without its repetition. Points are rounded before they are subtracted, so no error adds up.

    Args:
        points: At least one, from left to right.
        colour: Of the line. width: In units.

    Example:
        >>> line_path([(0, 1.04), (10, 1.5), (12.5, 0.2)], colour="red", width=1.5)
        '<path transform="scale(.1)" d="M0 10l100 5 25-13" fill="none" stroke="red" stroke-width="15" stroke-linecap="round"/>'
    """  # noqa: E501  the text of an element is one line
    tenths = [(round(TENTH * float(x)), round(TENTH * float(y))) for x, y in points]
    (first_x, first_y), *_ = tenths
    steps = [number for (x, y), (to_x, to_y) in pairwise(tenths) for number in (to_x - x, to_y - y)]
    # A minus sign parts two numbers as well as a space does.
    told = "".join(f"{'' if number < 0 else ' '}{number}" for number in steps).lstrip()
    return (
        f'<path transform="scale(.1)" d="M{first_x} {first_y}{f"l{told}" if told else ""}" '
        f'fill="none" stroke="{colour}" stroke-width="{TENTH * width:g}" stroke-linecap="round"/>'
    )


def grid_path(left: float, right: float, heights: Iterable[float]) -> str:
    """Return faint level lines, all as one element.

    Example:
        >>> grid_path(50, 550, [10.0, 142.04])
        '<path d="M50 10h500M50 142h500" stroke="currentColor" stroke-opacity=".15"/>'
    """
    lines = "".join(f"M{left:g} {round(float(height), 1):g}h{right - left:g}" for height in heights)
    return f'<path d="{lines}" stroke="currentColor" stroke-opacity=".15"/>' if lines else ""
