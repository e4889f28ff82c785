"""Norms agree with exact arithmetic from the smallest to the largest float64."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradreach.flow.norms import BLOCK, scaled_norm, total_norm

numbers = st.lists(
    st.floats(-1e300, 1e300, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-300),
    min_size=1, max_size=30,
)  # fmt: skip


def exact(values):
    with mpmath.workdps(60):
        return float(mpmath.sqrt(mpmath.fsum(mpmath.mpf(value) ** 2 for value in values)))


@given(numbers)
def test_norm_has_its_digits_at_every_magnitude(values):
    tensor = torch.tensor(values, dtype=torch.float64)

    # 30 squares, a sum, a root, a product: each rounds once.
    for found in (scaled_norm(tensor), total_norm(tensor)):
        assert math.isclose(float(found), exact(values), rel_tol=1e-15)


def test_thousand_float32_values_of_1e_23_have_a_norm():
    values = torch.full((1000,), 1e-23)

    assert float(torch.linalg.vector_norm(values)) == 0.0  # what a plain norm says
    for found in (scaled_norm(values), total_norm(values)):
        # The float32 nearest to 1e-23 is itself 6e-8 off.
        assert math.isclose(float(found), 1000**0.5 * 1e-23, rel_tol=6e-8)


@pytest.mark.parametrize("values", [[math.nan, 1.0], [math.inf, 1.0], [-math.inf, math.inf],
                                    [math.nan, math.inf], [0.0, -0.0]])  # fmt: skip
def test_nan_infinity_and_zero_stay_what_they_are(values):
    tensor = torch.tensor(values)

    expected = math.nan if any(map(math.isnan, values)) else max(map(abs, values))
    for found in (scaled_norm(tensor), total_norm(tensor)):
        assert math.isnan(found) if math.isnan(expected) else float(found) == expected


def test_one_broken_row_leaves_the_others_alone():
    values = torch.tensor([[3.0, 4.0], [math.nan, 0.0], [math.inf, 1.0], [0.0, 0.0]])

    assert scaled_norm(values)[[0, 2, 3]].tolist() == [5.0, math.inf, 0.0]


def test_large_tensors_are_taken_in_stretches_with_the_same_result():
    values = torch.randn(3, 40, BLOCK // 32, dtype=torch.float64) * 1e-200

    for dim in (-1, 2, (1, 2)):
        found = scaled_norm(values, dim)
        assert found.shape == values.shape[:2] if dim != (1, 2) else (3,)
        torch.testing.assert_close(
            found, torch.linalg.vector_norm(values * 1e200, dim=dim) * 1e-200, rtol=1e-14, atol=0
        )
    torch.testing.assert_close(
        total_norm(values), torch.linalg.vector_norm(values * 1e200) * 1e-200, rtol=1e-14, atol=0
    )


def test_nothing_has_norm_zero():
    assert float(total_norm(torch.zeros(0, 3))) == 0.0
