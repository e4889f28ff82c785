"""A measurement of our own layers reads what their forward left, and finds what a replay finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradreach
from gradreach import nn
from gradreach.errors import NotMeasurableError
from gradreach.flow.sources import fused
from gradreach.kernels.native.core import load

pytestmark = pytest.mark.skipif(load() is None, reason="the native core is not built")


def measured(layer, *given, **options):
    return gradreach.measure(
        layer, lambda: layer(*given)[0].square().sum(), lag_probes=2, **options
    )


@pytest.fixture
def replays(monkeypatch):
    """Count the calls that were run again."""
    seen, replay = [], fused._replay

    def counted(*arguments):
        seen.append(arguments)
        return replay(*arguments)

    monkeypatch.setattr(fused, "_replay", counted)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hidden", [16, 21])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_what_was_left_is_what_a_replay_finds(kind, hidden, dtype, replays, monkeypatch):
    layer = kind(3, hidden, 2, batch_first=True).to(dtype)
    x = torch.randn(5, 30, 3, dtype=dtype)
    state = [torch.randn(2, 5, hidden, dtype=dtype) for _ in range(2)]
    given = tuple(state) if kind is nn.LSTM else state[0]

    found = measured(layer, x, given)
    assert not replays
    monkeypatch.setattr(fused, "_remembered", lambda call, module: None)
    expected = measured(layer, x, given)

    assert replays
    # The core keeps its own gates; a replay recomputes them from the states: some roundings.
    close = 2e-5 if dtype == torch.float32 else 1e-12
    for name, one in expected.layers.items():
        two = found.layers[name]
        np.testing.assert_allclose(two.per_sample, one.per_sample, rtol=close)
        np.testing.assert_allclose(two.lag_profile, one.lag_profile, rtol=close)
        for weight, norms in one.contributions.items():
            np.testing.assert_allclose(two.contributions[weight], norms, rtol=close)
            assert two.closure_error[weight] < (1e-5 if dtype == torch.float32 else 1e-12)
        for gate, values in one.gates.items():
            np.testing.assert_allclose(two.gates[gate].per_unit, values.per_unit, rtol=close)
            np.testing.assert_allclose(two.gates[gate].per_step, values.per_step, rtol=close)
        assert np.array_equal(two.dead, one.dead)
        np.testing.assert_allclose(two.saturation, one.saturation, atol=1e-2)
        np.testing.assert_allclose(
            two.jacobian.growth_per_step, one.jacobian.growth_per_step, rtol=1e-3
        )


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_saturated_and_dead_units_are_those_that_the_backward_has_counted(kind, monkeypatch):
    def refused(*arguments):
        raise AssertionError("the states were looked at again")

    options = {"nonlinearity": "relu"} if kind is nn.RNN else {}
    layer, x = kind(3, 21, **options), torch.randn(30, 5, 3)
    with torch.no_grad():
        if kind is not nn.RNN:
            layer.weight_ih_l0.mul_(6)
        candidate = layer.bias_ih_l0.view(-1, 21)[2 if kind is not nn.RNN else 0]
        candidate[-3] = -1e4  # off for good: a ReLU at 0, a candidate at -1

    with monkeypatch.context() as patched:
        patched.setattr("gradreach.flow.saturation._shares", refused)
        found = next(iter(measured(layer, x).layers.values()))
    monkeypatch.setattr(fused, "_remembered", lambda call, module: None)
    expected = next(iter(measured(layer, x).layers.values()))

    assert expected.dead[-3] and 0.05 < expected.saturation[:-3].mean() < 1
    assert np.array_equal(found.dead, expected.dead)
    # A slope next to 0.05 may fall on either side.
    np.testing.assert_allclose(found.saturation, expected.saturation, atol=1.5 / 150)


@pytest.mark.parametrize("which", ["input", "weight"])
def test_a_call_whose_operands_change_during_the_backward_is_run_again(which, replays):
    layer, x = nn.GRU(2, 8), torch.randn(9, 3, 2)
    changed = x if which == "input" else layer.weight_hh_l0

    def change(gradient):
        with torch.no_grad():  # the layer's own backward is over by then
            changed.mul_(2.0)

    layer.bias_hh_l0.register_hook(change)

    if which == "input":
        with pytest.raises(NotMeasurableError, match="gave other bits"):
            measured(layer, x)
    else:  # measure() puts the weights of the model back before it looks
        measured(layer, x)

    assert len(replays) == 1


def test_an_output_changed_in_place_is_measured_as_it_was(replays):
    layer, x = nn.LSTM(2, 8), torch.randn(9, 3, 2)

    def loss():
        output, _ = layer(x)
        kept = output * 1.0
        with torch.no_grad():
            output.data.mul_(3.0)
        return kept.sum()

    flow = gradreach.measure(layer, loss, lag_probes=0).layers["lstm"]
    expected = gradreach.measure(layer, lambda: layer(x)[0].sum(), lag_probes=0).layers["lstm"]

    assert not replays
    # Of the output only what the copy holds; the scan itself reads gates and cells.
    np.testing.assert_allclose(flow.per_sample[-1], expected.per_sample[-1], rtol=1e-6)


def test_layers_that_drop_or_run_both_ways_are_run_again(replays):
    x = torch.randn(9, 3, 2)

    measured(nn.LSTM(2, 8, 2, dropout=0.5), x)
    measured(nn.LSTM(2, 8, bidirectional=True), x)
    measured(nn.LSTM(2, 8, skip=2), x)

    assert len(replays) == 3
