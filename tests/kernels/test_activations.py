"""The activations: torch's functions, their derivatives, and what is refused."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.nn.functional as F

from gradreach.kernels.activations import ACTIVATION_NAMES, CODES, Activation, activation_of

TORCHS = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": lambda a: F.leaky_relu(a, 0.3),
    "elu": lambda a: F.elu(a, 0.3),
    "selu": F.selu,
    "softsign": F.softsign,
    "hardtanh": F.hardtanh,
    "identity": lambda a: a,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
}


def named(name: str) -> Activation:
    return activation_of(name, slope=0.3 if name in ("leaky_relu", "elu") else None)


@pytest.mark.parametrize("name", sorted(TORCHS))
def test_function_is_torchs(name):
    values = torch.linspace(-4, 4, 41, dtype=torch.float64)

    assert torch.equal(named(name)(values), TORCHS[name](values))


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_derivative_is_that_of_autograd_at_kinks_too(name):
    values = torch.linspace(-4, 4, 41, dtype=torch.float64).requires_grad_()
    bias = torch.full((41,), -0.55, dtype=torch.float64)
    activation = named(name)

    (wanted,) = torch.autograd.grad(activation(values, bias).sum(), values)

    torch.testing.assert_close(activation.derivative(values, bias), wanted, rtol=0, atol=1e-14)


def test_derivative_of_a_callable_is_found_by_autograd():
    values = torch.linspace(-1, 1, 5, dtype=torch.float64)

    slope = activation_of(torch.sin).derivative(values)

    torch.testing.assert_close(slope, values.cos(), rtol=0, atol=1e-15)
    assert not slope.requires_grad


def test_modrelu_shortens_by_its_bias_and_keeps_the_sign():
    bias = torch.tensor([-0.5, -0.5, -0.5, 1.0])

    result = activation_of("modrelu")(torch.tensor([-2.0, 0.3, 2.0, -2.0]), bias)

    assert result.tolist() == [-1.5, 0.0, 1.5, -3.0]


def test_codes_are_distinct_and_a_callable_has_none():
    assert sorted(CODES.values()) == list(range(len(CODES)))
    assert activation_of("silu").code == CODES["silu"]
    assert activation_of(torch.sin).code is None


def test_activation_survives_pickling():
    for activation in (activation_of("elu", 0.5), activation_of(torch.sin)):
        assert pickle.loads(pickle.dumps(activation)) == activation


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("swish",), ValueError, "Unknown nonlinearity 'swish'. Select from tanh, relu"),
        ((3,), TypeError, "nonlinearity=3: expected a name or an elementwise function"),
        (("tanh", 0.1), ValueError, "slope=0.1 belongs to leaky_relu and elu"),
        ((torch.sin, 0.1), ValueError, "a function has none: write it into the function"),
        (("elu", float("nan")), ValueError, "slope=nan: expected a finite number"),
    ],
)
def test_nonsense_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        activation_of(*arguments)
