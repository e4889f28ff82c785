"""Long products keep their small singular values: against 300 digits, and where they are zero."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from gradreach.kernels.graded_product import GradedProduct, orthonormal_start
from gradreach.kernels.graded_svd import graded_singular_values


def log_singular_values(factors: list[Tensor]) -> np.ndarray:
    size = factors[0].shape[-1]
    product = GradedProduct.begin(orthonormal_start(1, size, size, seed=0), mixing=True)
    for factor in factors:
        product.advance(factor @ product.basis, factor.norm(dim=-1)[None], torch.tensor([True]))
    return graded_singular_values(product.logs[0], product.mixing[0]).numpy()


def in_many_digits(factors: list[Tensor], digits: int = 400) -> np.ndarray:
    with mpmath.workdps(digits):
        product = mpmath.eye(factors[0].shape[-1])
        for factor in factors:
            product = mpmath.matrix(factor.tolist()) * product
        values = mpmath.svd_r(product, compute_uv=False)
        return np.array(sorted((float(mpmath.log(v)) for v in values), reverse=True))


def random_factors(count: int, size: int, scale: float = 1.0) -> list[Tensor]:
    return [scale * torch.randn(size, size, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize(("count", "scale"), [(1, 1.0), (3, 1.0), (30, 1.0), (300, 0.2)])
def test_singular_values_of_a_long_product_are_those_of_many_digits(count, scale):
    factors = random_factors(count, 5, scale)

    found = log_singular_values(factors)

    # Each factor is known to 1e-16 of its size; a few hundred of them, some ill conditioned.
    assert found == pytest.approx(in_many_digits(factors), rel=0, abs=1e-10)


def test_a_product_of_moderate_range_has_the_singular_values_of_its_matrix():
    factors = [factor / 5 for factor in random_factors(4, 30)]

    found = log_singular_values(factors)

    whole = factors[3] @ factors[2] @ factors[1] @ factors[0]
    expected = torch.linalg.svdvals(whole)
    inside = expected > 1e-5 * expected[0]  # what plain float64 itself still knows to 1e-10
    assert found[inside.numpy()] == pytest.approx(expected[inside].log().numpy(), abs=1e-9)


def test_close_singular_values_are_found_together():
    rotation = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))[0]

    found = log_singular_values([0.9 * rotation] * 400)

    assert found == pytest.approx(np.full(20, 400 * np.log(0.9)), abs=1e-11)


def test_dead_units_leave_exactly_as_many_directions_as_the_product_has_rank():
    weight = torch.randn(12, 12, dtype=torch.float64) * 0.4
    alive = [(torch.rand(12, 1) > 0.3).double() for _ in range(8)]
    factors = [mask * weight for mask in alive]

    found = log_singular_values(factors)

    expected = in_many_digits(factors)
    rank = int((expected > -200).sum())  # 400 digits leave their own zeros near 1e-400
    assert np.isfinite(found).sum() == rank
    assert found[:rank] == pytest.approx(expected[:rank], abs=1e-10)
    assert (found[rank:] == -np.inf).all()


def test_a_direction_that_dies_late_does_not_take_the_others_with_it():
    growing = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    killing = torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64))

    found = log_singular_values([growing] * 20 + [killing])

    assert found[0] == pytest.approx(0.0, abs=1e-5)  # 3^20 of the other's rounding
    assert found[1] == -np.inf


def test_a_nilpotent_matrix_is_nothing_after_two_steps():
    nilpotent = torch.tensor([[2.0, 2.0], [-2.0, -2.0]], dtype=torch.float64)

    assert log_singular_values([nilpotent])[0] == pytest.approx(np.log(4.0), abs=1e-12)
    assert (log_singular_values([nilpotent] * 2) == -np.inf).all()


def test_sequences_of_a_batch_that_have_ended_stay_as_they_are():
    factors = torch.randn(4, 2, 3, 3, dtype=torch.float64)  # (T, n, S, S)
    product = GradedProduct.begin(orthonormal_start(2, 3, 3, seed=0), mixing=True)
    for step, factor in enumerate(factors):
        active = torch.tensor([True, step < 2])
        product.advance(factor @ product.basis, factor.norm(dim=-1), active)

    found = [graded_singular_values(product.logs[b], product.mixing[b]).numpy() for b in (0, 1)]

    assert found[0] == pytest.approx(in_many_digits([f[0] for f in factors]), abs=1e-10)
    assert found[1] == pytest.approx(in_many_digits([f[1] for f in factors[:2]]), abs=1e-10)


def test_nothing_alive_is_nothing():
    logs = torch.full((3,), -torch.inf, dtype=torch.float64)

    found = graded_singular_values(logs, torch.eye(3, dtype=torch.float64))

    assert bool((found == -torch.inf).all())
