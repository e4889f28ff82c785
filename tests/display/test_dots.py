"""Rows of dots."""

from __future__ import annotations

import math
import re

from gradreach.display.dots import dots_svg


def places(svg: str) -> list[float]:
    return [float(found) for found in re.findall(r'<circle cx="([\d.]+)"', svg)]


def test_dots_far_apart_stand_on_a_logarithmic_axis():
    svg = dots_svg([("a", [0.01, 0.1, 1.0])], title="t", x_label="x")

    first, second, third = places(svg)
    assert abs((second - first) - (third - second)) < 0.2  # places are written to a tenth
    assert "(logarithmic)" in svg


def test_dots_close_together_stand_on_a_plain_axis():
    first, second, third = places(dots_svg([("a", [1.0, 2.0, 3.0])], title="t", x_label="x"))

    assert abs((second - first) - (third - second)) < 0.2


def test_a_number_that_is_none_is_a_cross_and_texts_are_escaped():
    svg = dots_svg([("<b>", [math.nan, 1.0])], title="<t>", x_label="<x>", level=2.0)

    assert svg.count("<path") == 1 and svg.count("<circle") == 1
    assert "<b>" not in svg and "<t>" not in svg


def test_no_numbers_at_all_draw_an_empty_axis():
    assert "<circle" not in dots_svg([("a", [math.nan])], title="t", x_label="x")
