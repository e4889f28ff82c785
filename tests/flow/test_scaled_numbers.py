"""Numbers with their exponent apart agree with exact fractions at every magnitude."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gradreach.flow.scaled_numbers import ONE, ScaledNumbers, multiply

factors = st.lists(
    st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False), max_size=60
)


def exact(number):
    return Fraction(number[0]) * Fraction(2) ** number[1]


@given(factors)
def test_product_has_one_rounding_a_factor(values):
    product = multiply(ONE, *values)

    expected = math.prod(map(Fraction, values), start=Fraction(1))
    assert abs(exact(product) - expected) <= len(values) * Fraction(2) ** -52 * abs(expected)


@given(
    st.lists(
        st.tuples(st.floats(0.5, 0.99) | st.floats(-0.99, -0.5), st.integers(-4000, 4000)),
        min_size=1,
    )
)
def test_sum_and_shares_are_relative_to_the_largest(numbers):
    total, shares = ScaledNumbers.pack(numbers).sum()

    expected = sum(map(exact, numbers))
    largest = max(abs(exact(number)) for number in numbers)
    got = exact((float(total.mantissas), int(total.exponents)))
    assert abs(got - expected) <= largest * Fraction(2) ** -52
    assert np.isnan(shares).all() == (got == 0)


def test_zero_has_no_exponent_and_no_magnitude():
    zero = ScaledNumbers.pack([(0.0, 99), (-0.5, 1)])

    assert zero.exponents.tolist() == [0, 1]
    assert zero.log10.tolist() == [-math.inf, 0.0]
    assert zero.signs.tolist() == [0, -1]


def test_not_finite_numbers_stay_visible():
    numbers = ScaledNumbers.pack([multiply(ONE, math.inf), multiply(ONE, math.nan)])

    total, shares = numbers.sum()

    assert np.isinf(numbers.values[0])
    assert np.isnan(numbers.values[1])
    assert np.isnan(total.values)
    assert np.isnan(shares).all()


def test_out_of_range_values_become_zero_and_infinity():
    numbers = ScaledNumbers.pack([(0.5, -5000), (-0.5, 5000)])

    assert numbers.values.tolist() == [0.0, -math.inf]
    assert numbers.log10.round(1).tolist() == [-1505.5, 1504.8]
