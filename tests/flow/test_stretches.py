"""Stretches of time cover the axis once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gradreach.flow.stretches import LONGEST, stretches


@given(st.integers(0, 3000))
def test_stretches_cover_the_axis_in_order(steps):
    cut = stretches(steps)

    assert [step for start, stop in cut for step in range(start, stop)] == list(range(steps))
    assert all(stop - start <= max(4, min(LONGEST, steps // 12)) for start, stop in cut)
