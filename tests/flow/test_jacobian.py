"""`layer.jacobian`: singular values of every step and of the product, against autograd."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.conformance.test_measure_cells import CELLS, h_of
from tests.conformance.test_measure_cells import Net as CellNet
from tests.oracles.step_jacobians import Row, autograd_jacobians, run_row, weights_of
from tests.oracles.unrolled import kind_of
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradreach as gr

FUSED = {"tanh": nn.RNN, "relu": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
ROUNDING = 1e-10  # relative to the step's largest singular value: float64 both, a few 1e-16 each


def fused(kind: str, inputs: int = 3, hidden: int = 5, **how: Any) -> nn.RNNBase:
    if kind in ("tanh", "relu"):
        how["nonlinearity"] = kind
    return FUSED[kind](inputs, hidden, dtype=torch.float64, **how)


def summed(output: Any) -> Tensor:
    sequence = pad_packed_sequence(output)[0] if not isinstance(output, Tensor) else output
    return sequence.square().sum()


def measured(module: nn.Module, inputs: Any, hx: Any = None) -> gr.GradientFlow:
    model = nn.Module()
    model.rnn = module
    return gr.measure(model, lambda: summed(model.rnn(inputs, hx)[0]), lag_probes=1)


def assert_jacobians(found: Any, rows: list[Row]) -> None:
    """Hold a summary of all rows against the matrices of the reference."""
    assert found.sequences.tolist() == list(range(len(rows)))
    assert found.method == "exact"
    for place, matrices in enumerate(rows):
        count = len(matrices)
        spectra = np.linalg.svd(np.stack(matrices), compute_uv=False)
        peak = spectra[:, 0].max()
        expected = {
            "largest": spectra[:, 0],
            "median": np.median(spectra, axis=1),
            "smallest": spectra[:, -1],
        }
        for name, values in expected.items():
            curve = getattr(found, name)[:, place]
            assert curve[:count] == pytest.approx(values, rel=0, abs=ROUNDING * peak), name
            assert np.isnan(curve[count:]).all()
        assert found.product_steps[place] == count
        whole = np.linalg.svd(np.linalg.multi_dot([np.eye(len(matrices[0])), *matrices[::-1]]),
                              compute_uv=False)  # fmt: skip
        inside = whole > 1e-5 * whole[0]  # plain float64 knows no smaller one to ten digits
        assert whole[0] > 0
        logs = found.product_log10[place]
        assert logs[inside] == pytest.approx(np.log10(whole[inside]), abs=ROUNDING)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", FUSED)
def test_singular_values_of_every_layer_are_those_of_autograd(kind, bidirectional, layers):
    module = fused(kind, num_layers=layers, bidirectional=bidirectional)
    inputs = torch.randn(6, 3, 3, dtype=torch.float64)
    shape = (layers * (1 + bidirectional), 3, 5)
    start: Any = 0.5 * torch.randn(*shape, dtype=torch.float64)
    if kind == "lstm":
        start = (start, 0.5 * torch.randn(*shape, dtype=torch.float64))

    flow = measured(module, inputs, start)

    expected = autograd_jacobians(module, inputs, start)
    assert {f"rnn.{suffix}" for suffix in expected} == set(flow.layers)
    for suffix, rows in expected.items():
        assert_jacobians(flow.layers[f"rnn.{suffix}"].jacobian, rows)


@pytest.mark.parametrize("kind", FUSED)
def test_rows_of_a_ragged_batch_end_where_they_end(kind):
    module = fused(kind, bidirectional=True)
    padded = torch.randn(8, 3, 3, dtype=torch.float64)
    packed = pack_padded_sequence(padded, torch.tensor([4, 8, 6]), enforce_sorted=False)

    flow = measured(module, packed)

    for suffix, rows in autograd_jacobians(module, packed).items():
        assert [len(row) for row in rows] == [4, 8, 6]
        assert_jacobians(flow.layers[f"rnn.{suffix}"].jacobian, rows)


@pytest.mark.parametrize("carried", ["same", "detached"])
@pytest.mark.parametrize("kind", FUSED)
def test_calls_that_pass_the_state_on_are_one_product(kind, carried):
    module = fused(kind)
    inputs = torch.randn(9, 2, 3, dtype=torch.float64)
    model = nn.Module()
    model.rnn = module

    def closure() -> Tensor:
        first, state = model.rnn(inputs[:4])
        if carried == "detached":  # the dynamics pass the state on, the gradient does not
            parts = state if isinstance(state, tuple) else (state,)
            state = tuple(part.detach() for part in parts)
            state = state if kind == "lstm" else state[0]
        return summed(first) + summed(model.rnn(inputs[4:], state)[0])

    layer = gr.measure(model, closure, lag_probes=1).layers["rnn"]

    assert len(layer.detached_steps) == (carried == "detached")
    assert_jacobians(layer.jacobian, autograd_jacobians(module, inputs)["l0"])


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", CELLS)
def test_loop_over_cells_has_the_jacobians_of_autograd(kind, depth):
    model = CellNet(kind, depth, dtype=torch.float64)
    inputs = torch.rand(7, 2, 3, dtype=torch.float64)

    def closure() -> Tensor:
        states: list[Any] = [None] * depth
        loss = torch.zeros((), dtype=torch.float64)
        for x in inputs:
            for index, cell in enumerate(model.cells):
                states[index] = cell(x, states[index])
                x = h_of(states[index])
            loss = loss + x.square().sum()
        return loss

    flow = gr.measure(model, closure, lag_probes=1)

    below = [inputs[:, row] for row in range(2)]
    for name, cell in zip(("cell", "upper")[:depth], model.cells, strict=True):
        done = [run_row(kind_of(cell), row, None, weights_of(cell)) for row in below]
        assert_jacobians(flow.layers[name].jacobian, [matrices for _, matrices in done])
        below = [outputs for outputs, _ in done]


def test_float32_model_has_the_jacobians_of_its_own_states():
    module = nn.GRU(3, 6)
    inputs = torch.randn(8, 2, 3)

    found = measured(module, inputs).layers["rnn"].jacobian

    expected = autograd_jacobians(module.double(), inputs.double())["l0"]
    spectra = np.linalg.svd(np.stack([np.stack(row) for row in expected], 1), compute_uv=False)
    # The states are float32: some 1e-7 each, through at most eight steps.
    assert found.largest == pytest.approx(spectra[..., 0], rel=1e-5)


# --------------------------------------------------------------------------- closed forms


def linear_relu(weight: Tensor, bias: float, steps: int, batch: int = 1) -> tuple[nn.RNN, Tensor]:
    """A ReLU net kept in its linear region by a bias, whatever its weights below 1."""
    size = len(weight)
    module = nn.RNN(1, size, nonlinearity="relu", dtype=torch.float64)
    with torch.no_grad():
        module.weight_hh_l0.copy_(weight)
        module.weight_ih_l0.zero_()
        module.bias_ih_l0.fill_(bias)
        module.bias_hh_l0.zero_()
    return module, torch.zeros(steps, batch, 1, dtype=torch.float64)


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0]


def test_product_of_two_thousand_contracting_steps_is_told_beyond_float64():
    module, inputs = linear_relu(0.2 * rotation(5), 1.0, steps=2000)

    found = measured(module, inputs).layers["rnn"].jacobian

    assert found.product_log10[0] == pytest.approx(np.full(5, 2000 * math.log10(0.2)), abs=1e-8)
    assert found.product_log10[0, 0] < -1300
    assert found.growth_per_step == pytest.approx([math.log(0.2)], abs=1e-11)
    assert len(found.steps) == 512
    assert found.steps[[0, -1]].tolist() == [0, 1999]
    assert "512 of 2000" in str(found)


def test_the_nilpotent_matrix_explodes_with_spectral_radius_zero():
    """theory.md 1.3: √2·2^t: 5.66, 22.6, 1448, 1.48e6 at 2, 4, 10 and 20 steps."""
    weight = torch.tensor([[2.0, 2.0], [-2.0, -2.0]], dtype=torch.float64)
    wanted = [torch.tensor([1.0, -1.0]).double(), torch.tensor([-1.0, 1.0]).double()]
    growth = {}
    for steps in (2, 4, 10, 20):
        h, inputs = torch.zeros(2, dtype=torch.float64), []
        for t in range(steps):
            inputs.append(wanted[t % 2] - weight @ h)
            h = torch.relu(wanted[t % 2])
        module = nn.RNN(2, 2, nonlinearity="relu", bias=False, dtype=torch.float64)
        with torch.no_grad():
            module.weight_hh_l0.copy_(weight)
            module.weight_ih_l0.copy_(torch.eye(2))

        layer = measured(module, torch.stack(inputs)[:, None]).layers["rnn"]

        growth[steps] = 10 ** layer.jacobian.product_log10[0, 0]
        assert layer.jacobian.product_log10[0, 1] == -np.inf
        # A double eigenvalue is known to the root of the rounding only.
        assert layer.conditions.spectral_radius < 1e-6
        assert layer.conditions.verdict == "undecided"
        assert layer.conditions.growth > 0.69
    for steps, value in growth.items():
        assert value == pytest.approx(math.sqrt(2) * 2.0**steps, rel=1e-12)


def test_saturated_tanh_units_are_not_dead_ones():
    """1 - h² is exactly 0 beyond |a| = 19; the derivative is not."""
    module = nn.RNN(1, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight_hh_l0.copy_(torch.eye(2))
        module.weight_ih_l0.copy_(torch.tensor([[0.0], [25.0]]))

    found = measured(module, torch.ones(3, 1, 1, dtype=torch.float64)).layers["rnn"].jacobian

    assert found.largest[0, 0] == 1.0
    assert found.smallest[0, 0] == pytest.approx(1 / math.cosh(25.0) ** 2, rel=1e-12)
    total = sum(math.log10(1 / math.cosh(a) ** 2) for a in (25.0, 26.0, 26.0))
    assert found.product_log10[0, 1] == pytest.approx(total, abs=1e-9)


# --------------------------------------------------------------------------- large states


@pytest.mark.parametrize(("kind", "hidden"), [("tanh", 160), ("lstm", 80), ("gru", 140)])
def test_large_states_have_their_largest_values_told_and_say_how(kind, hidden):
    module = fused(kind, hidden=hidden)
    inputs = torch.randn(7, 2, 3, dtype=torch.float64)

    found = measured(module, inputs).layers["rnn"].jacobian

    rows = autograd_jacobians(module, inputs)["l0"]
    spectra = np.linalg.svd(np.stack([np.stack(row) for row in rows], 1), compute_uv=False)
    assert found.method == "block Krylov"
    assert found.largest == pytest.approx(spectra[..., 0], rel=1e-5)
    seen = ~np.isnan(found.median)
    assert 2 <= seen.sum() <= 4
    assert found.median[seen] == pytest.approx(np.median(spectra, -1)[seen], rel=1e-9)
    assert found.smallest[seen] == pytest.approx(spectra[..., -1][seen], rel=1e-9)
    whole = [np.linalg.svd(np.linalg.multi_dot(row[::-1]), compute_uv=False)[0] for row in rows]
    assert found.product_log10[:, 0] == pytest.approx(np.log10(whole), abs=1e-3)
    assert found.product_log10.shape == (2, 8)
    assert np.isnan(found.product_condition_log10).all()


# --------------------------------------------------------------------------- what cannot be said


def test_sequences_with_nan_are_left_out_and_named():
    module = fused("tanh")
    inputs = torch.randn(6, 3, 3, dtype=torch.float64)
    inputs[2, 1] = torch.nan

    layer = measured(module, inputs).layers["rnn"]

    assert layer.jacobian.sequences.tolist() == [0, 2]
    assert np.isfinite(layer.jacobian.largest).all()
    assert "1 of 3 sequences hold NaN or infinity" in str(layer.jacobian)


def test_weights_that_are_nan_leave_no_jacobian_and_no_exception():
    module = fused("tanh")
    with torch.no_grad():
        module.weight_hh_l0[0, 0] = torch.nan

    layer = measured(module, torch.randn(20, 2, 3, dtype=torch.float64)).layers["rnn"]

    assert not len(layer.jacobian.sequences)
    assert not len(layer.lyapunov.exponents)
    assert not len(layer.sensitivity.sequences)
    assert str(layer.conditions) == "W_hh holds NaN or infinity: nothing follows."


def test_a_state_changed_on_its_way_leaves_single_steps_but_no_product():
    cell = nn.RNNCell(3, 4, dtype=torch.float64)
    inputs = torch.randn(14, 2, 3, dtype=torch.float64)
    model = nn.Module()
    model.cell = cell

    def closure() -> Tensor:
        h = None
        for t, x in enumerate(inputs):
            h = model.cell(x, h)
            h = h * 0.5 if t == 6 else h
        return h.square().sum()

    layer = gr.measure(model, closure).layers["cell"]

    assert np.isfinite(layer.jacobian.largest).all()
    assert layer.jacobian.product_log10.shape == (2, 0)
    assert "no product: the state is changed between steps" in str(layer.jacobian)
    assert "changed between steps" in str(layer.lyapunov)
    assert np.isnan(layer.conditions.growth)
    assert "not known" in str(layer.conditions)


def test_number_of_sequences_is_bounded_stated_and_settable():
    module = fused("tanh")
    layer = measured(module, torch.randn(5, 9, 3, dtype=torch.float64)).layers["rnn"]

    assert layer.jacobian.sequences.tolist() == [0, 3, 5, 8]
    assert layer.states.jacobian(sequences=100).sequences.tolist() == list(range(9))
    with pytest.raises(ValueError, match="'sequences' must be a positive whole number; got 0"):
        layer.states.jacobian(sequences=0)
