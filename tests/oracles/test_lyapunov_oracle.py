"""The NumPy oracle of Lyapunov exponents, held against what is known with pencil and paper."""

from __future__ import annotations

import numpy as np
import pytest
from tests.oracles.lyapunov_numpy import mpmath_log_singular_values, numpy_spectrum


def test_oracle_of_a_net_at_rest_has_the_logs_of_the_eigenvalues():
    weight = 0.7 * np.random.default_rng(0).normal(size=(6, 6)) / np.sqrt(6)

    found = numpy_spectrum(weight, np.zeros(6), steps=6000, drop=500)

    expected = np.sort(np.log(np.abs(np.linalg.eigvals(weight))))[::-1]
    assert found == pytest.approx(expected, abs=2e-3)  # 1/5,500 steps, times an angle's log


def test_oracle_of_one_unit_is_the_mean_log_slope():
    weight, h, total = np.array([[1.7]]), 0.3, 0.0
    for _ in range(200):
        h = np.tanh(1.7 * h)
        total += np.log(1.7 * (1 - h * h))

    found = numpy_spectrum(weight, np.array([0.3]), steps=200, drop=0)

    assert found == pytest.approx([total / 200], abs=1e-12)


def test_product_in_many_digits_is_the_product_of_a_diagonal_net():
    weight = np.diag([0.9, 1e-3])

    logs, log_det = mpmath_log_singular_values(weight, np.zeros((200, 2)))

    assert logs == pytest.approx([200 * np.log(0.9), 200 * np.log(1e-3)], rel=1e-13)
    assert log_det == pytest.approx(logs.sum(), rel=1e-13)
