"""Where the loss is looked at along an update, and whether what is seen can be trusted."""

from __future__ import annotations

import math

import pytest

from gradreach.monitor.line_search import MISMATCH, measured_slope, searched


@pytest.mark.parametrize("best", [1e-5, 1e-3, 0.02, 0.2, 0.4, 1.0, 2.0, 7.0, 50.0, 900.0, 2e5])
def test_lowest_point_is_bracketed_within_a_factor_of_ten(best: float) -> None:
    along = searched(lambda scale: (scale / best - 1) ** 2, start=1.0, mismatch=0.0)

    lowest = along.scales[along.losses.index(min(along.losses))]
    assert best / 10 < lowest < best * 10
    assert along.scales[0] == 0.0 and 1.0 in along.scales
    assert list(along.scales) == sorted(along.scales)
    assert len(along.scales) <= 12


def test_update_uphill_is_followed_down_to_its_smallest_fraction() -> None:
    along = searched(lambda scale: 1.0 + scale, start=1.0, mismatch=0.0)

    assert min(along.losses) == along.losses[0]
    assert along.scales[1] == 1e-6


@pytest.mark.parametrize("wall", [math.nan, math.inf])
def test_loss_that_is_no_number_far_out_ends_the_search(wall: float) -> None:
    along = searched(lambda scale: wall if scale > 5 else -scale, start=0.0, mismatch=0.0)

    assert along.scales == (0.0, 0.3, 1.0, 3.0, 10.0)


def test_loss_that_is_no_number_at_the_update_is_followed_down() -> None:
    along = searched(
        lambda scale: math.nan if scale > 0.05 else (scale - 0.02) ** 2, 4e-4, mismatch=0.0
    )

    finite = [loss for loss in along.losses if math.isfinite(loss)]
    assert min(finite) < 4e-4


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 1e9])
@pytest.mark.parametrize("rate", [1e-6, 1.0, 1e6])
def test_slope_of_a_curved_loss_is_confirmed_whatever_its_size(size: float, rate: float) -> None:
    def loss(scale: float) -> float:
        return size * math.cosh(rate * scale - 1) if abs(rate * scale) < 500 else math.inf

    slope = size * rate * math.sinh(-1.0)

    assert measured_slope(loss, loss(0.0), slope, 2**-52) < 1e-3
    assert measured_slope(loss, loss(0.0), 1.2 * slope, 2**-52) > MISMATCH
    assert measured_slope(loss, loss(0.0), -slope, 2**-52) > 1.0


def test_slope_at_a_loss_of_zero_is_confirmed() -> None:
    assert measured_slope(lambda scale: -scale, 0.0, -1.0, 2**-23) < 1e-6


def test_slope_of_a_constant_loss_is_not_confirmed() -> None:
    assert measured_slope(lambda scale: 1.0, 1.0, -1.0, 2**-23) == 1.0


def test_slope_where_the_loss_is_no_number_is_not_confirmed() -> None:
    assert measured_slope(lambda scale: math.nan, 1.0, -1.0, 2**-23) == math.inf
