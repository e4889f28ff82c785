"""The core's elementary functions against the C library in float64, to units in the last place.

They are reached through a layer of one step whose pre-activation is the number itself.
"""

from __future__ import annotations

import math

import pytest
import torch
from tests.kernels.native_calls import isas

from gradreach.kernels import native, reference
from gradreach.kernels.activations import Activation, activation_of
from gradreach.kernels.native import core
from gradreach.kernels.recurrence import CellWeights, Recurrence

DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=isas() or ["none"], autouse=True)
def isa(request, lacks):
    module = core.load() or lacks(f"a native core: {core.why_not_loaded()}")
    before = module.isa()
    assert module.use_isa(request.param)
    yield request.param
    module.use_isa(before)


def applied(activation: Activation | str, values: torch.Tensor, bias: float = 0.0) -> torch.Tensor:
    """Return φ of each number, from one step of a layer of one unit and one input."""
    if isinstance(activation, str):
        activation = activation_of(activation)
    one = torch.ones(1, 1, dtype=values.dtype)
    weights = CellWeights(one, 0 * one, activation_bias=one[0] * bias)
    inputs, hidden = values.view(1, -1, 1), values.new_zeros(len(values), 1)
    cell = Recurrence("rnn", activation)
    assert native.why_not(cell, inputs, hidden, None, weights) is None
    return native.run(cell, inputs, hidden, None, weights)[0].flatten()


def dense(dtype: torch.dtype, reach: float = 20.0) -> torch.Tensor:
    """Numbers of either sign: evenly spaced, of all sizes, and where a formula changes."""
    sizes = torch.logspace(-30, math.log10(reach), 20011, dtype=torch.float64)
    even = torch.linspace(0, reach, 40009, dtype=torch.float64)
    seams = torch.tensor([0.625, 1.0, 2.0, 2**0.5, 2 * 2**0.5, 0.5, math.log(2) / 2])
    near = (seams.double()[:, None] * (1 + torch.linspace(-1e-6, 1e-6, 101).double())).flatten()
    positive = torch.cat([sizes, even, near])
    return torch.cat([positive, -positive]).to(dtype)


def exact(function, values: torch.Tensor) -> torch.Tensor:
    """Evaluate the C library's function in float64, number by number."""
    return torch.tensor([function(x) for x in values.double().tolist()], dtype=torch.float64)


