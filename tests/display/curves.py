"""Reads the curves of a picture back: each as its points, in units of the picture."""

from __future__ import annotations

import re
from itertools import accumulate

CURVE = re.compile(r'<path transform="scale\(\.1\)" d="M([^"l]*)l?([^"]*)"')


def curves_in(svg: str) -> list[list[tuple[float, float]]]:
    """Return the points of each curve."""
    return [
        [
            (x / 10, y / 10)
            for x, y in accumulate(
                _pairs(first) + _pairs(rest), lambda a, b: (a[0] + b[0], a[1] + b[1])
            )
        ]
        for first, rest in CURVE.findall(svg)
    ]


def _pairs(text: str) -> list[tuple[int, int]]:
    numbers = [int(each) for each in re.findall(r"-?\d+", text)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))
