"""`layer.sensitivity`: ‖dh_t/dW_hh‖ against autograd, and the curse of memory in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.flow.test_jacobian import FUSED, fused, linear_relu, measured
from torch.nn.utils.rnn import pack_padded_sequence


def by_autograd(module: Any, inputs: torch.Tensor) -> np.ndarray:
    """‖dh_t/dW_hh‖_F of one sequence, one backward pass for every number of every state."""
    outputs, _ = module(inputs)
    norms = []
    for state in outputs[:, 0]:
        rows = [
            torch.autograd.grad(value, module.weight_hh_l0, retain_graph=True)[0] for value in state
        ]
        norms.append(float(torch.stack(rows).norm()))
    return np.array(norms)


@pytest.mark.parametrize("kind", FUSED)
def test_sensitivity_is_that_of_autograd(kind):
    module = fused(kind)
    inputs = torch.randn(9, 1, 3, dtype=torch.float64)

    found = measured(module, inputs).layers["rnn"].sensitivity

    assert found.exact
    assert found.standard_error == 0.0
    assert found.tangents == module.weight_hh_l0.numel()
    # h_0 = 0: the first step has no use of W_hh.
    expected = by_autograd(module, inputs)
    assert expected[0] == found.norms[0] == found.immediate[0] == 0.0
    assert found.norms == pytest.approx(expected, rel=1e-10)
    assert found.immediate[1] == pytest.approx(expected[1], rel=1e-10)  # nothing piled up yet


@pytest.mark.parametrize("kind", FUSED)
def test_random_directions_estimate_it_within_their_standard_error(kind):
    module = fused(kind, hidden=40)
    inputs = torch.randn(7, 1, 3, dtype=torch.float64)

    found = measured(module, inputs).layers["rnn"].states.sensitivity(tangents=64)

    assert not found.exact
    assert 0 < found.standard_error < 0.1
    expected = by_autograd(module, inputs)
    # Six steps of one draw of directions: four standard errors.
    off = np.abs(found.norms[1:] / expected[1:] - 1)
    assert (off <= 4 * found.standard_error).all()
    assert found.immediate[1] == pytest.approx(expected[1], rel=1e-10)  # needs no directions


def test_rows_are_averaged_over_those_that_exist():
    module = fused("tanh")
    padded = torch.randn(8, 2, 3, dtype=torch.float64)
    packed = pack_padded_sequence(padded, torch.tensor([8, 5]), enforce_sorted=False)

    found = measured(module, packed).layers["rnn"].sensitivity

    first, second = by_autograd(module, padded[:, :1]), by_autograd(module, padded[:5, 1:])
    both = np.sqrt((first[:5] ** 2 + second**2) / 2)
    assert found.norms == pytest.approx(np.concatenate([both, first[5:]]), rel=1e-10)


@pytest.mark.parametrize("rho", [0.5, 0.9, 0.99])
def test_the_longer_the_memory_the_more_a_state_depends_on_its_weight(rho):
    """h_t = λ h_{t-1} + 1 settles at h = 1/(1-λ), dh/dλ at 1/(1-λ)²: amplification 1/(1-λ)."""
    steps = 2000
    module, inputs = linear_relu(torch.tensor([[rho]], dtype=torch.float64), 1.0, steps=steps)

    found = measured(module, inputs).layers["rnn"].sensitivity

    h, slope, expected = 0.0, 0.0, []
    for _ in range(steps):
        slope = h + rho * slope
        h = rho * h + 1.0
        expected.append(slope)
    assert found.norms == pytest.approx(np.array(expected), rel=1e-10)
    assert found.norms[-1] == pytest.approx((1 - rho) ** -2, rel=1e-6)
    # The mean immediate part includes the run-in, some 1/(1-λ) of 2,000 steps.
    assert found.amplification[-1] == pytest.approx(1 / (1 - rho), rel=0.1)
    assert found.relative[-1] == pytest.approx(rho / (1 - rho), rel=1e-6)
    assert (np.diff(found.norms) >= -1e-9 * found.norms[-1]).all()


def test_no_jacobian_explodes_while_the_sensitivity_grows():
    module, inputs = linear_relu(torch.tensor([[1.0]], dtype=torch.float64), 1.0, steps=200)

    layer = measured(module, inputs).layers["rnn"]

    assert layer.jacobian.largest == pytest.approx(np.ones((200, 1)))
    # h_t = t, dh_t/dλ = t(t-1)/2.
    assert layer.sensitivity.norms[-1] == pytest.approx(200 * 199 / 2, rel=1e-12)
    assert "times as strongly as one step alone makes it (exact)" in str(layer.sensitivity)


def test_a_network_without_memory_piles_nothing_up():
    module = fused("gru")
    with torch.no_grad():
        module.weight_hh_l0.zero_()
        module.bias_hh_l0[5:10] = -50.0  # z = 0: nothing is kept

    found = measured(module, torch.randn(12, 2, 3, dtype=torch.float64)).layers["rnn"].sensitivity

    assert found.norms == pytest.approx(found.immediate, rel=1e-9)
    assert math.isfinite(found.relative[-1])
