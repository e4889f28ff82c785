"""Gradients kept in half the memory keep their small vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradreach.flow.scaled import Scaled

HALF_ULP = 2.0**-24  # of float32: 6e-8


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1.0, 1e300])
def test_float32_keeps_each_vector_to_its_last_digit(size):
    part = torch.randn(6, 2, 8, dtype=torch.float64) * size
    kept = Scaled.empty(6, 2, 8, torch.zeros(1))

    kept.write(0, 4, part[:4])
    kept.write(4, 6, part[4:])

    peak = part.abs().amax(-1, keepdim=True)
    assert ((kept.read(0, 6) - part).abs() <= HALF_ULP * 1.01 * peak).all()
    assert kept.values.dtype == torch.float32
    exists = torch.ones(6, 2, dtype=torch.bool)
    np.testing.assert_array_equal(kept.record(6, exists).array(), kept.read(0, 6))


def test_float64_is_kept_as_it_is():
    part = torch.randn(3, 2, 4, dtype=torch.float64) * 1e-300
    kept = Scaled.empty(3, 2, 4, torch.zeros(1, dtype=torch.float64))

    kept.write(0, 3, part)

    assert kept.scales is None
    assert torch.equal(kept.read(0, 3), part)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_nan_and_infinity_survive(dtype):
    part = torch.tensor([[[0.0, 0.0], [torch.nan, 1.0], [torch.inf, 1.0]]], dtype=torch.float64)
    kept = Scaled.empty(2, 3, 2, torch.zeros(1, dtype=dtype))

    kept.write(0, 1, part)

    np.testing.assert_array_equal(kept.read(0, 1), part)
    assert not kept.read(1, 2).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_record_has_nan_beyond_a_rows_end_and_joins_in_time(dtype):
    parts = [torch.randn(2, 2, 3, dtype=torch.float64) for _ in range(2)]
    pieces = [Scaled.empty(2, 2, 3, torch.zeros(1, dtype=dtype)) for _ in parts]
    for piece, part in zip(pieces, parts, strict=True):
        piece.write(0, 2, part)
    exists = torch.tensor([[True, True], [True, True], [True, False], [True, False]])

    record = pieces[0].joined(pieces[1:], torch.cat).record(3, exists).array()

    assert record.shape == (3, 2, 3)
    np.testing.assert_array_equal(np.isnan(record).all(-1), ~exists[:3].numpy())
    tolerance = 0 if dtype == torch.float64 else HALF_ULP * 10
    np.testing.assert_allclose(record[2, 0], parts[1][0, 0], rtol=tolerance, atol=tolerance)
