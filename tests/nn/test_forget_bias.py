"""The bias of the keeping gate: the right slice, once, for every layer and direction."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gradreach.nn.forget_bias import set_forget_bias
from gradreach.nn.layer_weights import LayerWeights, layer_weights

H = 8
GATED = [
    pytest.param(lambda **more: nn.LSTM(3, H, num_layers=2, bidirectional=True, **more), id="lstm"),
    pytest.param(lambda **more: nn.GRU(3, H, num_layers=2, bidirectional=True, **more), id="gru"),
    pytest.param(lambda **more: nn.LSTM(3, H, proj_size=2, **more), id="projected-lstm"),
    pytest.param(lambda **more: nn.LSTMCell(3, H, **more), id="lstm-cell"),
    pytest.param(lambda **more: nn.GRUCell(3, H, **more), id="gru-cell"),
]


def silenced(layer):
    """Leave only the biases of the keeping gate to speak."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    return layer


@pytest.mark.parametrize("bias", [-2.0, 0.0, 1, 4.0])
def test_lstm_keeps_sigmoid_of_forget_bias_per_step(bias):
    lstm = silenced(nn.LSTM(3, H, dtype=torch.float64))
    cell = torch.rand(1, 2, H, dtype=torch.float64)

    set_forget_bias(lstm, bias)
    _, (_, after) = lstm(torch.randn(5, 2, 3, dtype=torch.float64), (torch.zeros_like(cell), cell))

    # tanh(g) is 0 here: c is multiplied by σ(b) at each of the 5 steps and nothing is added.
    assert_close(after, cell * torch.sigmoid(torch.tensor(bias, dtype=torch.float64)) ** 5)


@pytest.mark.parametrize("bias", [-2.0, 0.0, 1, 4.0])
def test_gru_keeps_sigmoid_of_forget_bias_per_step(bias):
    gru = silenced(nn.GRU(3, H, dtype=torch.float64))
    hidden = torch.rand(1, 2, H, dtype=torch.float64)

    set_forget_bias(gru, bias)
    _, after = gru(torch.randn(5, 2, 3, dtype=torch.float64), hidden)

    assert_close(after, hidden * torch.sigmoid(torch.tensor(bias, dtype=torch.float64)) ** 5)


