"""Curves over the steps of a training lose no peak, pass over gaps and mark what is not finite."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from tests.display.curves import curves_in

from gradreach.display.step_curves import step_curves_svg, thinned

NAN, INF = float("nan"), float("inf")


points = curves_in


def labels(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter() if text.tag == "text"]


def test_positive_values_stand_on_a_logarithmic_axis():
    svg = step_curves_svg(np.arange(4.0), {"a": np.array([1e-3, 1.0, 1e3, 1.0])}, title="t")

    (curve,) = points(svg)
    heights = [y for _, y in curve]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert {"0.001", "1e+03"} <= set(labels(svg))


def test_values_below_zero_make_the_axis_linear():
    svg = step_curves_svg(np.arange(3.0), {"a": np.array([-1.0, 0.0, 1.0])}, title="t")

    (curve,) = points(svg)
    assert curve[0][1] - curve[1][1] == pytest.approx(curve[1][1] - curve[2][1], abs=0.2)
    assert {"-1", "0", "1"} <= set(labels(svg))


def test_steps_stand_at_their_own_places():
    svg = step_curves_svg(np.array([0.0, 10.0, 100.0]), {"a": np.ones(3)}, title="t")

    (curve,) = points(svg)
    left, near, right = (x for x, _ in curve)
    assert (near - left) / (right - left) == pytest.approx(0.1, abs=1e-3)
    assert {"0", "50", "100"} <= set(labels(svg))


def test_peak_among_a_million_steps_is_drawn_and_the_picture_stays_small():
    values = np.ones(10**6)
    values[654_321] = 1e6

    svg = step_curves_svg(np.arange(1e6), {"a": values}, title="t")

    (curve,) = points(svg)
    top = min(curve, key=lambda point: point[1])
    assert top[0] == pytest.approx(58 + 0.654321 * (560 - 68), abs=0.1)
    assert top[1] == pytest.approx(12, abs=0.1)
    assert len(svg) < 20_000


def test_gap_is_passed_over_and_what_is_not_finite_is_marked():
    values = np.array([1.0, NAN, 2.0, INF, 3.0])
    broken = np.array([False, False, False, False, True])

    svg = step_curves_svg(np.arange(5.0), {"a": values}, title="t", broken=broken)

    assert len(points(svg)[0]) == 3
    assert svg.count('stroke="#c33"') == 2  # the infinity, and the step that broke


@pytest.mark.parametrize(
    "values",
    [
        [],
        [NAN],
        [INF, INF],
        [0.0],
        [5.0],
        [0.0, 0.0],
        [1e-320, 1e308],
        [-1e308, 1e308],
        [1.0, 1.0 + 1e-15],
    ],
)
def test_degenerate_curves_are_valid_pictures(values):
    array = np.array(values, dtype=np.float64)

    svg = step_curves_svg(np.arange(float(len(array))), {"a": array}, title="t")

    ET.fromstring(svg)
    assert "nan" not in svg
    assert "inf" not in svg


def test_names_and_title_are_escaped():
    svg = step_curves_svg(np.arange(2.0), {"<b>": np.ones(2), "&": np.ones(2)}, title='"<script>')

    assert "<script>" not in svg
    assert any("<b>" in label and "&" in label for label in labels(svg))


def test_short_curve_is_kept_whole():
    steps, values = thinned(np.arange(5.0), np.array([1.0, NAN, 3.0, 2.0, INF]))

    assert steps.tolist() == [0.0, 2.0, 3.0]
    assert values.tolist() == [1.0, 3.0, 2.0]
