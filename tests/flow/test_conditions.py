"""`layer.conditions`: never a wrong "must vanish", and the words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.flow.test_jacobian import fused, linear_relu, measured, rotation
from tests.oracles.step_jacobians import autograd_jacobians
from torch import nn

STEPS = 30


def drawn_net(seed: int) -> tuple[nn.RNN, torch.Tensor]:
    """A random simple RNN: size, scale, kind of matrix, nonlinearity, input and dtype vary."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    size, dtype = 1 + seed % 9, (torch.float64, torch.float32)[seed % 2]
    module = nn.RNN(2, size, nonlinearity=("tanh", "relu")[seed // 2 % 2], dtype=dtype)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    if seed % 5 == 0:
        matrix = torch.linalg.qr(matrix)[0]
    elif seed % 5 == 1:
        matrix = matrix.triu(1) + 0.3 * torch.eye(size, dtype=torch.float64)  # far from normal
    else:
        matrix = matrix / size**0.5
    with torch.no_grad():
        module.weight_hh_l0.copy_(uniform(0.1, 1.8) * matrix)
        module.weight_ih_l0.copy_(torch.randn(size, 2, generator=generator))
        module.bias_ih_l0.fill_(uniform(-0.5, 1.5))
    inputs = uniform(0, 2) * torch.randn(STEPS, 2, 2, generator=generator)
    return module, inputs.to(dtype)


def test_two_hundred_random_nets_never_have_a_wrong_must_vanish():
    verdicts, grew = {"must-vanish": 0, "cannot-explode": 0, "undecided": 0}, 0
    for seed in range(200):
        module, inputs = drawn_net(seed)

        layer = measured(module, inputs).layers["rnn"]

        said = layer.conditions
        verdicts[said.verdict] += 1
        # By another way: autograd's own Jacobians of every step, multiplied out.
        matrices = autograd_jacobians(module.double(), inputs.double())["l0"]
        products = [[np.eye(module.hidden_size)] for _ in matrices]
        for row, product in zip(matrices, products, strict=True):
            for jacobian in row:
                product.append(jacobian @ product[-1])
        norms = np.linalg.norm(np.array(products), ord=2, axis=(2, 3)).max(0)
        grew += bool(norms[-1] > 1)
        sigma = float(np.linalg.svd(module.weight_hh_l0.detach().numpy(), compute_uv=False)[0])
        assert said.spectral_norm == pytest.approx(sigma, rel=1e-12)
        if said.must_vanish:
            bound = said.spectral_norm ** np.arange(STEPS + 1)
            assert (norms <= bound * (1 + 1e-9)).all(), seed
            assert norms[-1] < 1
            left = layer.own_lag_profile
            assert (left <= bound[: len(left)] * (1 + 1e-6)).all(), seed
            proved = said.steps_until(0.01)
            assert proved >= STEPS or norms[int(proved)] <= 0.01
        if norms[-1] > 1 + 1e-5:  # exploding needs σ_max > 1: the necessary condition
            assert said.may_explode, seed
    # The draw has cases on all sides, or it proved nothing.
    assert verdicts["must-vanish"] >= 40
    assert verdicts["undecided"] >= 40
    assert grew >= 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_orthogonal_matrix_neither_must_vanish_nor_can_explode(dtype):
    module = nn.RNN(2, 30, dtype=dtype)
    with torch.no_grad():
        module.weight_hh_l0.copy_(rotation(30))

    said = measured(module, torch.randn(50, 2, 2, dtype=dtype)).layers["rnn"].conditions

    assert said.verdict == "cannot-explode"
    assert not said.may_explode
    assert said.steps_until() == math.inf
    assert str(said).startswith("σ_max(W_hh) = 1: gradients cannot explode; whether they vanish")


def test_must_vanish_in_words():
    module, inputs = linear_relu(0.62 * torch.eye(3, dtype=torch.float64), 1.0, steps=50)

    said = measured(module, inputs).layers["rnn"].conditions

    assert str(said) == (
        "σ_max(W_hh) = 0.62 < 1: long-term gradients must vanish: at most 1 % is left after 10 "
        "steps; along your data: −0.48 nats per step, a factor 0.62 per step."
    )
    assert said.gamma == 1.0


def test_a_bound_that_only_bites_beyond_the_sequences_says_so():
    weight = 0.999 * torch.eye(3, dtype=torch.float64)
    module, inputs = linear_relu(weight, 1.0, steps=50)

    said = str(measured(module, inputs).layers["rnn"].conditions)

    assert "σ_max(W_hh) = 1 - 0.001 < 1" in said
    assert "after 4,603 steps, more than the 50 of your sequences" in said


def test_nothing_follows_in_words_with_what_the_data_decide():
    weight = torch.tensor([[0.0, 1.4], [0.0, 0.81]], dtype=torch.float64)
    module, inputs = linear_relu(weight, 1.0, steps=60, batch=2)

    said = measured(module, inputs).layers["rnn"].conditions

    assert said.growth == pytest.approx(math.log(0.81), abs=1e-12)
    assert said.growth_of == "lyapunov"
    assert str(said) == (
        "σ_max(W_hh) = 1.62 > 1: nothing follows; the product along your data decides: "
        "−0.21 nats per step, a factor 0.81 per step."
    )


def test_short_sequences_are_judged_by_their_whole_product():
    module, inputs = linear_relu(0.5 * torch.eye(3, dtype=torch.float64), 1.0, steps=8)

    said = measured(module, inputs).layers["rnn"].conditions

    assert said.growth_of == "product"
    assert said.growth == pytest.approx(math.log(0.5), abs=1e-12)


def test_a_zero_matrix_passes_nothing_on():
    module, inputs = linear_relu(torch.zeros(3, 3, dtype=torch.float64), 1.0, steps=50)

    said = measured(module, inputs).layers["rnn"].conditions

    assert said.growth == -math.inf
    assert "no gradient passes from one step to the one before" in str(said)


def test_of_an_lstm_the_forget_gates_and_the_jacobian_are_told():
    module = nn.LSTM(1, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.bias_ih_l0[3:6] = torch.tensor(
            [math.log(9), 0.0, math.log(1 / 3)],
            dtype=torch.float64,  # f = 0.9, 0.5, 0.25
        )

    said = measured(module, torch.zeros(60, 2, 1, dtype=torch.float64)).layers["rnn"].conditions

    assert said.verdict == "not-on-weights"
    assert said.may_explode
    assert math.isnan(said.gamma)
    assert said.gate_keep == pytest.approx([0.9, 0.5, 0.25], rel=1e-12)
    assert said.gate_product_log10[0] == pytest.approx(60 * math.log10(0.9), abs=1e-10)
    assert str(said) == (
        "no condition on W_hh holds for an LSTM: along c alone the forget gates keep 0.5 per step "
        "in the median unit, 0.9 in the most open one (10^-2.7 over a sequence); the full Jacobian "
        "along your data: −0.11 nats per step, a factor 0.90 per step."
    )


def test_of_a_gru_the_keep_gates_are_told():
    said = (
        measured(fused("gru"), torch.randn(50, 2, 3, dtype=torch.float64)).layers["rnn"].conditions
    )

    assert (said.verdict, said.gate) == ("not-on-weights", "z")
    assert "for a GRU: the keep gates z alone keep" in str(said)
