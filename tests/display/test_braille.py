"""Curves of dots: every value has its place, and nothing that is wrong disappears."""

from __future__ import annotations

import numpy as np
import pytest

from gradreach.display.braille import DOTS, EMPTY, braille_curve


def dots(lines: list[str], columns: int) -> list[list[int]]:
    """Return for each column of dots the rows that are set, read back from the text."""
    found: list[list[int]] = [[] for _ in range(columns)]
    for line, text in enumerate(lines):
        for place, letter in enumerate(text):
            for row, bits in enumerate(DOTS):
                for side, bit in enumerate(bits):
                    if ord(letter) >= EMPTY and (ord(letter) - EMPTY) & bit:
                        found[2 * place + side].append(4 * line + row)
    return found


def test_geometric_decay_is_a_straight_slope():
    lines = braille_curve(0.5 ** np.arange(32.0), width=16, height=8)

    assert dots(lines, 32) == [[step] for step in range(32)]


def test_lone_peak_of_a_long_curve_is_there():
    curve = np.ones(10_000)
    curve[7_000] = 1e6

    found = dots(braille_curve(curve, width=10, height=3), 20)

    assert found[14] == [0]
    assert sum(rows == [11] for rows in found) == 19


def test_zero_stands_on_the_lower_edge_and_nan_is_marked():
    lines = braille_curve(np.array([1.0, 1.0, 0.1, 0.0, np.nan, np.inf]), width=3, height=2)

    assert lines[-1].endswith("·")
    assert dots(lines, 6)[3] == [7]


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0], [np.nan]])
def test_curve_of_next_to_nothing_is_drawn(values):
    assert len(braille_curve(np.array(values), height=2)) == 2


def test_size_below_one_is_refused():
    with pytest.raises(ValueError, match="must be at least 1; got 0 and 4"):
        braille_curve(np.ones(3), width=0)
