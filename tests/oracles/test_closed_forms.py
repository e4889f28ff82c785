"""`gradreach.measure` where the answer is known with pencil and paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.claims import assert_close_to_curve, assert_geometric_decay, reach_of
from torch import Tensor, nn

import gradreach as gr

EXACT = 1e-12  # float64, some 40 products: a few 1e-15 of rounding at most


def rotation_like(size: int, seed: int = 0) -> Tensor:
    """An orthogonal matrix drawn from a fixed seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


def cyclic_shift(size: int) -> Tensor:
    """A permutation: orthogonal, and no entry is negative."""
    return torch.roll(torch.eye(size, dtype=torch.float64), 1, dims=0)


def set_weights(module: nn.Module, **values: Any) -> None:
    """Set the named parameters and zero the others."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            value = values.get(name.removesuffix("_l0"), 0.0)
            parameter.copy_(torch.as_tensor(value, dtype=parameter.dtype).expand_as(parameter))


def measured(
    rnn: nn.Module, inputs: Tensor, readout: Tensor | None = None, **options: Any
) -> gr.LayerFlow:
    """Measure `readout · (output of the last step)` of a model that is one layer."""
    model = nn.Module()
    model.rnn = rnn

    def closure() -> Tensor:
        last = model.rnn(inputs)[0][-1]
        return last.sum() if readout is None else (last * readout).sum()

    return gr.measure(model, closure, **options).layers["rnn"]


# --------------------------------------------------------------------------- one factor per step


@pytest.mark.parametrize("rho", [0.5, 0.9, 0.99, 1.0, 1.01, 1.5])
def test_tanh_at_rest_with_a_scaled_rotation_changes_by_rho_per_step(rho: float) -> None:
    rnn = nn.RNN(3, 6, dtype=torch.float64)
    set_weights(rnn, weight_hh=rho * rotation_like(6), weight_ih=torch.ones(6, 3))
    readout = torch.arange(1.0, 7.0, dtype=torch.float64)

    layer = measured(rnn, torch.zeros(40, 1, 3, dtype=torch.float64), readout)

    assert_geometric_decay(
        layer.state_gradient_norms, rho, last=float(readout.norm()), tolerance=EXACT
    )
    assert_geometric_decay(layer.lag_profile[::-1], rho, last=1.0, tolerance=EXACT)
    assert layer.decay_per_step == pytest.approx(rho, abs=1e-6)
    assert layer.reach(0.01) == reach_of(rho ** np.arange(40.0), 0.01)
    assert_geometric_decay(
        layer.contributions["bias_hh_l0"], rho, last=float(readout.norm()), tolerance=EXACT
    )


def test_contributions_that_are_all_zero_have_no_shares() -> None:
    rnn = nn.RNN(3, 6, dtype=torch.float64)
    set_weights(rnn, weight_hh=rotation_like(6), weight_ih=torch.ones(6, 3))

    layer = measured(rnn, torch.zeros(5, 1, 3, dtype=torch.float64))

    # Neither a state nor an input is ever anything but zero.
    assert not layer.contributions["weight_hh_l0"].any()
    assert not layer.contributions["weight_ih_l0"].any()
    assert np.isnan(layer.shares["weight_hh_l0"]).all()
    assert np.sum(layer.shares["bias_hh_l0"]) == pytest.approx(1.0, abs=EXACT)


@pytest.mark.parametrize("rho", [0.5, 0.99, 1.0, 1.05])
def test_relu_kept_positive_is_linear_and_changes_by_rho_per_step(rho: float) -> None:
    steps, size = 30, 5
    rnn = nn.RNN(1, size, nonlinearity="relu", dtype=torch.float64)
    w_hh = rho * cyclic_shift(size)
    set_weights(rnn, weight_hh=w_hh, weight_ih=1.0, bias_ih=0.25)
    inputs = torch.linspace(0.5, 1.5, steps, dtype=torch.float64).view(steps, 1, 1)

    layer = measured(rnn, inputs)

    root = math.sqrt(size)
    assert_geometric_decay(layer.state_gradient_norms, rho, last=root, tolerance=EXACT)
    assert layer.decay_per_step == pytest.approx(rho, abs=1e-6)
    # c_k = δ_k h_{k-1}ᵀ, a matrix of rank one; every unit has the same h, by symmetry.
    before = [0.0]
    for x in inputs.flatten().tolist():
        before.append(rho * before[-1] + x + 0.25)
    delta = root * rho ** np.arange(steps)[::-1]
    expected = delta * root * np.array(before[:-1])
    assert_close_to_curve(
        layer.contributions["weight_hh_l0"], expected, tolerance=EXACT, what="contributions"
    )
    # All terms point the same way: the share is the norm's part of the sum of norms.
    assert_close_to_curve(
        layer.shares["weight_hh_l0"], expected / expected.sum(), tolerance=EXACT, what="shares"
    )


def test_a_nilpotent_matrix_doubles_the_gradient_per_step_under_relu() -> None:
    """Spectral radius 0, and it explodes: the largest eigenvalue decides nothing."""
    steps = 21
    w_hh = torch.tensor([[2.0, 2.0], [-2.0, -2.0]], dtype=torch.float64)
    wanted = [torch.tensor([1.0, -1.0]), torch.tensor([-1.0, 1.0])]
    h, inputs = torch.zeros(2, dtype=torch.float64), []
    for t in range(steps):  # the input that makes the pre-activation what is wanted
        inputs.append(wanted[t % 2].double() - w_hh @ h)
        h = torch.relu(wanted[t % 2].double())
    rnn = nn.RNN(2, 2, nonlinearity="relu", bias=False, dtype=torch.float64)
    set_weights(rnn, weight_hh=w_hh, weight_ih=torch.eye(2))

    layer = measured(rnn, torch.stack(inputs)[:, None])

    assert torch.linalg.eigvals(w_hh).abs().max() < 1e-6
    # The last step has one active unit; from there √2·2^ℓ: theory's 5.66, 22.6, 1448, 1.48e6.
    back = np.array(layer.state_gradient_norms)[::-1]
    assert_close_to_curve(
        back[1:], math.sqrt(2) * 2.0 ** np.arange(1, steps), tolerance=EXACT, what="norms"
    )
    assert np.round(back[[2, 4, 10]], 1).tolist() == [5.7, 22.6, 1448.2]
    assert np.diff(np.log(layer.lag_profile[1:])) == pytest.approx(math.log(2), abs=EXACT)


def test_the_same_nilpotent_matrix_in_a_linear_net_forgets_after_two_steps() -> None:
    rnn = nn.RNN(2, 2, bias=False, dtype=torch.float64)
    set_weights(rnn, weight_hh=torch.tensor([[2.0, 2.0], [-2.0, -2.0]]))

    layer = measured(
        rnn,
        torch.zeros(8, 1, 2, dtype=torch.float64),
        torch.tensor([1.0, 0.0], dtype=torch.float64),
    )

    assert layer.state_gradient_norms[-2:] == pytest.approx([math.sqrt(8), 1.0], abs=EXACT)
    assert not layer.state_gradient_norms[:-2].any()
    assert layer.reach(0.01) == 2


# --------------------------------------------------------------------------- the scalar network


def test_the_smallest_network_has_the_terms_of_the_textbook_sum() -> None:
    """h_t = tanh(x_t·w_in + h_{t-1}·w_h): every term of ∂L/∂w written out in floats."""
    w_in, w_h, bits = 0.8, 0.6, [1.0, 0.0, 1.0, 1.0, 0.0]
    rnn = nn.RNN(1, 1, bias=False, dtype=torch.float64)
    set_weights(rnn, weight_ih=w_in, weight_hh=w_h)
    h = [0.0]
    for x in bits:
        h.append(math.tanh(x * w_in + h[-1] * w_h))
    delta = [1.0]
    for k in range(len(bits), 1, -1):
        delta.insert(0, delta[0] * (1 - h[k] ** 2) * w_h)

    layer = measured(rnn, torch.tensor(bits, dtype=torch.float64).view(-1, 1, 1))

    slopes = [d * (1 - h[k + 1] ** 2) for k, d in enumerate(delta)]
    terms = {
        "weight_hh_l0": np.array([s * h[k] for k, s in enumerate(slopes)]),
        "weight_ih_l0": np.array([s * x for s, x in zip(slopes, bits, strict=True)]),
    }
    assert_close_to_curve(layer.state_gradients("h")[:, 0, 0], delta, tolerance=EXACT, what="δ")
    for name, c in terms.items():
        assert_close_to_curve(layer.contributions[name], np.abs(c), tolerance=EXACT, what=name)
        assert_close_to_curve(layer.shares[name], c / c.sum(), tolerance=EXACT, what="shares")


# --------------------------------------------------------------------------- gates held still


def test_an_lstm_with_constant_gates_carries_its_cell_by_the_forget_gate() -> None:
    steps, size, forget, output = 25, 3, 0.9, 0.3
    rnn = nn.LSTM(1, size, dtype=torch.float64)
    gates = (0.2, math.log(9), 0.5, math.log(3 / 7))  # i, f, g, o: f = 0.9, o = 0.3
    bias = torch.tensor(gates, dtype=torch.float64).repeat_interleave(size)
    set_weights(rnn, bias_ih=bias)

    layer = measured(rnn, torch.zeros(steps, 1, 1, dtype=torch.float64))

    cell = 0.0
    for _ in range(steps):
        cell = forget * cell + math.tanh(0.5) / (1 + math.exp(-0.2))
    into_cell = output * (1 - math.tanh(cell) ** 2)
    expected = into_cell * forget ** np.arange(steps)[::-1]
    got = layer.state_gradients("c")[:, 0, :]
    for unit in range(size):
        assert_close_to_curve(got[:, unit], expected, tolerance=EXACT, what="∂L/∂c")
    # No weight reads h, so only the last one reaches the loss.
    assert not layer.state_gradients("h")[:-1].any()
    assert_close_to_curve(
        layer.state_gradient_norms[:-1],
        math.sqrt(size) * expected[:-1],
        tolerance=EXACT,
        what="norms",
    )


def test_a_gru_with_constant_gates_carries_its_state_by_the_keep_gate() -> None:
    steps, size, keep = 25, 4, 0.8
    rnn = nn.GRU(1, size, dtype=torch.float64)
    set_weights(rnn)
    with torch.no_grad():
        rnn.bias_ih_l0[size : 2 * size] = math.log(4.0)
        rnn.bias_ih_l0[2 * size :] = 0.7

    layer = measured(rnn, torch.zeros(steps, 1, 1, dtype=torch.float64))

    assert_geometric_decay(layer.state_gradient_norms, keep, last=math.sqrt(size), tolerance=EXACT)
    assert layer.decay_per_step == pytest.approx(keep, abs=1e-6)


# --------------------------------------------------------------------------- how far it reaches


def chrono_lstm(inputs: int, hidden: int, longest: int, seed: int) -> nn.LSTM:
    """Tallec & Ollivier (2018): forget biases log U(1, T - 1), input biases their negative."""
    torch.manual_seed(seed)
    rnn = nn.LSTM(inputs, hidden)
    with torch.no_grad():
        rnn.bias_ih_l0.zero_()
        rnn.bias_hh_l0.zero_()
        rnn.bias_ih_l0[hidden : 2 * hidden] = torch.empty(hidden).uniform_(1, longest - 1).log()
        rnn.bias_ih_l0[:hidden] = -rnn.bias_ih_l0[hidden : 2 * hidden]
    return rnn


def test_a_chrono_lstm_reaches_all_the_way_though_h_alone_looks_blind() -> None:
    rnn = chrono_lstm(2, 32, longest=200, seed=0)
    inputs = torch.randn(200, 4, 2)

    layer = measured(rnn, inputs)

    assert layer.reach(0.01) == 200
    h_alone = np.sqrt((layer.state_gradients("h") ** 2).sum(axis=2).mean(axis=1))
    assert h_alone[-2] < 0.05 * h_alone[-1]
    assert h_alone[0] > 0.05 * h_alone[-2]  # flat from there, for 198 steps


def test_a_default_lstm_does_not_reach_fifteen_steps() -> None:
    torch.manual_seed(0)
    rnn = nn.LSTM(2, 32)

    layer = measured(rnn, torch.randn(100, 4, 2))

    assert 2 <= layer.reach(0.01) < 15
    assert layer.decay_per_step < 0.8


def test_a_contracting_float32_net_keeps_all_three_hundred_state_gradients() -> None:
    rnn = nn.RNN(2, 8)
    rho = 0.55
    set_weights(rnn, weight_hh=rho * rotation_like(8), weight_ih=torch.ones(8, 2))

    layer = measured(rnn, torch.zeros(300, 2, 2))

    norms = layer.state_gradient_norms
    assert np.count_nonzero(norms) == 300
    assert norms[0] < np.finfo(np.float32).tiny  # float32 could not have said it
    # The product of the float32 matrix itself: its rounding is part of the net, not of the tool.
    w = rnn.weight_hh_l0.detach().double().numpy()
    vector, expected = np.ones(8), []
    for _ in range(300):
        expected.append(np.linalg.norm(vector))
        vector = w.T @ vector
    np.testing.assert_allclose(norms, expected[::-1], rtol=1e-10)


def test_a_contracting_float32_net_that_moves_keeps_its_tail_too() -> None:
    torch.manual_seed(1)
    rnn = nn.RNN(2, 8)
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(0.7 * rotation_like(8))

    norms = measured(rnn, torch.randn(300, 3, 2)).state_gradient_norms

    assert np.count_nonzero(norms) == 300
    assert norms[0] < np.finfo(np.float32).tiny
    assert np.all(np.isfinite(np.log(norms)))