@pytest.mark.parametrize("build", GATED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_number_goes_once_into_every_layer_and_leaves_other_biases(build, dtype):
    layer = build(dtype=dtype)
    before = {name: parameter.clone() for name, parameter in layer.named_parameters()}
    identities = [(id(p), p.data_ptr(), p.dtype) for p in layer.parameters()]

    set_forget_bias(layer, 3.0)

    assert [(id(p), p.data_ptr(), p.dtype) for p in layer.parameters()] == identities
    assert all(p.is_leaf and p.requires_grad for p in layer.parameters())
    for name, parameter in layer.named_parameters():
        if "bias" in name:
            expected = 3.0 if "bias_ih" in name else 0.0
            assert (parameter[H : 2 * H] == expected).all()
            before[name][H : 2 * H] = expected
        assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("build", GATED)
def test_chrono_leaves_what_it_does_not_name(build):
    layer = build()
    before = {name: parameter.clone() for name, parameter in layer.named_parameters()}

    set_forget_bias(layer, "chrono", max_lag=100)

    for weights in layer_weights(layer):
        assert not weights.bias_hh[H : 2 * H].any()
        keep = weights.bias_ih[H : 2 * H]
        assert ((keep >= 0) & (keep <= math.log(99) + 1e-6)).all() and keep.unique().numel() == H
        start = 0
        if weights.kind == "lstm":
            assert torch.equal(weights.bias_ih[:H], -keep)
            assert not weights.bias_hh[:H].any()
            start = 2 * H  # i and f are chrono's, g and o are not
        for name in ("bias_ih", "bias_hh"):
            now, was = getattr(weights, name), before[name + weights.suffix]
            assert torch.equal(now[start:H], was[start:H])
            assert torch.equal(now[2 * H :], was[2 * H :])
    assert all(torch.equal(layer.get_parameter(n), p) for n, p in before.items() if "weight" in n)


@pytest.mark.parametrize("max_lag", [3, 750, 10_000])
@pytest.mark.parametrize("build", [nn.LSTM, nn.GRU])
def test_chrono_spreads_lags_evenly(build, max_lag):
    layer = build(1, 2000, dtype=torch.float64)

    set_forget_bias(layer, "chrono", max_lag=max_lag)

    lags = layer.bias_ih_l0.detach()[2000:4000].exp().sort().values
    expected = 1 + (max_lag - 2) * (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    # Kolmogorov-Smirnov: 1.95/√n is exceeded by one sample in a thousand; the seed is fixed.
    assert (lags - expected).abs().max() / (max_lag - 2) < 1.95 / math.sqrt(2000)


def test_chrono_of_shortest_lag_is_zero():
    lstm = nn.LSTM(1, H)

    set_forget_bias(lstm, "chrono", max_lag=2)

    assert not lstm.bias_ih_l0[: 2 * H].any()


def test_chrono_carries_a_gradient_where_torchs_start_does_not():
    def share_left(lstm):
        cell = torch.zeros(1, 1, 64, dtype=torch.float64, requires_grad=True)
        _, (_, after) = lstm(
            torch.randn(200, 1, 1, dtype=torch.float64), (torch.zeros_like(cell), cell)
        )
        return torch.autograd.grad(after.sum(), cell)[0].norm().item() / 8

    lstm = nn.LSTM(1, 64, dtype=torch.float64)
    before = share_left(lstm)
    set_forget_bias(lstm, "chrono", max_lag=200)

    # σ(b) = 1 - 1/(1 + lag): over 200 steps a unit keeps (1 + 1/lag)^-200, which for the median
    # lag of 100 is e^-2 = 0.14, while 0.5^200 is 6e-61.
    assert before < 1e-20
    assert 0.05 < share_left(lstm) < 1.0


def test_generator_decides_alone():
    first, second = nn.LSTM(3, H), nn.LSTM(3, H)
    stream = torch.get_rng_state()

    set_forget_bias(first, "chrono", 50, generator=torch.Generator().manual_seed(1))
    set_forget_bias(second, "chrono", 50, generator=torch.Generator().manual_seed(1))

    assert torch.equal(first.bias_ih_l0[: 2 * H], second.bias_ih_l0[: 2 * H])
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.gpu
def test_generator_of_the_cpu_serves_a_layer_on_the_gpu():
    here, there = nn.LSTM(3, H), nn.LSTM(3, H, device="cuda")

    for layer in (here, there):
        set_forget_bias(layer, "chrono", 50, generator=torch.Generator().manual_seed(1))

    assert_close(there.bias_ih_l0[: 2 * H].cpu(), here.bias_ih_l0[: 2 * H])


def test_bare_tensors_are_set_like_a_layer():
    zeros = torch.zeros(4 * H)
    weights = LayerWeights(
        torch.zeros(4 * H, 2), torch.zeros(4 * H, H), zeros, torch.ones(4 * H), hidden_size=H
    )

    set_forget_bias(weights, 1.5)

    assert zeros.tolist() == [0.0] * H + [1.5] * H + [0.0] * 2 * H


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chrono",), '"chrono" needs `max_lag`'),
        (("chrono", 1.5), "from 2 up, but got 1.5"),
        (("chrono", math.inf), "from 2 up, but got inf"),
        (("chrono", math.nan), "from 2 up, but got nan"),
        ((1.0, 100), '`max_lag` belongs to "chrono"'),
        (("long",), "must be a finite number or \"chrono\", but is 'long'"),
        ((math.nan,), "but is nan"),
        ((True,), "but is True"),
        ((None,), "but is None"),
    ],
)
def test_unfit_bias_is_refused_and_changes_nothing(arguments, message):
    lstm = nn.LSTM(3, H)
    before = [p.clone() for p in lstm.parameters()]

    with pytest.raises(ValueError, match=message):
        set_forget_bias(lstm, *arguments)

    assert all(map(torch.equal, lstm.parameters(), before))


@pytest.mark.parametrize("build", [nn.RNN, nn.RNNCell])
def test_plain_rnn_has_no_forget_gate(build):
    with pytest.raises(ValueError, match="no forget gate"):
        set_forget_bias(build(3, H), 1.0)


@pytest.mark.parametrize("build", [nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell])
def test_layer_without_bias_is_refused(build):
    with pytest.raises(ValueError, match="build it with bias=True"):
        set_forget_bias(build(3, H, bias=False), 1.0)
