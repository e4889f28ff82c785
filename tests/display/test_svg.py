"""A curve as SVG is well-formed, escaped, and draws inside its own box."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.display.curves import curves_in

from gradreach.display.svg import curve_svg

SVG = "{http://www.w3.org/2000/svg}"


def parsed(values, **options):
    given = {"title": "what is left", "x_label": "steps back"} | options
    return ElementTree.fromstring(curve_svg(np.asarray(values, dtype=float), **given))


def coordinates(root):
    found = [float(line.get(name)) for line in root.iter("line") for name in ("y1", "y2")]
    return found + [y for curve in curves_of(root) for _, y in curve]


def curves_of(root):
    return curves_in(ElementTree.tostring(root, encoding="unicode"))


CURVES = {
    "decay": 0.5 ** np.arange(50),
    "one value": [1.0],
    "none": [],
    "zeros": [0.0, 0.0],
    "gap": [1.0, math.nan, 0.1],
    "nothing finite": [math.nan, math.inf],
    "extremes": [1e-300, 1.0, 1e300],
    "all below the level": [1e-7, 1e-8],
    "all above the level": [1e7, 1e8],
}


@pytest.mark.parametrize("values", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("level", [None, 0.01])
def test_svg_is_well_formed_and_stays_in_its_box(values, level):
    root = parsed(values, level=level, marked=0)

    height = float(root.get("viewBox").split()[3])
    assert all(0 <= y <= height for y in coordinates(root))


def test_gap_splits_the_line_and_zero_does_not():
    assert len(curves_of(parsed([1.0, math.nan, 0.1]))) == 2
    (curve,) = curves_of(parsed([1.0, 0.0, 0.1]))
    heights = [y for _, y in curve]
    assert heights[1] == max(heights)  # the lower edge: y grows downwards


def test_equal_factors_are_equal_distances():
    (curve,) = curves_of(parsed(0.1 ** np.arange(5)))
    heights = [y for _, y in curve]

    # Written with one decimal: two roundings of 0.05.
    np.testing.assert_allclose(np.diff(heights), np.diff(heights)[0], atol=0.11)


def test_long_curve_keeps_its_peak_and_its_trough_and_stays_small():
    values = np.exp(np.random.default_rng(0).normal(size=20_000))
    values[[1234, 17_000]] = 1e9, 1e-9

    svg = curve_svg(values, title="t", x_label="steps back")
    (curve,) = curves_in(svg)

    (short,) = curves_in(curve_svg(np.array([1e9, 1e-9]), title="t", x_label="t"))
    heights = [y for _, y in curve]
    assert (min(heights), max(heights)) == (short[0][1], short[1][1])
    assert len(curve) <= 400
    assert len(svg) < 6_000


def test_mark_beyond_the_curve_is_left_out():
    inside, beyond = (len(list(parsed([1.0, 0.5], marked=m).iter("line"))) for m in (1, 2))

    assert inside == beyond + 1


def test_text_is_escaped():
    root = parsed([1.0], title='<b> & "quotes"', x_label="a < b")

    assert root.find("title").text == root.get("aria-label") == '<b> & "quotes"'
    assert "a < b" in [text.text for text in root.iter("text")]
