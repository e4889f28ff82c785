"""A curve in one line of text shows its shape, its gaps and its zeros."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradreach.display.sparkline import BARS, GAP, sparkline

curves = st.lists(st.floats(), max_size=90)


@given(curves, st.integers(1, 50), st.booleans())
def test_line_is_as_long_as_the_curve_or_the_width(values, width, log):
    drawn = sparkline(values, width=width, log=log)

    assert len(drawn) == min(width, len(values))
    assert set(drawn) <= {*BARS, GAP}


@given(st.lists(st.floats(1e-12, 1e12), min_size=2, max_size=40))
def test_larger_value_never_has_the_lower_bar(values):
    for log in (False, True):
        heights = [BARS.index(bar) for bar in sparkline(values, log=log)]

        order = np.argsort(values)
        assert (np.diff(np.array(heights)[order]) >= 0).all()


def test_geometric_decay_is_a_straight_slope_in_logarithms():
    drawn = sparkline(0.5 ** np.arange(8), log=True)

    assert drawn == BARS[::-1]


def test_level_curve_is_full_whatever_its_level():
    # log10(1) = 0: a gradient that is perfectly preserved must not look like none at all.
    for level in (1.0, 0.01, 100.0):
        assert sparkline([level] * 3, log=True) == "███"
    assert sparkline([2.0] * 3) == "███"
    assert sparkline([0.0] * 3) == "▁▁▁"


@pytest.mark.parametrize(
    ("values", "drawn"), [([1.0, 0.0, 0.0], "█▁▁"), ([0.0, 0.0], "▁▁"), ([0.0, math.nan], "▁·")]
)
def test_exact_zero_has_the_lowest_bar_in_logarithms(values, drawn):
    assert sparkline(values, log=True) == drawn


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("log", [False, True])
def test_nonfinite_value_is_drawn_even_in_a_cut_curve(broken, log):
    values = [1.0] * 100
    values[50] = broken

    drawn = sparkline(values, width=10, log=log)

    assert drawn == "█████·████"


def test_lone_peak_survives_the_cut():
    values = np.zeros(1000)
    values[777] = 1.0

    assert sparkline(values, width=10) == "▁▁▁▁▁▁▁█▁▁"


def test_width_below_one_is_refused():
    with pytest.raises(ValueError, match="argument 'width' must be at least 1; got 0"):
        sparkline([1.0], width=0)
