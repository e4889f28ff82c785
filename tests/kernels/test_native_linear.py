"""Pre-activations from the compiled core are those of float64, on every instruction set."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.native_calls import isas

from gradreach.kernels.equations.cell import pre_activation
from gradreach.kernels.native.core import load
from gradreach.kernels.native.linear import linear_sum

pytestmark = pytest.mark.skipif(load() is None, reason="the native core is not built")

# Roundings of a sum of up to 300 products, of the sum of their magnitudes.
CLOSE = {torch.float32: 300 * 6e-8, torch.float64: 300 * 1.2e-16}


@pytest.fixture(params=isas())
def isa(request):
    before = load().isa()
    assert load().use_isa(request.param)
    yield request.param
    load().use_isa(before)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def drawn(rows, depth, columns, dtype, biased):
    bias = torch.randn(columns, dtype=dtype) if biased else None
    return torch.randn(*rows, depth, dtype=dtype), torch.randn(columns, depth, dtype=dtype), bias


def assert_sum(found, addends):
    expected, size = 0.0, 0.0
    for values, weight, bias in addends:
        parts = values.double(), weight.double().T, 0.0 if bias is None else bias.double()
        expected = expected + parts[0] @ parts[1] + parts[2]
        size = size + parts[0].abs() @ parts[1].abs() + abs(parts[2])
    assert found.dtype == addends[0][0].dtype
    assert ((found - expected).abs() <= CLOSE[found.dtype] * size).all()


@given(
    sizes=st.tuples(*(st.integers(1, n) for n in (12, 9, 150, 150, 90))),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    biased=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_sum_of_products_is_that_of_float64(sizes, dtype, biased, seed):
    torch.manual_seed(seed)
    steps, batch, inputs, hidden, columns = sizes
    of_input = drawn((steps, batch), inputs, columns, dtype, biased[0])
    of_state = drawn((steps, batch), hidden, columns, dtype, biased[1])

    assert_sum(linear_sum([of_input]), [of_input])
    assert_sum(linear_sum([of_input, of_state]), [of_input, of_state])


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("rows", [(1, 1), (3, 130), (200, 3)])
def test_many_rows_on_threads_and_every_instruction_set(rows, dtype, isa, threads):
    addends = [drawn(rows, 17, 203, dtype, True), drawn(rows, 128, 203, dtype, True)]

    assert_sum(linear_sum(addends), addends)


def test_nan_and_infinity_stay_in_their_rows():
    values, weight, bias = drawn((5, 4), 6, 7, torch.float32, True)
    values[2, 1, 3], values[4, 0, 0] = torch.nan, torch.inf

    found = linear_sum([(values, weight, bias)])

    assert found[2, 1].isnan().all() and not found[4, 0].isfinite().any()
    found[2, 1] = found[4, 0] = 0.0
    assert found.isfinite().all()


@pytest.mark.parametrize("spoil", ["strides", "dtype", "empty", "graph", "three"])
def test_what_the_core_does_not_take_is_left_to_torch(spoil):
    values, weight, bias = drawn((5, 4), 6, 7, torch.float32, True)
    addends = [(values, weight, bias)]
    if spoil == "strides":
        addends = [(values.transpose(0, 1), weight, bias)]
    elif spoil == "dtype":
        addends = [(values, weight.double(), None)]
    elif spoil == "empty":
        addends = [(values[:0], weight, bias)]
    elif spoil == "graph":
        addends = [(values, weight.requires_grad_(), bias)]
    else:
        addends *= 3

    assert linear_sum(addends) is None
    if spoil != "dtype":
        found = pre_activation(*addends)
        assert not found.requires_grad
        assert_sum(found, [tuple(x.detach() for x in addend) for addend in addends])
