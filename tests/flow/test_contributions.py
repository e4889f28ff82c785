"""The terms of a weight's gradient, by whichever path they are summed."""

from __future__ import annotations

import pytest
import torch
from tests.flow.passes import swept_of
from torch import Tensor, nn

from gradreach.flow.contributions import contributions_of, kept_contributions
from gradreach.kernels.tape import LayerWeights

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def found_of(delta: Tensor, inputs: Tensor, previous: Tensor):
    rows = delta.shape[-1]
    weights = LayerWeights(
        torch.zeros(rows, inputs.shape[-1]), torch.zeros(rows, previous.shape[-1]),
        torch.zeros(rows), torch.zeros(rows), NAMES,
    )  # fmt: skip

    def steps(start, stop):
        return delta[start:stop]

    return contributions_of(weights, inputs, previous, steps, steps)


def terms_of(delta, values):
    """Form every matrix c_k."""
    return torch.einsum("tbg,tbi->tgi", delta, values)


def shares_of(terms):
    flat = terms.flatten(1)
    total = flat.sum(0)
    return flat @ total / (total @ total)


def drawn(steps=50, batch=3, rows=8, columns=40):
    draw = [torch.randn(steps, batch, size, dtype=torch.float64) for size in (rows, columns, rows)]
    return draw[0], draw[1], draw[2]


# With 40 columns and 8 rows: Gram matrices up to a batch of 6, the matrices themselves beyond.
@pytest.mark.parametrize("batch", [1, 3, 6, 7, 30])
def test_both_paths_give_the_norms_shares_and_sum_of_the_matrices(batch):
    delta, inputs, previous = drawn(batch=batch)

    found = found_of(delta, inputs, previous)

    for name, values in (("weight_ih", inputs), ("weight_hh", previous)):
        terms = terms_of(delta, values)
        torch.testing.assert_close(found[name].norms, terms.flatten(1).norm(dim=1))
        torch.testing.assert_close(found[name].shares, shares_of(terms))
        torch.testing.assert_close(found[name].total, terms.sum(0))
        assert abs(float(found[name].shares.sum()) - 1) < 1e-12
    for name in NAMES[2:]:
        torch.testing.assert_close(found[name].norms, delta.sum(1).norm(dim=1))


def test_cancelling_rows_keep_their_digits():
    delta, inputs, previous = drawn(steps=5, batch=2)
    delta[:, 1], inputs[:, 1] = -delta[:, 0], inputs[:, 0]
    inputs[:, 1] += 1e-9 * torch.randn(5, 40, dtype=torch.float64)  # all but 1e-9 cancels

    norms = found_of(delta, inputs, previous)["weight_ih"].norms

    expected = delta[:, 0].norm(dim=-1) * (inputs[:, 0] - inputs[:, 1]).norm(dim=-1)
    # Of the sixteen digits of each product nine cancel.
    torch.testing.assert_close(norms, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [1e-200, 1e-120, 1e150, 1e-300])
@pytest.mark.parametrize("batch", [2, 30])
def test_tiny_and_huge_gradients_have_norms_and_shares(size, batch):
    delta, inputs, previous = drawn(batch=batch)
    plain = found_of(delta, inputs, previous)

    scaled = found_of(delta * size, inputs, previous)

    for name in NAMES:
        torch.testing.assert_close(scaled[name].norms / size, plain[name].norms)
        torch.testing.assert_close(scaled[name].shares, plain[name].shares)


@pytest.mark.parametrize("batch", [2, 30])
def test_tiny_states_do_not_lose_the_norm(batch):
    # A float64 state that decays by a half a step is at 1e-170 after 565 steps.
    delta, inputs, previous = drawn(batch=batch)
    plain = found_of(delta, inputs, previous)["weight_ih"]

    scaled = found_of(delta, inputs * 1e-170, previous)["weight_ih"]

    torch.testing.assert_close(scaled.norms * 1e170, plain.norms)
    torch.testing.assert_close(scaled.shares, plain.shares)


def test_no_gradient_has_no_shares():
    delta, inputs, previous = drawn()

    found = found_of(torch.zeros_like(delta), inputs, previous)

    for name in NAMES:
        assert not found[name].norms.any()
        assert found[name].shares.isnan().all()


def test_nan_stays_in_the_norm_of_its_step():
    delta, inputs, previous = drawn(steps=5)
    delta[2, 0, 0] = torch.nan

    norms = found_of(delta, inputs, previous)["weight_ih"].norms

    assert norms.isnan().tolist() == [False, False, True, False, False]


def summed(result, place, plainly=False):
    """Sum up once more, by the path a measurement takes or by that of plain torch."""
    weights, sides = result.track.tapes(*place)[0].weights, result.sides[place]
    factors = (result.inputs(place), result.previous(place))
    blocks = (sides.input_blocks(), sides.state_blocks())
    native = None if plainly else kept_contributions(weights, *factors, *blocks)
    return native or contributions_of(weights, *factors, sides.of_input, sides.of_state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_kept_and_widened_gradients_sum_up_to_the_same(kind, dtype):
    rnn = kind(3, 20, 2).to(dtype)
    x = torch.randn(40, 5, 3, dtype=dtype)
    result = swept_of(rnn, lambda: rnn(x)[0].square().sum())

    for place in ((0, 0), (1, 0)):
        found, expected = summed(result, place), summed(result, place, plainly=True)

        for name, own in expected.items():
            torch.testing.assert_close(found[name].norms, own.norms, rtol=1e-11, atol=0)
            # In float32 the products with Σc are float32's: relative to ‖c_k‖/‖Σc‖ some ε.
            close = 2e-6 if dtype == torch.float32 else 1e-12
            bound = close * own.norms / own.total.double().norm()
            assert ((found[name].shares - own.shares).abs() <= bound + 1e-300).all()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_summing_up_changes_nothing_that_is_kept(kind):
    rnn = kind(3, 4, 2).double()
    x = torch.randn(40, 2, 3, dtype=torch.float64)
    result = swept_of(rnn, lambda: rnn(x)[0].square().sum())
    place = (1, 0)
    side = result.sides[place].input_side
    kept = [each.clone() for each in (side.values, result.inputs(place), result.previous(place))]

    for _ in range(2):
        again = summed(result, place)
        for name, first in result.contributions[place].items():
            assert torch.equal(again[name].norms, first.norms)
            assert torch.equal(again[name].shares, first.shares)

    left = (side.values, result.inputs(place), result.previous(place))
    assert all(torch.equal(a, b) for a, b in zip(left, kept, strict=True))
