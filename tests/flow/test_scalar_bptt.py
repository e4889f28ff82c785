"""Every number of the one-neuron network, held to float64 autograd and to exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from gradreach.flow.scalar_bptt import LEAKY_SLOPE, ScalarWeights, bptt, terms, unroll

# A term is a product of at most 1,000 steps with two roundings each of 2⁻⁵³ = 1.1e-16, here and
# in autograd: 4 × 1000 × 1.1e-16 < 1e-12. tanh is rounded differently by the two libraries, which
# a saturated slope 1 - h² magnifies; `tanh_error` bounds that and keeps it within half of this.
RELATIVE = 1e-12
SMALLEST = 1e-290  # below, autograd's own float64 loses digits on the way to 1e-308

ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": lambda a: torch.nn.functional.leaky_relu(a, LEAKY_SLOPE),
}


class Autograd:
    """The same network with a leaf of its own for every use of every weight."""

    def __init__(self, weights, inputs, target, activation="tanh", loss="bce"):
        T = len(inputs)

        def leaf(value, size):
            return torch.full((size,), value, dtype=torch.float64, requires_grad=True)

        w_in, w_h, b = leaf(weights.w_in, T), leaf(weights.w_h, T), leaf(weights.b, T)
        w_out = leaf(weights.w_out, 1)
        states = [torch.zeros((), dtype=torch.float64, requires_grad=True)]
        for t in range(T):
            a = inputs[t] * w_in[t] + states[-1] * w_h[t] + b[t]
            states.append(ACTIVATIONS[activation](a))
            states[-1].retain_grad()
        logit = states[-1] * w_out[0]
        if loss == "bce":
            # Not binary_cross_entropy_with_logits: its gradient ŷ - target cancels near the target.
            value = -torch.nn.functional.logsigmoid(logit if target else -logit)
        else:
            value = (torch.sigmoid(logit) - target) ** 2
        value.backward()
        self.loss = value.item()
        self.terms = {"w_in": w_in.grad.numpy(), "w_h": w_h.grad.numpy(), "b": b.grad.numpy()}
        self.w_out = w_out.grad.item()
        self.states = np.array([h.item() for h in states])
        self.state_gradients = np.array([h.grad.item() for h in states])


def tanh_error(run):
    """Relative error of the product of slopes when every tanh is off by one last place."""
    if run.activation != "tanh":
        return 0.0
    slopes = np.array(run.slopes)
    if np.any(slopes == 0):
        return math.inf
    return float(np.sum(2 * 2.0**-53 * (1 - slopes) / slopes)) * 2


def assert_close(got, expected):
    got, expected = np.asarray(got), np.asarray(expected)
    kept = np.abs(expected) > SMALLEST
    assert_allclose(got[kept], expected[kept], rtol=RELATIVE, atol=0)
    assert np.all(np.abs(got[~kept]) <= SMALLEST * (1 + RELATIVE))


weight = st.floats(-2, 2).map(lambda value: round(value, 3))
scalar_weights = st.builds(ScalarWeights, w_in=weight, w_h=weight, w_out=weight, b=weight)
bits = st.lists(st.integers(0, 1), min_size=1, max_size=40)


@settings(max_examples=150)
@given(
    weights=scalar_weights,
    inputs=bits,
    target=st.integers(0, 1),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    loss=st.sampled_from(["bce", "squared_error"]),
)
def test_every_term_equals_autograd(weights, inputs, target, activation, loss):
    run = unroll(weights, inputs, target, activation=activation, loss=loss)
    assume(tanh_error(run) < RELATIVE / 2)
    if loss == "squared_error":  # ŷ(1 - ŷ) magnifies the rounding of ŷ alike
        assume(min(run.prediction, 1 - run.prediction) > 1e-3)
    reference = Autograd(weights, inputs, target, activation, loss)

    parts = {name: terms(run, name) for name in reference.terms}
    gradients = bptt(run)

    assert run.loss_value == pytest.approx(reference.loss, rel=RELATIVE, abs=0)
    assert_close(run.states, reference.states)
    assert_close(gradients.state_gradients, reference.state_gradients)
    assert_close(gradients.w_out, reference.w_out)
    for name, expected in reference.terms.items():
        assert_close(parts[name].values.values, expected)
        # A sum of either sign may cancel: it is as exact as its largest terms.
        allowed = RELATIVE * float(np.abs(expected).sum())
        total = math.fsum(expected)
        assert float(parts[name].total.values) == pytest.approx(total, rel=0, abs=allowed)
        assert getattr(gradients, name) == pytest.approx(total, rel=0, abs=allowed)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("w_h", [0.5, -0.5, 1.0, 1.5])
def test_thousand_steps_equal_autograd(activation, w_h):
    weights = ScalarWeights(0.25, w_h, -1.0)
    inputs = (1,) + (0,) * 998 + (1,)
    run = unroll(weights, inputs, 1, activation=activation)
    reference = Autograd(weights, inputs, 1, activation)

    for name, expected in reference.terms.items():
        kept = np.abs(expected) > SMALLEST
        got = terms(run, name).values
        assert_allclose(got.values[kept], expected[kept], rtol=RELATIVE, atol=0)
        assert np.all(got.log10[~kept] <= math.log10(SMALLEST) + 1e-9)


def test_product_below_float64_keeps_its_size_and_sign():
    run = unroll(ScalarWeights(1, -0.3, 1), (1,) * 1000, 1, activation="relu")

    product = terms(run, "w_in").products

    assert product.values[0] == 0.0
    assert product.signs[0] == -1  # (-0.3)^999
    assert product.log10[0] == pytest.approx(999 * math.log10(0.3), rel=RELATIVE)


@pytest.mark.parametrize("w_h", [0.3, 0.5, 1.0, 1.5, 3.0])
def test_product_of_active_relu_steps_is_exactly_w_h_to_the_power(w_h):
    T = 1000
    run = unroll(ScalarWeights(1, w_h, 1), (1,) * T, 0, activation="relu")

    product = terms(run, "w_in").products

    got = Fraction(float(product.mantissas[0])) * Fraction(2) ** int(product.exponents[0])
    assert abs(got / Fraction(w_h) ** (T - 1) - 1) <= (T - 1) * Fraction(2) ** -53
    assert product.values[-1] == 1.0


@pytest.mark.parametrize("w_h", [0.5, 1.0, 1.5])
def test_dead_relu_step_passes_nothing_on(w_h):
    run = unroll(ScalarWeights(-1, w_h, 1), (0, 1, 0, 0), 1, activation="relu")

    assert run.factors == (0.0, 0.0, 0.0, 0.0)
    assert run.factor_geometric_mean == 0.0
    assert terms(run, "w_h").products.log10[0] == -math.inf


@settings(max_examples=100)
@given(weights=scalar_weights, inputs=bits, activation=st.sampled_from(sorted(ACTIVATIONS)))
def test_shares_are_the_exact_quotients_and_sum_to_one(weights, inputs, activation):
    parts = terms(unroll(weights, inputs, 1, activation=activation), "w_in")
    exact = [Fraction(float(value)) for value in parts.values.values]
    total = sum(exact)
    assume(total != 0)

    expected = [value / total for value in exact]

    assert sum(expected) == 1
    assert parts.reason is None
    # One rounding of the sum, one of each quotient; a share may be large where terms cancel.
    for got, share in zip(parts.shares, expected, strict=True):
        assert abs(Fraction(float(got)) - share) <= abs(share) * Fraction(2) ** -51
    assert abs(math.fsum(parts.shares) - 1) <= 2.0**-51 * float(np.abs(parts.shares).sum())


NO_SHARES = [
    # weights, inputs, target, activation, loss, parameter, reason
    (ScalarWeights(-1, 1, 1), (1, 1), 1, "relu", "bce", "w_in", "every term is exactly 0"),
    (ScalarWeights(1, 1, 1), (0, 0), 1, "tanh", "bce", "w_in", "every term is exactly 0"),
    # δ_2 = 1, δ_1 = -1, x = 1, 1: the two terms are each other's negative.
    (ScalarWeights(2, -1, 1, 1), (1, 1), 0, "leaky_relu", "bce", "b", "cancel to exactly 0"),
    (ScalarWeights(1, 2, -1), (1,) * 99, 1, "relu", "squared_error", "w_h", "exactly 0 or 1"),
    (ScalarWeights(1, 2, 1), (1,) * 99, 1, "relu", "bce", "w_h", "right to the last digit"),
    (ScalarWeights(1, 3, 1), (1,) * 999, 0, "relu", "bce", "w_h", "range of float64"),
]


@pytest.mark.parametrize(("weights", "inputs", "target", "phi", "loss", "name", "why"), NO_SHARES)
def test_shares_of_no_sum_are_nan_with_a_reason(weights, inputs, target, phi, loss, name, why):
    parts = terms(unroll(weights, inputs, target, activation=phi, loss=loss), name)

    assert np.isnan(parts.shares).all()
    assert why in (parts.reason or "")


def test_first_step_of_w_h_acts_on_the_empty_state():
    run = unroll(ScalarWeights(0.5, 0.5, 1), (1, 0, 1), 1)

    assert terms(run, "w_h").values.values[0] == 0.0
    assert terms(run, "w_in").values.values[0] != 0.0


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_slope_at_zero_is_autograds(activation):
    at_zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    ACTIVATIONS[activation](at_zero).backward()

    run = unroll(ScalarWeights(1, 1, 1), (0,), 1, activation=activation)

    assert run.slopes == (at_zero.grad.item(),)


def test_recurrent_weight_above_one_vanishes_in_saturation():
    run = unroll(ScalarWeights(1, 3, -1), (1,) * 20, 1)

    assert run.weights.w_h > 1
    assert run.factor_geometric_mean < 0.1
    assert terms(run, "w_in").products.log10[0] == pytest.approx(
        19 * math.log10(run.factor_geometric_mean), rel=RELATIVE
    )


def test_one_step_has_no_factor_to_average():
    assert math.isnan(unroll(ScalarWeights(1, 1, 1), (1,), 1).factor_geometric_mean)


def test_exploded_state_leaves_squared_error_without_gradient():
    weights, inputs = ScalarWeights(0.5, 1.5, -1), (1,) + (0,) * 99

    runs = {
        loss: unroll(weights, inputs, 1, activation="relu", loss=loss)
        for loss in ("bce", "squared_error")
    }

    assert runs["squared_error"].loss_value == 1.0  # as wrong as it can be …
    assert bptt(runs["squared_error"]).w_h == 0.0  # … and nothing to learn from
    assert runs["squared_error"].outcome == "saturated"
    assert runs["bce"].outcome == "finite"
    assert bptt(runs["bce"]).w_h > 1e18
    for loss, run in runs.items():
        reference = Autograd(weights, inputs, 1, "relu", loss)
        assert_close(bptt(run).w_h, reference.terms["w_h"].sum())


@pytest.mark.parametrize(
    ("weights", "steps", "target", "outcome"),
    [
        (ScalarWeights(1, 1, 1), 3, 0, "finite"),
        (ScalarWeights(1, 2, 1), 99, 1, "fitted"),
        (ScalarWeights(1, 3, 1), 999, 0, "overflow"),
    ],
)
def test_outcome_names_what_became_of_the_gradient(weights, steps, target, outcome):
    run = unroll(weights, (1,) * steps, target, activation="relu")

    assert run.outcome == outcome


def test_overflowed_state_still_has_its_product():
    run = unroll(ScalarWeights(1, 3, 1), (1,) * 1000, 0, activation="relu")

    assert math.isinf(run.states[-1])
    assert terms(run, "w_in").products.log10[0] == pytest.approx(999 * math.log10(3), rel=RELATIVE)


@pytest.mark.parametrize(
    ("logit_side", "decision"), [(1.0, 1), (-1.0, 0), (0.0, None)], ids=["above", "below", "on"]
)
def test_half_decides_nothing(logit_side, decision):
    assert unroll(ScalarWeights(1, 1, logit_side), (1,), 1).decision == decision


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", None, True])
@pytest.mark.parametrize("name", ["w_in", "w_h", "w_out", "b"])
def test_weight_that_is_no_finite_number_is_refused(name, value):
    weights = {"w_in": 1.0, "w_h": 1.0, "w_out": 1.0} | {name: value}

    with pytest.raises(ValueError, match=rf"ScalarWeights\(\): argument '{name}' .* finite .*got"):
        ScalarWeights(**weights)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": ()}, r"unroll\(\): argument 'inputs' must hold at least one step.*T = 0.*pass"),
        ({"inputs": (1, 2)}, r"unroll\(\): argument 'inputs' .*0 or 1; got 2 at step 2: encode"),
        ({"inputs": (1, math.nan)}, r"argument 'inputs' .*got nan at step 2"),
        ({"target": 0.5}, r"unroll\(\): argument 'target' .*0 or 1; got 0.5: encode"),
        (
            {"activation": "gelu"},
            r"unroll\(\): argument 'activation' .*leaky_relu; got 'gelu': use",
        ),
        (
            {"loss": "mse"},
            r"unroll\(\): argument 'loss' .*bce, squared_error; got 'mse': use 'bce'",
        ),
    ],
)
def test_wrong_argument_of_unroll_is_named(arguments, message):
    valid = {"inputs": (1, 0, 1), "target": 1, "activation": "tanh", "loss": "bce"}

    with pytest.raises(ValueError, match=message):
        unroll(ScalarWeights(1, 1, 1), **(valid | arguments))


def test_wrong_parameter_of_terms_is_named():
    run = unroll(ScalarWeights(1, 1, 1), (1,), 1)

    with pytest.raises(ValueError, match=r"terms\(\): argument 'parameter' .*w_h, b; got 'w_out'"):
        terms(run, "w_out")
