"""The frame that curves in inline SVG are drawn into: its scales, its grid and its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gradreach.display.line_path import grid_path

__all__ = ["BOTTOM", "RIGHT", "SvgAxes"]

Place = TypeVar("Place", float, NDArray[np.float64])

BOTTOM, RIGHT = 28, 10


@dataclass(frozen=True)
class SvgAxes:
    """Turns what is drawn into places on the picture; the vertical axis points upwards.

    The picture scales with the page, takes its colour from the text around it, and says its title
    to a screen reader.

    Attributes:
        width, height: Of the picture. left, top: Of the frame.
        across: First value of the horizontal axis, and the span of all.
        low, high: Ends of the vertical axis.
    """

    width: int
    height: int
    left: int
    top: int
    across: tuple[float, float]
    low: float
    high: float

    def x(self, value: Place) -> Place:
        """Return the horizontal place of a value."""
        first, span = self.across
        return self.left + (value - first) / span * (self.width - self.left - RIGHT)

    def y(self, value: Place) -> Place:
        """Return the vertical place of a value."""
        share = (self.high - value) / (self.high - self.low)
        return self.top + share * (self.height - self.top - BOTTOM)

    def opening(self, title: str) -> str:
        """Return the beginning of the picture."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(title)}" style="width:100%;max-width:44rem;height:auto" '
            f'font-size="11" fill="currentColor"><title>{escape(title)}</title>'
        )

    def grid(self, levels: Sequence[tuple[float, str]]) -> str:
        """Return the lines of the grid, as one element, and the label of each."""
        heights = [self.y(value) for value, _ in levels]
        labels = [
            f'<text x="{self.left - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
            for at, (_, label) in zip(heights, levels, strict=True)
        ]
        return grid_path(self.left, self.width - RIGHT, heights) + "".join(labels)

    def below(self, value: float, label: str, anchor: str = "middle") -> str:
        """Return a label of the horizontal axis."""
        return (
            f'<text x="{self.x(value):.1f}" y="{self.height - BOTTOM + 14}" '
            f'text-anchor="{anchor}">{label}</text>'
        )

    def named(self, x_label: str) -> str:
        """Return the name of the horizontal axis."""
        return (
            f'<text x="{self.width / 2:.0f}" y="{self.height - 2}" text-anchor="middle">'
            f"{escape(x_label)}</text>"
        )
