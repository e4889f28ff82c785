"""Norms and sums of float32 terms from the compiled core are those of the matrices in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradreach.kernels.native.core import load
from gradreach.kernels.native.products import FORMED, Part, add_products, pair_norms
from gradreach.kernels.native.terms import Block

pytestmark = pytest.mark.skipif(load() is None, reason="the native core is not built")

SHAPES = st.tuples(*(st.integers(1, n) for n in (30, 9, 70, 60)))  # T, B, W, I
# A float32 product of B rows and the sum of 384 of them: each some roundings of what is summed.
ROUNDINGS = 40 * 6e-8


def drawn(shape, power=0):
    steps, batch, width, columns = shape
    delta, values = torch.randn(steps, batch, width), torch.randn(steps, batch, columns)
    scales = torch.rand(steps, batch, dtype=torch.float64) + 0.1
    return delta, values, scales * 10.0**power


def matrices_of(delta, values, scales, power=0):
    """Form every term at the size 1."""
    return torch.einsum("tbg,tbi,tb->tgi", delta.double(), values.double(), scales * 10.0**-power)


@given(shape=SHAPES, power=st.sampled_from([0, -30, -280, 140]), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_norms_of_pairs_are_those_of_the_matrices(shape, power, seed):
    torch.manual_seed(seed)
    delta, values, scales = drawn(shape, power)
    other = torch.randn(*shape[:2], 5)

    norms, sums = pair_norms([Part(Block(delta, scales), (True, True))], (values, other))

    for found, factor in zip(norms, (values, other), strict=True):
        expected = torch.linalg.matrix_norm(matrices_of(delta, factor, scales, power))
        kept = found != FORMED
        # What is left of 16 digits where up to three of them cancel.
        torch.testing.assert_close(
            (found * 10.0**-power)[kept], expected[kept], rtol=1e-12 * 1e3, atol=0
        )
    expected = torch.einsum("tbg,tb->tg", delta.double(), scales * 10.0**-power)
    torch.testing.assert_close(sums[0] * 10.0**-power, expected, rtol=1e-11, atol=1e-12)


def test_parts_are_seen_by_the_weights_they_are_of():
    shared, first, second = (torch.randn(6, 5, size) for size in (20, 7, 7))
    scales = [torch.rand(6, 5, dtype=torch.float64) + 0.1 for _ in range(3)]
    parts = [
        Part(Block(shared, scales[0]), (True, True)),
        Part(Block(first, scales[1]), (True, False)),
        Part(Block(second, scales[2]), (False, True)),
    ]
    factors = (torch.randn(6, 5, 3), torch.randn(6, 5, 9))

    norms, _ = pair_norms(parts, factors)

    for found, factor, (own, scale) in zip(
        norms, factors, ((first, scales[1]), (second, scales[2])), strict=True
    ):
        both = [matrices_of(shared, factor, scales[0]), matrices_of(own, factor, scale)]
        expected = torch.linalg.matrix_norm(torch.cat(both, 1))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_rows_that_cancel_and_what_is_no_number_are_left_to_the_matrix():
    delta, values, scales = drawn((3, 2, 8, 9))
    scales[:] = 1.0
    delta[0, 1], values[0, 1] = -delta[0, 0], values[0, 0] * (1 + 1e-5)
    delta[1, 0, 0] = torch.nan

    norms, _ = pair_norms([Part(Block(delta, scales), (True, True))], (values, values))

    assert (norms[0] == FORMED).tolist() == [True, True, False]


@given(shape=SHAPES, power=st.sampled_from([0, -30, -280, 140]), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_products_add_up_to_the_matrices(shape, power, seed):
    torch.manual_seed(seed)
    delta, values, scales = drawn(shape, power)
    direction = torch.randn(shape[2], shape[3])
    total = torch.zeros(shape[2], shape[3], dtype=torch.float64)
    along = torch.zeros(shape[0], dtype=torch.float64)

    assert add_products(Block(delta, scales), values, direction, total, along)

    unit, matrices = 10.0**-power, matrices_of(delta, values, scales, power)
    size = torch.einsum("tbg,tbi,tb->gi", delta.abs().double(), values.abs().double(),
                        scales * unit)  # fmt: skip
    assert ((total * unit - matrices.sum(0)).abs() <= ROUNDINGS * size).all()
    expected = (matrices * direction).sum((1, 2))
    bound = ROUNDINGS * (matrices.abs() * direction.abs()).sum((1, 2)) + 1e-6 * size.max()
    assert ((along * unit - expected).abs() <= bound).all()


@pytest.mark.parametrize("size", [1e-37, 1e-12, 1e30])
def test_products_of_tiny_and_huge_values_keep_their_digits(size):
    delta, values, scales = drawn((40, 3, 20, 30))
    total = torch.zeros(20, 30, dtype=torch.float64)
    along = torch.zeros(40, dtype=torch.float64)

    assert add_products(Block(delta, scales), values * size, None, total, along)

    expected = matrices_of(delta, values * size, scales).sum(0)
    assert (total - expected).norm() <= ROUNDINGS * expected.norm()


@pytest.mark.parametrize("shape", [(60, 24, 200, 130), (400, 30, 130, 2)], ids=str)
def test_threads_do_not_change_norms_and_sums(shape, monkeypatch):
    delta, values, scales = drawn(shape)
    block, direction = Block(delta, scales), torch.randn(shape[2], shape[3])
    found = []

    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        total = torch.zeros(shape[2], shape[3], dtype=torch.float64)
        along = torch.zeros(shape[0], dtype=torch.float64)
        norms, _ = pair_norms([Part(block, (True, True))], (values, values))
        assert add_products(block, values, direction, total, along)
        found.append((norms[0], norms[1], total, along))

    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5 * float(one.abs().max()))
