"""`layer.lyapunov`: closed forms, an implementation of its own in NumPy, and published shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.flow.test_jacobian import fused, linear_relu, measured, rotation
from tests.oracles.lyapunov_numpy import mpmath_log_singular_values, numpy_spectrum
from tests.oracles.step_jacobians import autograd_jacobians
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import gradreach as gr


def random_tanh(size: int, gain: float, seed: int = 0, noise: float = 0.0) -> nn.RNN:
    """h_t = tanh(W h_{t-1} + noise · x_t), W of normal entries with deviation gain/√N."""
    generator = torch.Generator().manual_seed(seed)
    module = nn.RNN(size, size, bias=False, dtype=torch.float64)
    with torch.no_grad():
        drawn = torch.randn(size, size, generator=generator, dtype=torch.float64)
        module.weight_hh_l0.copy_(drawn * gain / size**0.5)
        module.weight_ih_l0.copy_(noise * torch.eye(size))
    return module


def starts_of(size: int, batch: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, batch, size, generator=generator, dtype=torch.float64)


def layer_of(module: nn.RNNBase, inputs: Tensor, start: Any = None) -> gr.LayerFlow:
    model = nn.Module()
    model.rnn = module
    return gr.measure(
        model, lambda: model.rnn(inputs, start)[0][-1].square().sum(), lag_probes=1
    ).layers["rnn"]


def at_rest(module: nn.RNNBase, steps: int, batch: int = 1) -> gr.LayerFlow:
    return layer_of(
        module, torch.zeros(steps, batch, module.input_size, dtype=module.weight_hh_l0.dtype)
    )


# --------------------------------------------------------------------------- linear nets


@pytest.mark.parametrize("rho", [0.3, 0.9, 1.0, 1.02])
def test_a_scaled_rotation_in_relus_linear_region_has_all_exponents_ln_rho(rho):
    # 1.02^120 · 10 stays far from anything; the bias keeps every unit above 0.
    weight = rho * torch.roll(torch.eye(8, dtype=torch.float64), 1, dims=0)
    module, inputs = linear_relu(weight, 1.0, steps=120)

    found = layer_of(module, inputs).lyapunov

    assert found.exponents == pytest.approx(np.full(8, math.log(rho)), abs=1e-12)
    assert found.complete
    assert found.transient.tolist() == [22]
    assert found.steps.tolist() == [98]


@pytest.mark.parametrize("rho", [0.3, 0.9, 1.0, 1.1])
@pytest.mark.parametrize("size", [1, 12, 64])
def test_a_scaled_rotation_at_rest_has_all_exponents_ln_rho(size, rho):
    module = nn.RNN(1, size, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight_hh_l0.copy_(rho * rotation(size))

    found = at_rest(module, 60).lyapunov

    assert found.exponents == pytest.approx(np.full(size, math.log(rho)), abs=1e-12)


def test_float32_model_is_followed_in_float64():
    module = nn.RNN(1, 12, bias=False)
    with torch.no_grad():
        module.weight_hh_l0.copy_(0.9 * rotation(12))

    found = at_rest(module, 60).lyapunov

    # The rounding of the float32 matrix is part of the net: 6e-8 an entry.
    assert found.exponents == pytest.approx(np.full(12, math.log(0.9)), abs=1e-6)


def test_a_matrix_at_rest_has_the_logs_of_its_eigenvalues():
    weight = torch.diag(torch.tensor([0.9, -0.6, 0.3, 0.1], dtype=torch.float64))
    weight[0, 1:] = 5.0  # far from normal: σ_max = 8.7, ρ = 0.9
    module = nn.RNN(1, 4, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight_hh_l0.copy_(weight)

    layer = at_rest(module, 400)

    # Directions align by (0.6/0.9)^50 = 2e-9 within the transient of 50 steps.
    expected = np.log([0.9, 0.6, 0.3, 0.1])
    assert layer.lyapunov.exponents == pytest.approx(expected, abs=1e-9)
    assert layer.conditions.verdict == "undecided"
    assert layer.conditions.growth == pytest.approx(math.log(0.9), abs=1e-9)


def test_gates_held_still_give_the_exponents_of_the_gate():
    module = nn.LSTM(1, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.bias_ih_l0[3:6] = math.log(9.0)  # f = 0.9

    found = at_rest(module, 60).lyapunov

    # c keeps 0.9 per step; nothing passes through h, whose three directions are nothing.
    assert found.exponents[:3] == pytest.approx(np.full(3, math.log(0.9)), abs=1e-12)
    assert (found.exponents[3:] == -np.inf).all()
    assert found.sum == -np.inf


# --------------------------------------------------------------------------- the sum


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_sum_of_the_exponents_is_the_mean_log_determinant(kind):
    module = fused(kind)
    inputs = torch.randn(40, 3, 3, dtype=torch.float64)

    found = measured(module, inputs).layers["rnn"].lyapunov

    rows = autograd_jacobians(module, inputs)["l0"]
    kept = [np.linalg.slogdet(np.stack(row[14:]))[1].mean() for row in rows]
    assert found.transient.tolist() == [14, 14, 14]
    assert found.per_sequence.sum(1) == pytest.approx(kept, abs=1e-10)
    assert found.sum == pytest.approx(np.mean(kept), abs=1e-10)


@pytest.mark.parametrize("gain", [0.9, 2.0, 5.0])
def test_sum_holds_for_eighty_units_deep_in_saturation(gain):
    module, start = random_tanh(80, gain), starts_of(80, 1)

    found = layer_of(module, torch.zeros(150, 1, 80, dtype=torch.float64), start).lyapunov

    weight, h, logs = module.weight_hh_l0.detach().numpy(), start[0, 0].numpy(), []
    for _ in range(150):
        a = weight @ h
        h = np.tanh(a)
        logs.append(-2 * np.log(np.cosh(a)).sum())
    expected = np.mean(logs[25:]) + np.linalg.slogdet(weight)[1]
    # Our own trajectory parts from torch's where the dynamics are chaotic: by 150 steps of
    # e^0.5 it is another one, whose mean log slope of 80 units differs by its own noise.
    noise = 4 * np.std(logs[25:]) / math.sqrt(125) if gain > 1 else 0.0
    assert found.sum == pytest.approx(expected, abs=noise + 1e-8)


# --------------------------------------------------------------------------- an oracle of its own


@pytest.mark.parametrize("gain", [1.2, 1.6, 2.5, 3.5, 5.0])
def test_random_tanh_network_lies_within_the_interval_of_another_implementation(gain):
    """N = 80: all exponents, from NumPy's own trajectories of the same network."""
    size, steps, ours, theirs = 80, 400, 4, 6
    module, starts = random_tanh(size, gain), starts_of(size, theirs)
    weight = module.weight_hh_l0.detach().numpy()

    inputs = torch.zeros(steps, ours, size, dtype=torch.float64)
    found = layer_of(module, inputs, starts[:, :ours]).lyapunov

    oracle = np.stack(
        [numpy_spectrum(weight, starts[0, b].numpy(), steps, drop=50) for b in range(theirs)]
    )
    assert found.per_sequence.shape == (ours, size)
    # The pooled deviation of both samples of finite-time exponents, for the difference of their
    # means. 80 exponents at five gains are compared: beyond 4 of Student's t with 8 degrees of
    # freedom 1.6 of 400 independent comparisons would be by chance; the seeds are fixed.
    # 0.002: what the choice of the first frame leaves over 350 steps where nothing varies.
    freedom = ours + theirs - 2
    squares = ((found.per_sequence - found.per_sequence.mean(0)) ** 2).sum(0)
    squares += ((oracle - oracle.mean(0)) ** 2).sum(0)
    error = np.sqrt(squares / freedom * (1 / ours + 1 / theirs))
    off = np.abs(found.exponents - oracle.mean(0))
    assert (off <= 4 * error + 0.002).all(), np.max(off / (error + 1e-9))
    assert off[0] < 0.03
    assert abs(found.sum - oracle.sum(1).mean()) <= 0.03 * abs(found.sum)