def ulps(got: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return errors in units in the last place of the wanted numbers, in the dtype of `got`."""
    info = torch.finfo(got.dtype)
    size = wanted.abs().clamp(min=info.tiny)
    unit = info.eps * torch.exp2(torch.floor(torch.log2(size)))
    return (got.double() - wanted).abs() / unit


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def silu(x: float) -> float:
    return x * sigmoid(x)


def gelu(x: float) -> float:
    return x * 0.5 * math.erfc(-x * 0.5**0.5)


def selu(x: float) -> float:
    scale, alpha = 1.0507009873554804934, 1.6732632423543772848
    return scale * x if x > 0 else scale * alpha * math.expm1(x)


# The oracle itself rounds in float64: half a unit, a few where it is a product or a quotient.
@pytest.mark.parametrize(
    ("name", "function", "most"),
    [
        ("tanh", math.tanh, 4),
        ("sigmoid", sigmoid, 5),
        ("elu", lambda x: x if x > 0 else math.expm1(x), 5),
        ("selu", selu, 6),
        ("softsign", lambda x: x / (1 + abs(x)), 2),
        ("silu", silu, 6),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_function_is_within_a_few_units_in_the_last_place(name, function, most, dtype):
    values = dense(dtype)

    error = ulps(applied(name, values), exact(function, values))

    place = int(error.argmax())
    assert error[place] <= most, f"{float(values[place])!r}: {float(error[place]):.1f} ulp"


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_is_within_some_roundings_of_the_larger_of_its_input_and_1(dtype):
    values = dense(dtype)

    got = applied("gelu", values).double()

    # 1 + erf cancels far below 0, where gelu itself is next to 0: the error is absolute there.
    error = (got - exact(gelu, values)).abs()
    assert (error <= 4 * torch.finfo(dtype).eps * values.double().abs()).all()


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "elu", "selu", "softsign", "gelu", "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes_are_what_torch_gives(name, dtype):
    values = torch.tensor(
        [0.0, -0.0, 1e-30, -1e-30, 100.0, -100.0, 1e4, -1e4, 1e30, -1e30, math.nan], dtype=dtype
    )

    got, wanted = applied(name, values), activation_of(name)(values)

    # Absolute near 0: a sigmoid of -100, 3.8e-44, may be 0.
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-37, equal_nan=True)
    if name in ("tanh", "elu", "selu", "softsign"):
        assert torch.equal(got[:4], wanted[:4])  # exact near 0, and odd, but for -0 + 0


@pytest.mark.parametrize(
    ("name", "above", "below"),
    [("tanh", 1, -1), ("sigmoid", 1, 0), ("elu", math.inf, -1), ("relu", math.inf, 0),
     ("hardtanh", 1, -1), ("identity", math.inf, -math.inf), ("leaky_relu", math.inf, -math.inf)],
)  # fmt: skip
@pytest.mark.parametrize("dtype", DTYPES)
def test_infinity_has_its_limit(name, above, below, dtype):
    values = torch.tensor([math.inf, -math.inf] * 9, dtype=dtype)

    assert applied(name, values).tolist() == [above, below] * 9


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_falls_to_exactly_0_and_never_exceeds_1(dtype):
    reach = 120 if dtype is torch.float32 else 760
    values = torch.linspace(-reach, reach, 100_003, dtype=torch.float64).to(dtype)

    got = applied("sigmoid", values)

    assert (got.diff() >= -2 * torch.finfo(dtype).eps * got[1:]).all()  # grows, to rounding
    assert got[0] == 0 and got.max() == 1
    # Below the normal numbers: absolute.
    wanted = exact(sigmoid, values)
    tail = wanted < 2 * torch.finfo(dtype).tiny
    assert (got.double() - wanted).abs()[tail].max() <= 2 * torch.finfo(dtype).tiny
    assert ulps(got, wanted)[~tail].max() <= 5


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "elu", "gelu", "silu", "softsign"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_gives_the_same_bits_in_every_lane(name, dtype):
    values = torch.randn(40, dtype=dtype) * 3

    spread = applied(name, values.repeat_interleave(33)).view(40, 33)

    assert (spread == spread[:, :1]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_modrelu_is_odd_and_thresholded(dtype):
    values = dense(dtype, 4.0)

    got = applied("modrelu", values, bias=-0.5)

    assert torch.equal(got, values.sign() * (values.abs() - 0.5).relu())


@pytest.mark.parametrize(
    "activation", ["tanh", "sigmoid", "elu", "selu", "softsign", "gelu", "silu"]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_slope_is_the_derivative_over_the_whole_range(activation, dtype):
    values = dense(dtype)[::7]
    chosen = activation_of(activation)
    one, hidden = torch.ones(1, 1, dtype=dtype), values.new_zeros(len(values), 1)
    inputs = values.view(1, -1, 1).requires_grad_()
    weights = CellWeights(one, 0 * one)

    output = native.run(Recurrence("rnn", chosen), inputs, hidden, None, weights)[0]
    (got,) = torch.autograd.grad(output.sum(), inputs)

    wide = values.double().view(1, -1, 1).requires_grad_()
    weights = CellWeights(one.double(), 0 * one.double())
    output = reference.run(Recurrence("rnn", chosen), wide, hidden.double(), None, weights)[0]
    (wanted,) = torch.autograd.grad(output.sum(), wide)
    # From the output u: 1 - u² and u + 1 lose what u was rounded by, some roundings of 1.
    error = (got.double() - wanted).abs().max()
    assert error <= 8 * torch.finfo(dtype).eps * max(1.0, float(wanted.abs().max()))
