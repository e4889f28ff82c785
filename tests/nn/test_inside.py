"""Recurrent dropout, zoneout and layer norm: each does what its paper says, on every kind."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

import gradreach as gr

NAMES = ["RNN", "GRU", "LSTM"]
FLOAT64 = {"dtype": torch.float64}


def test_recurrent_dropout_hides_the_same_units_at_every_step_and_scales_the_rest():
    layer = gr.nn.RNN(1, 50, nonlinearity="identity", bias=False, recurrent_dropout=0.5)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
        layer.weight_hh_l0.copy_(torch.eye(50))

    output, _ = layer(torch.zeros(4, 20, 1), torch.ones(1, 20, 50))

    hidden = output[0] == 0
    assert 0.4 < hidden.float().mean() < 0.6
    assert not torch.equal(hidden[0], hidden[1])  # each sequence has units of its own
    for step, states in enumerate(output, start=1):
        assert torch.equal(states == 0, hidden)
        assert set(states.unique().tolist()) == {0.0, 2.0**step}


@pytest.mark.parametrize("name", NAMES)
def test_recurrent_dropout_and_norm_free_layer_agree_in_evaluation(name):
    layer = getattr(gr.nn, name)(2, 5, recurrent_dropout=0.5)
    plain = getattr(gr.nn, name)(2, 5)
    plain.load_state_dict(layer.state_dict())
    inputs = torch.randn(6, 3, 2)

    assert not torch.equal(layer(inputs)[0], layer(inputs)[0])
    torch.testing.assert_close(layer.eval()(inputs)[0], plain(inputs)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_zoneout_keeps_the_asked_share_of_units_and_updates_the_rest(name):
    layer = getattr(gr.nn, name)(2, 40, zoneout=0.25)
    plain = getattr(gr.nn, name)(2, 40)
    plain.load_state_dict(layer.state_dict())
    inputs, start = torch.randn(1, 50, 2), torch.randn(1, 50, 40)
    state = (start, start.flip(1)) if name == "LSTM" else start

    before = state if name == "LSTM" else (state,)
    _, after = layer(inputs, state)
    _, fresh = plain(inputs, state)

    after, fresh = (x if name == "LSTM" else (x,) for x in (after, fresh))
    for old, new, got in zip(before, fresh, after, strict=True):
        kept = got == old
        # 2,000 draws: six standard deviations of the share are 0.06.
        assert abs(kept.float().mean() - 0.25) < 0.06
        torch.testing.assert_close(got[~kept], new[~kept], rtol=0, atol=1e-6)


def test_zoneout_of_an_lstm_may_differ_for_h_and_c():
    layer = gr.nn.LSTM(2, 40, zoneout=(0.0, 0.5))
    h_0, c_0 = torch.randn(1, 50, 40), torch.randn(1, 50, 40)

    _, (h_n, c_n) = layer(torch.randn(1, 50, 2), (h_0, c_0))

    assert not (h_n == h_0).any()
    assert abs((c_n == c_0).float().mean() - 0.5) < 0.07  # six standard deviations


@pytest.mark.parametrize("name", NAMES)
def test_zoneout_in_evaluation_is_the_mean_of_keeping_and_updating(name):
    layer = getattr(gr.nn, name)(2, 5, zoneout=0.25).eval()
    plain = getattr(gr.nn, name)(2, 5)
    plain.load_state_dict(layer.state_dict())
    inputs = torch.randn(4, 3, 2)

    output, _ = layer(inputs)

    zeros = torch.zeros(1, 3, 5)
    state = (zeros, zeros) if name == "LSTM" else (zeros,)
    for now, got in zip(inputs, output, strict=True):
        fresh = plain(now[None], state if name == "LSTM" else state[0])[1]
        fresh = fresh if name == "LSTM" else (fresh,)
        state = tuple(0.25 * a + 0.75 * b for a, b in zip(state, fresh, strict=True))
        torch.testing.assert_close(got, state[0][0], rtol=0, atol=1e-6)


def normed(values, gain, shift):
    centred = values - values.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * gain + shift


@pytest.mark.parametrize("name", NAMES)
def test_layer_norm_is_that_of_ba_kiros_and_hinton(name):
    layer = getattr(gr.nn, name)(2, 5, layer_norm=True, **FLOAT64)
    for key, parameter in layer.named_parameters():
        if "norm" in key:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    inputs = torch.randn(4, 3, 2, **FLOAT64)

    output, _ = layer(inputs)

    h = c = torch.zeros(3, 5, **FLOAT64)
    for now, got in zip(inputs, output, strict=True):
        x = normed(now @ layer.weight_ih_l0.T, layer.norm_ih_l0, layer.bias_ih_l0)
        p = normed(h @ layer.weight_hh_l0.T, layer.norm_hh_l0, layer.bias_hh_l0)
        if name == "RNN":
            h = (x + p).tanh()
        elif name == "GRU":
            (r, z, n), (r_h, z_h, n_h) = x.chunk(3, -1), p.chunk(3, -1)
            z = (z + z_h).sigmoid()
            h = (1 - z) * (n + (r + r_h).sigmoid() * n_h).tanh() + z * h
        else:
            i, f, g, o = (x + p).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * normed(c, layer.norm_c_l0, layer.norm_bias_c_l0).tanh()
        torch.testing.assert_close(got, h, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{}, {"dilation": 2}, {"bidirectional": True, "num_layers": 2}], ids=str
)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_layer_norm_are_those_of_finite_differences(name, options):
    layer = getattr(gr.nn, name)(2, 3, layer_norm=True, zoneout=0.25, **options, **FLOAT64).eval()
    names = [key for key, _ in layer.named_parameters()]
    # Away from the state zero, whose normalisation amplifies a difference 300 times (1/√eps).
    rows = 4 if options.get("bidirectional") else 1
    start = torch.randn(rows, 2, 3, **FLOAT64)
    state = (start, start) if name == "LSTM" else start
    inputs = torch.randn(3, 2, 2, **FLOAT64, requires_grad=True)

    def call(inputs, *parameters):
        weights = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, weights, (inputs, state))[0]

    assert torch.autograd.gradcheck(call, (inputs, *layer.parameters()), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_all_three_train_together_on_a_packed_batch(name):
    layer = getattr(gr.nn, name)(
        2, 5, 2, bidirectional=True, layer_norm=True, zoneout=0.1, recurrent_dropout=0.2,
        skip=2, dilation=(1, 2),
    )  # fmt: skip
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.randn(6, 3, 2), [6, 4, 1])

    layer(packed)[0].data.square().sum().backward()

    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        if "norm" in key:
            assert parameter.grad.abs().sum() > 0, key
    assert "recurrent_dropout=0.2, zoneout=0.1, layer_norm=True" in repr(layer)


def test_layer_norm_makes_the_output_blind_to_the_scale_of_the_weights():
    layer = gr.nn.RNN(2, 8, layer_norm=True, **FLOAT64)
    inputs, start = torch.randn(5, 3, 2, **FLOAT64), torch.randn(1, 3, 8, **FLOAT64)
    before = layer(inputs, start)[0]

    with torch.no_grad():
        layer.weight_hh_l0.mul_(100)

    # Not to rounding: the 1e-5 under the root is no longer seen.
    assert F.mse_loss(layer(inputs, start)[0], before) < 1e-4


REFUSED = [
    ("RNN", {"zoneout": 1.0}, "zoneout=1.0: expected a share from 0 to below 1"),
    ("GRU", {"zoneout": (0.1, 0.1)}, "a pair is for h and c of an LSTM"),
    ("LSTM", {"recurrent_dropout": -0.1}, "recurrent_dropout=-0.1: expected a share"),
    (
        "RNN",
        {"layer_norm": True, "residual": gr.nn.EulerStep(0.1, gamma=0.5)},
        "undoes what the antisymmetric matrix is for",
    ),
    ("LSTM", {"layer_norm": True, "proj_size": 2}, "a state smaller than the cell"),
]


@pytest.mark.parametrize(("name", "options", "words"), REFUSED, ids=str)
def test_nonsense_is_refused_with_the_reason(name, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        getattr(gr.nn, name)(3, 4, **options)