def test_the_same_trajectory_has_the_same_exponents_from_another_first_frame():
    size, steps = 6, 400
    module, start = random_tanh(size, 0.95, seed=3), starts_of(size, 1)
    drive = torch.randn(steps, 1, size, dtype=torch.float64)
    with torch.no_grad():
        module.weight_ih_l0.copy_(0.5 * torch.eye(size))

    found = layer_of(module, drive, start).lyapunov

    expected = numpy_spectrum(
        module.weight_hh_l0.detach().numpy(), start[0, 0].numpy(), steps, drop=50,
        drive=0.5 * drive[:, 0].numpy(),
    )  # fmt: skip
    # Driven and contracting: both run the same states. What is left is how far 50 steps turn
    # two random frames into the same one.
    assert found.exponents == pytest.approx(expected, abs=1e-3)
    assert found.largest == pytest.approx(expected[0], abs=1e-5)


def test_product_along_a_random_network_is_that_of_three_hundred_digits():
    size, steps = 6, 60
    module, start = random_tanh(size, 1.5, seed=2), starts_of(size, 1)

    layer = layer_of(module, torch.zeros(steps, 1, size, dtype=torch.float64), start)

    previous = layer.tensors.previous[:, 0]
    logs, log_det = mpmath_log_singular_values(module.weight_hh_l0.detach().numpy(), previous)
    assert layer.jacobian.product_log10[0] * math.log(10) == pytest.approx(logs, abs=1e-10)
    assert layer.jacobian.product_log10[0].sum() * math.log(10) == pytest.approx(log_det, abs=1e-9)


# --------------------------------------------------------------------------- published shapes


def chaotic(size: int, gain: float, noise: float = 0.0, steps: int = 300) -> Any:
    module = random_tanh(size, gain, noise=noise)
    inputs = torch.randn(steps, 2, size, dtype=torch.float64)
    return layer_of(module, inputs, starts_of(size, 2)).states.lyapunov(exponents=size)


