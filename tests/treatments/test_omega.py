"""Ω against autograd with states and errors held constant, and where its gradient is added."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gradreach.treatments import Omega, RunFacts, TreatmentError, treatment_from
from gradreach.treatments.omega import omega, regularize


def oracle(rnn: nn.RNN, x: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Ω of a one-layer RNN and loss = output.pow(2).sum(), by autograd alone, step by step."""
    phi = torch.tanh if rnn.nonlinearity == "tanh" else torch.relu
    weight = rnn.weight_hh_l0.detach().requires_grad_()
    states = [torch.zeros(x.shape[1], rnn.hidden_size, dtype=x.dtype, requires_grad=True)]
    for step in x:
        drive = step @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + rnn.bias_hh_l0
        states.append(phi(drive.detach() + states[-1] @ weight.T))
    loss = sum(h.square().sum() for h in states[1:])
    errors = torch.autograd.grad(loss, states[1:], retain_graph=True)
    terms = []
    for t, error in enumerate(errors):
        before = states[t].detach()
        drive = x[t] @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + rnn.bias_hh_l0
        slope = torch.autograd.functional.jacobian(
            lambda a: phi(a).sum(0), (drive + before @ rnn.weight_hh_l0.T).detach()
        )
        slope = torch.stack([slope[:, b].diagonal() for b in range(x.shape[1])])
        back = (error.detach() * slope.detach()) @ weight
        size = error.detach().square().sum(-1)
        terms.append((back.square().sum(-1) / size - 1).square())
    value = torch.stack(terms).mean()
    return value.item(), torch.autograd.grad(value, weight)[0]


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_regularised_gradient_is_the_plain_one_plus_that_of_omega(nonlinearity):
    rnn = nn.RNN(2, 5, nonlinearity=nonlinearity).double()
    x = torch.randn(6, 3, 2, dtype=torch.float64)
    plain = copy.deepcopy(rnn)
    regularize(rnn, 0.7)

    rnn(x)[0].square().sum().backward()
    plain(x)[0].square().sum().backward()

    value, gradient = oracle(plain, x)
    assert value > 0
    difference = rnn.weight_hh_l0.grad - plain.weight_hh_l0.grad
    torch.testing.assert_close(difference, 0.7 * gradient, rtol=1e-9, atol=1e-12)
    for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
        assert torch.equal(getattr(rnn, name).grad, getattr(plain, name).grad)


def test_omega_of_a_norm_keeping_recurrence_is_zero_and_so_is_its_gradient():
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]

    value, gradient = omega(torch.randn(5, 2, 4), torch.ones(5, 2, 4), turn)

    assert value < 1e-12
    assert gradient.abs().max() < 1e-6


def test_omega_leaves_out_steps_that_no_error_reaches():
    errors = torch.randn(4, 2, 3)
    errors[:2] = 0
    slopes, weight = torch.rand(4, 2, 3), torch.randn(3, 3)

    value, gradient = omega(errors, slopes, weight)

    other, others = omega(errors[2:], slopes[2:], weight)
    torch.testing.assert_close(value, other)
    torch.testing.assert_close(gradient, others)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}])
@pytest.mark.parametrize("batch_first", [False, True])
def test_regularised_layer_computes_the_same_states(options, batch_first):
    rnn = nn.RNN(2, 4, batch_first=batch_first, **options)
    x = torch.randn(3, 6, 2)
    output, last = rnn(x)
    regularize(rnn, 1.0)

    own_output, own_last = rnn(x)

    torch.testing.assert_close(own_output, output)
    torch.testing.assert_close(own_last, last)


def test_upper_layer_s_omega_does_not_reach_the_lower_one_s_weights():
    torch.manual_seed(1)
    rnn = nn.RNN(2, 4, num_layers=2).double()
    x = torch.randn(5, 3, 2, dtype=torch.float64)
    upper = nn.RNN(4, 4).double()
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(upper, f"{name}_l0").data.copy_(getattr(rnn, f"{name}_l1").data)
    plain = copy.deepcopy(rnn)
    lower = nn.RNN(2, 4).double()
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(lower, f"{name}_l0").data.copy_(getattr(rnn, f"{name}_l0").data)
    regularize(rnn, 1.0)

    rnn(x)[0].square().sum().backward()
    plain(x)[0].square().sum().backward()

    _, gradient = oracle(upper, lower(x)[0].detach())
    difference = rnn.weight_hh_l1.grad - plain.weight_hh_l1.grad
    torch.testing.assert_close(difference, gradient, rtol=1e-8, atol=1e-12)


def test_omega_is_multiplied_by_a_scaler_s_factor():
    rnn = nn.RNN(2, 3)
    x = torch.randn(5, 2, 2)
    regularize(rnn, 1.0)
    rnn(x)[0].square().sum().backward()
    expected = rnn.weight_hh_l0.grad.clone()
    rnn.zero_grad()

    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    scaler.scale(rnn(x)[0].square().sum()).backward()

    torch.testing.assert_close(rnn.weight_hh_l0.grad, 64.0 * expected)


def test_packed_sequences_are_refused():
    rnn = nn.RNN(2, 3)
    regularize(rnn, 1.0)
    packed = nn.utils.rnn.pack_sequence([torch.randn(3, 2), torch.randn(2, 2)])

    with pytest.raises(TreatmentError, match="pass a padded tensor"):
        rnn(packed)


def test_omega_conflicts_with_what_makes_the_layer_another():
    for label in ("gating(GRU)", "truncation(steps=5)", "activation(leaky_relu)"):
        with pytest.raises(TreatmentError, match="conflict"):
            treatment_from(f"regularization(omega=2.0) + {label}")
    assert treatment_from("regularization(omega=2.0) + activation(relu)").refuses(RunFacts())


def test_omega_without_weight_is_refused():
    with pytest.raises(TreatmentError, match="'omega' must be a finite number above 0"):
        Omega(0.0)
