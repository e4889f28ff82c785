"""Heat maps: colour is the logarithm of a size, rows end together, faults are never merged away."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from gradreach.display.heat_map import INFINITE, NAN, SHADES, ZERO, heat_map_svg


def drawn(rows, **options) -> str:
    return heat_map_svg(rows, [str(n) for n in range(len(rows))], title="t", x_label="x", **options)


def cells(svg: str) -> dict[tuple[int, int], str]:
    """Return the colour of each cell by row and column."""
    found = {}
    for shade, path in re.findall(r'<path stroke="([^"]*)" d="([^"]*)"', svg):
        for at, line, length in re.findall(r"M(\d+) (\d+)h(\d+)", path):
            for column in range(int(at), int(at) + int(length)):
                assert (int(line), column) not in found
                found[int(line), column] = shade
    return found


def test_colours_rise_with_the_logarithm_over_the_whole_scale():
    found = cells(drawn([10.0 ** np.arange(-8.0, 0.0)]))

    places = [SHADES.index(found[0, column]) for column in range(8)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, len(SHADES) - 1)
    assert np.diff(places).max() - np.diff(places).min() <= 1


def test_zero_nan_and_infinity_have_colours_of_their_own():
    found = cells(drawn([np.array([0.0, np.nan, np.inf, 1.0, 1e-300])]))

    assert [found[0, column] for column in range(5)] == [ZERO, NAN, INFINITE, SHADES[-1], SHADES[0]]


def test_shorter_row_ends_with_the_others_and_begins_later():
    found = cells(drawn([np.ones(6), np.ones(2)]))

    assert [column for line, column in sorted(found) if line == 1] == [4, 5]


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_one_wrong_cell_among_many_is_seen(wrong):
    rows = [np.ones(5000) for _ in range(300)]
    rows[123][4321] = wrong

    svg = drawn(rows)

    colours = list(cells(svg).values())
    assert colours.count(NAN if np.isnan(wrong) else INFINITE) == 1
    assert max(line for line, _ in cells(svg)) < 40


def test_largest_of_bundled_cells_counts():
    row = np.full(1600, 1e-9)
    row[777] = 1.0

    found = cells(drawn([row]))

    assert list(found.values()).count(SHADES[-1]) == 1
    assert found[0, 1600 // 13 - (1600 - 1 - 777) // 13] == SHADES[-1]  # 13 values a cell


def test_first_and_last_row_are_drawn_with_their_labels():
    svg = drawn([np.ones(3)] * 100)

    texts = [text.text for text in ET.fromstring(svg).iter() if text.tag == "text"]
    assert texts[0] == "0"
    assert "99" in texts


def test_worst_case_stays_small():
    noise = [np.exp(np.random.default_rng(row).normal(size=5000) * 9) for row in range(400)]

    assert len(drawn(noise)) < 100_000


@pytest.mark.parametrize("rows", [[], [np.zeros(0)], [np.zeros(3)], [np.full(3, np.nan)],
                                  [np.full(2, 5e-324)], [np.array([1e308])]])  # fmt: skip
def test_degenerate_maps_are_valid_pictures(rows):
    ET.fromstring(drawn(rows))


def test_labels_and_title_are_escaped():
    svg = heat_map_svg([np.ones(2)], ["<i>"], title='"<script>', x_label="<u>")

    assert not re.search("<script>|<i>|<u>", svg)
    ET.fromstring(svg)
