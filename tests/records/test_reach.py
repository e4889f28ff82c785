"""Reach and decay of a lag profile, at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradreach.records.reach import decay_per_step, reach

nan, inf = math.nan, math.inf


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ([], None),
        ([1.0], 1),
        ([1.0, 0.009], 1),
        ([1.0, 0.01], 2),  # at the level is not below it
        ([1.0, 0.0, 0.0], 1),
        ([1.0, 0.001, 0.5, 0.001], 3),  # a dip is not the end
        ([0.0, 0.0], 0),
        ([1.0, nan, 0.0], 2),  # what is not known is not below
        ([1.0, 1e5, inf], 3),
    ],
)
def test_reach_is_the_first_lag_from_which_all_is_below(profile, expected):
    assert reach(np.array(profile)) == expected


@given(st.lists(st.floats(0, 2), max_size=40), st.floats(1e-6, 2))
def test_reach_agrees_with_its_definition(values, level):
    profile = np.array(values)

    found = reach(profile, level)

    if not values:
        assert found is None
        return
    assert (profile[found:] < level).all()
    assert found == 0 or not profile[found - 1] < level


@pytest.mark.parametrize("level", [0.0, -1.0, nan])
def test_level_that_is_not_positive_is_refused(level):
    with pytest.raises(ValueError, match=r"reach\(\): argument 'level' must be positive; got"):
        reach(np.ones(3), level)


@given(st.floats(0.2, 3.0), st.integers(3, 200))
def test_geometric_profile_has_its_own_factor(factor, lags):
    # rtol: a least-squares slope of logs that are each right to 1e-16 · |log|.
    np.testing.assert_allclose(decay_per_step(factor ** np.arange(lags)), factor, rtol=1e-10)


def test_first_step_back_does_not_count_where_others_do():
    profile = np.array([1.0, 0.2, 0.1, 0.05, 0.025, 0.0125])

    np.testing.assert_allclose(decay_per_step(profile), 0.5, rtol=1e-12)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [([1.0, 1e-5, 1e-9], 1e-5), ([1.0, 0.1, 1e-4], 10**-2.0 / 10**0.0 * 0.1)],
)
def test_short_reach_takes_what_there_is(profile, expected):
    np.testing.assert_allclose(decay_per_step(np.array(profile)), expected, rtol=1e-12)


@pytest.mark.parametrize("profile", [[], [1.0], [1.0, 0.0], [nan, nan], [0.0, 0.0, 0.0]])
def test_fewer_than_two_measured_lags_have_no_slope(profile):
    assert math.isnan(decay_per_step(np.array(profile)))


def test_gaps_are_left_out_of_the_slope():
    profile = 0.9 ** np.arange(20.0)
    profile[[5, 9]] = nan, inf
    profile[12] = 0.0

    np.testing.assert_allclose(decay_per_step(profile), 0.9, rtol=1e-12)