def test_chaos_begins_at_gain_one():
    """Sompolinsky, Crisanti & Sommers (1988); at N = 80 the onset is smeared over some 0.2."""
    below, above = chaotic(80, 0.8), chaotic(80, 1.6)

    assert below.largest < 0
    assert below.positive == 0
    assert above.largest > 0


def test_spectrum_does_not_depend_on_the_size():
    """Engelken, Wolf & Abbott (2023): chaos is extensive, λ_i a function of i/N."""
    small, large = chaotic(40, 3.0), chaotic(80, 3.0)

    # From the second twentieth to the middle: beyond, a few saturated units decide.
    for part in (0.05, 0.1, 0.2, 0.3, 0.5):
        at = [float(np.interp(part, (np.arange(n) + 0.5) / n, s.exponents))
              for n, s in ((40, small), (80, large))]  # fmt: skip
        assert at[0] == pytest.approx(at[1], abs=0.15), part
    assert small.dimension / 40 == pytest.approx(large.dimension / 80, abs=0.06)


def test_dimension_and_entropy_rise_from_the_onset_and_fall_far_from_it():
    """Engelken, Wolf & Abbott (2023): fewer directions are unstable in very intense chaos."""
    near, middle, far = chaotic(80, 1.4), chaotic(80, 4.0), chaotic(80, 30.0)

    assert near.largest < middle.largest < far.largest
    assert near.dimension < middle.dimension > far.dimension
    assert near.entropy_rate < middle.entropy_rate > far.entropy_rate
    assert middle.dimension < 80 / 3  # attractors are much smaller than the state space


def test_fluctuating_input_reduces_chaos():
    """Molgedey, Schuchhardt & Schuster (1992); Engelken, Wolf & Abbott (2023)."""
    still, driven = chaotic(80, 2.0), chaotic(80, 2.0, noise=0.6)

    assert driven.entropy_rate < 0.7 * still.entropy_rate
    assert driven.dimension < still.dimension
    assert driven.largest < still.largest


# --------------------------------------------------------------------------- edges


def test_short_sequences_leave_no_exponents_and_say_why():
    module = random_tanh(4, 1.0)

    found = layer_of(module, torch.zeros(11, 2, 4, dtype=torch.float64)).lyapunov

    assert not len(found.exponents)
    assert math.isnan(found.largest)
    assert "the longest sequence has 11: 12 steps are the least" in str(found)


def test_twelve_steps_leave_one():
    layer = layer_of(random_tanh(4, 1.0), torch.zeros(12, 1, 4, dtype=torch.float64))

    assert layer.lyapunov.steps.tolist() == [1]


def test_ragged_rows_drop_their_own_transient_and_short_ones_are_left_out():
    module = fused("gru")
    padded = torch.randn(60, 4, 3, dtype=torch.float64)
    packed = pack_padded_sequence(padded, torch.tensor([60, 30, 5, 41]), enforce_sorted=False)

    found = measured(module, packed).layers["rnn"].lyapunov

    assert found.sequences.tolist() == [0, 1, 3]
    assert found.transient.tolist() == [16, 13, 14]
    assert found.steps.tolist() == [44, 17, 27]
    rows = autograd_jacobians(module, packed)["l0"]
    dropped = ((0, 16), (1, 13), (3, 14))
    expected = [np.linalg.slogdet(np.stack(rows[b][n:]))[1].mean() for b, n in dropped]
    assert found.per_sequence.sum(1) == pytest.approx(expected, abs=1e-10)
    assert found.exponents == pytest.approx(found.per_sequence.mean(0), abs=1e-15)
    assert found.spread == pytest.approx(found.per_sequence.std(0, ddof=1), abs=1e-15)


def test_first_exponents_alone_are_those_of_the_whole_spectrum():
    module, inputs = fused("lstm"), torch.randn(50, 2, 3, dtype=torch.float64)
    states = measured(module, inputs).layers["rnn"].states

    whole, first = states.lyapunov(), states.lyapunov(exponents=3)

    assert first.exponents.shape == (3,)
    assert not first.complete
    assert math.isnan(first.sum)
    # The same random frame's first columns: QR gives the same three, but for rounding.
    assert first.per_sequence == pytest.approx(
        np.sort(whole.per_sequence[:, :3])[:, ::-1], abs=0.02
    )


def test_dead_units_are_directions_without_an_exponent():
    weight = torch.roll(0.5 * torch.eye(4, dtype=torch.float64), 1, dims=0)
    module, inputs = linear_relu(weight, 1.0, steps=60)
    with torch.no_grad():
        module.bias_ih_l0[3] = -9.0  # never above 0; the cycle through the four is broken

    found = layer_of(module, inputs).lyapunov

    assert (found.exponents == -np.inf).all()  # nilpotent: every path ends in the dead unit
    assert "-inf" in str(found)


def test_words_say_what_the_sign_means():
    fading = at_rest(random_tanh(5, 0.5), 60).lyapunov
    growing = chaotic(40, 3.0, steps=100)

    assert "every direction fades, by a factor e within" in str(fading)
    assert "directions grow" in str(growing)
    assert growing.horizon == pytest.approx(1 / growing.largest)
