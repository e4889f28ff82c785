"""The remedies: each computes its equation, alone and together, and nonsense is refused."""

from __future__ import annotations

import copy
import re
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradreach as gr
from gradreach.kernels.activations import ACTIVATION_NAMES, activation_of
from gradreach.nn import EulerStep

# Float64, on sums of a few dozen terms; a residual sum grows with t, so relative, too.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}
STRICT = {"rtol": 1e-5, "atol": 1e-8}  # gradcheck's default passes a backward wrong by 1e-4


def plain_step(layer, suffix, x, h, c, activation):
    """One step of the plain cell, by torch's published equations."""
    weight_hh = getattr(layer, f"weight_hh{suffix}")
    euler = layer._connections.euler
    if euler is not None and euler.antisymmetric:
        weight_hh = weight_hh - weight_hh.T - euler.gamma * torch.eye(len(weight_hh))
    now = x @ getattr(layer, f"weight_ih{suffix}").T + getattr(layer, f"bias_ih{suffix}")
    past = h @ weight_hh.T + getattr(layer, f"bias_hh{suffix}")
    if isinstance(layer, torch.nn.LSTM):
        i, f, g, o = (now + past).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * activation(g)
        return o.sigmoid() * activation(c), c
    if isinstance(layer, torch.nn.GRU):
        (r, z, n), (r_h, z_h, n_h) = now.chunk(3, -1), past.chunk(3, -1)
        n, z = activation(n + (r + r_h).sigmoid() * n_h), (z + z_h).sigmoid()
        return (1 - z) * n + z * h, None
    return activation(now + past), None


def by_definition(layer, sequence, start, activation, *, alpha, beta, skips, dilations):
    """One row (T, I) through all layers, state by state; skips maps lags to weights."""
    T = len(sequence)
    lasts = []
    for depth, dilation in enumerate(dilations):
        outputs = []
        for way in range(2 if layer.bidirectional else 1):
            suffix = f"_l{depth}" + ("_reverse" if way else "")
            place = depth * (2 if layer.bidirectional else 1) + way
            h_0, c_0 = start[0][place], start[1][place] if len(start) == 2 else None
            h, c = {}, {}

            def state(t, h=h, h_0=h_0, dilation=dilation):
                """h_t; the state given stands before each of the interleaved sequences."""
                if t >= 0:
                    return h[t]
                return h_0 if t >= -dilation else torch.zeros_like(h_0)

            for t in range(T):
                x = sequence[T - 1 - t if way else t]
                # Backwards, the interleaving is that of the real time steps.
                fresh = t - dilation < 0
                before = state(t - dilation)
                memory = c_0 if fresh or c_0 is None else c[t - dilation]
                u, c[t] = plain_step(layer, suffix, x, before, memory, activation)
                h[t] = alpha * u + (beta * before if beta else 0)
                for lag, weight in skips.items():
                    h[t] = h[t] + weight * state(t - lag * dilation)
            hs = torch.stack([h[t] for t in range(T)])
            outputs.append(hs.flip(0) if way else hs)
            lasts.append((h[T - 1], c[T - 1]))
        sequence = torch.cat(outputs, -1)
    return sequence, torch.stack([h for h, _ in lasts]), [c for _, c in lasts]


@settings(max_examples=60)
@given(
    name=st.sampled_from(["RNN", "RNN", "GRU", "LSTM"]),
    nonlinearity=st.sampled_from([*ACTIVATION_NAMES[:-1], torch.sin]),
    residual=st.sampled_from([False, True, (0.5, 0.25), "learned", EulerStep(0.01)]),
    skip=st.sampled_from([None, 2, (2, 3), (4, 20)]),
    skip_weight=st.sampled_from(["identity", 0.5, "learned"]),
    dilation=st.sampled_from([1, 2, 3, (1, 2), (3, 9)]),
    bidirectional=st.booleans(),
    T=st.integers(1, 9),
    packed=st.booleans(),
)
def test_layer_computes_its_equation(
    name, nonlinearity, residual, skip, skip_weight, dilation, bidirectional, T, packed
):
    options = {} if skip is None else {"skip": skip, "skip_weight": skip_weight}
    if name == "RNN":
        options["residual"] = residual
    layer = getattr(gr.nn, name)(
        2, 3, 2, nonlinearity=nonlinearity, dilation=dilation, bidirectional=bidirectional,
        dtype=torch.float64, **options,
    )  # fmt: skip
    B, rows = 3, 4 if bidirectional else 2
    inputs = torch.randn(T, B, 2, dtype=torch.float64)
    start = [torch.randn(rows, B, 3, dtype=torch.float64) for _ in range(1 + (name == "LSTM"))]
    lengths = torch.randint(1, T + 1, (B,)) if packed else torch.full((B,), T)
    given_inputs = pack_padded_sequence(inputs, lengths, enforce_sorted=False) if packed else inputs

    output, state = layer(given_inputs, tuple(start) if name == "LSTM" else start[0])

    output = pad_packed_sequence(output)[0] if packed else output
    h_n, c_n = state if name == "LSTM" else (state, None)
    alpha, beta, weights = numbers_of(layer, options)
    dilations = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    for row in range(B):
        length = int(lengths[row])
        wanted, wanted_h, wanted_c = by_definition(
            layer, inputs[:length, row], [part[:, row] for part in start],
            activation_of(nonlinearity), alpha=alpha, beta=beta, skips=weights,
            dilations=dilations,
        )  # fmt: skip
        torch.testing.assert_close(output[:length, row], wanted, **CLOSE)
        torch.testing.assert_close(h_n[:, row], wanted_h, **CLOSE)
        if c_n is not None:
            torch.testing.assert_close(c_n[:, row], torch.stack(wanted_c), **CLOSE)


def numbers_of(layer, options):
    """Return α, β and the weight of each lag as the arguments ask for them."""
    residual = options.get("residual", False)
    table = {False: (1.0, 0.0), True: (1.0, 1.0)}
    if residual == "learned":
        start = torch.tensor([-3.0, 3.0], dtype=torch.float64)  # FastRNN's
        alpha, beta = start.sigmoid().tolist()
    elif isinstance(residual, EulerStep):
        alpha, beta = residual.epsilon, 1.0
    else:
        alpha, beta = table.get(residual, residual)
    skip = options.get("skip", ())
    lags = skip if isinstance(skip, tuple) else (skip,)
    number = {"identity": 1.0, "learned": 1.0, 0.5: 0.5}[options.get("skip_weight", "identity")]
    return alpha, beta, dict.fromkeys(lags, number)


def test_learned_numbers_are_per_layer_and_direction_and_are_learned():
    layer = gr.nn.RNN(
        2, 3, 2, bidirectional=True, nonlinearity="modrelu", residual="learned", skip=(2, 3),
        skip_weight="learned",
    )  # fmt: skip
    own = {"alpha": (), "beta": (), "skip_weight": (2, 3), "activation_bias": (3,)}
    suffixes = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    torch.nn.init.constant_(layer.activation_bias_l0, -0.01)

    layer(torch.randn(6, 4, 2))[0].square().sum().backward()

    for name, shape in own.items():
        for suffix in suffixes:
            parameter = getattr(layer, name + suffix)
            assert parameter.shape == shape
            assert parameter.grad.abs().sum() > 0
    torchs = set(torch.nn.RNN(2, 3, 2, bidirectional=True).state_dict())
    assert set(layer.state_dict()) == torchs | {n + s for n in own for s in suffixes}


VARIANTS = {
    "residual": {"residual": True},
    "learned": {"residual": "learned"},
    "scaled": {"residual": (0.3, 0.9)},
    "antisymmetric": {"residual": EulerStep(0.1, gamma=0.5)},
    "skips": {"skip": (2, 3), "skip_weight": "learned"},
    "dilated": {"dilation": 2},
    "all": {"residual": "learned", "skip": 2, "skip_weight": "learned", "dilation": 2},
}


@pytest.mark.parametrize("variant", sorted(VARIANTS))
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_gradients_of_a_variant_are_those_of_finite_differences(name, variant):
    options = dict(VARIANTS[variant])
    if name != "RNN":
        options.pop("residual", None)
    layer = getattr(gr.nn, name)(2, 3, dtype=torch.float64, **options)
    names = [name for name, _ in layer.named_parameters()]
    inputs = torch.randn(5, 2, 2, dtype=torch.float64, requires_grad=True)

    def call(inputs, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, state, (inputs,))[0]

    assert torch.autograd.gradcheck(call, (inputs, *layer.parameters()), **STRICT)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_clip_of_the_error_leaves_outputs_and_bounds_gradients(name):
    torch.manual_seed(1)
    free = getattr(gr.nn, name)(2, 3, dtype=torch.float64)
    torch.manual_seed(1)
    clipped = getattr(gr.nn, name)(2, 3, clip_backpropagated_error=0.001, dtype=torch.float64)
    inputs = torch.randn(20, 4, 2, dtype=torch.float64)

    outputs = [layer(inputs)[0] for layer in (free, clipped)]
    for output in outputs:
        output.sum().backward()

    torch.testing.assert_close(outputs[0], outputs[1])
    # Each of the 20·4 terms is within the bound; a little more for the rounding of their sum.
    assert clipped.bias_ih_l0.grad.abs().max() <= 20 * 4 * 0.001 * (1 + 1e-12)
    assert free.bias_ih_l0.grad.abs().max() > 1


def test_residual_keeps_the_gradient_that_a_plain_layer_loses():
    inputs = torch.randn(100, 1, 2)
    reached = {}
    for residual in (False, True):
        layer = gr.nn.RNN(2, 8, residual=residual, init=("orthogonal", 0.5))
        h_0 = torch.zeros(1, 1, 8, requires_grad=True)
        layer(inputs, h_0)[0][-1].sum().backward()
        reached[residual] = float(h_0.grad.norm())

    assert reached[False] < 1e-20  # 0.5 ^ 100, at most
    assert reached[True] > 1e-3


def test_euler_growth_is_what_a_step_does_to_its_worst_direction():
    layer = gr.nn.RNN(1, 4, residual=EulerStep(0.1, gamma=0.2), dtype=torch.float64)
    weight = layer.weight_hh_l0.detach()
    matrix = torch.eye(4) + 0.1 * (weight - weight.T - 0.2 * torch.eye(4))

    growth = layer.euler_growth()

    # I + ε·M is normal (antisymmetric plus a multiple of I): its largest stretch is |1 + ε·λ|.
    assert growth == {"weight_hh_l0": pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)))}


def test_unstable_euler_step_is_warned_of_once_at_construction():
    with pytest.warns(UserWarning, match="scales its worst direction by .* a larger gamma"):
        layer = gr.nn.RNN(1, 16, residual=EulerStep(0.5))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(torch.randn(3, 2, 1))


def test_euler_growth_of_a_layer_without_one_is_refused():
    with pytest.raises(ValueError, match="this RNN takes no Euler step; build it with"):
        gr.nn.RNN(1, 2).euler_growth()


def test_init_and_forget_bias_reach_every_layer_and_come_back_on_reset():
    layer = gr.nn.LSTM(2, 4, 2, init="orthogonal", forget_bias=3.0, bidirectional=True)
    before = copy.deepcopy(layer.state_dict())

    torch.nn.init.zeros_(layer.weight_hh_l1_reverse)
    layer.reset_parameters()

    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        bias = getattr(layer, f"bias_ih{suffix}") + getattr(layer, f"bias_hh{suffix}")
        assert bias[4:8].tolist() == [3.0] * 4
        blocks = getattr(layer, f"weight_hh{suffix}").detach().chunk(4)
        for block in blocks:
            torch.testing.assert_close(block @ block.T, torch.eye(4), rtol=0, atol=1e-6)
    assert not torch.equal(before["weight_hh_l0"], layer.weight_hh_l0)


def test_line_of_a_layer_shows_its_remedies_as_arguments():
    layer = gr.nn.RNN(
        2, 3, 2, nonlinearity="elu", slope=0.5, residual=(0.5, 0.25), skip=(2, 8),
        skip_weight="learned", dilation=(1, 4), clip_backpropagated_error=1.0, init="identity",
    )  # fmt: skip

    again = eval(f"gr.nn.{layer!r}")

    assert repr(again) == repr(layer)
    assert "skip=(2, 8), skip_weight='learned', clip_backpropagated_error=1.0" in repr(layer)
    lstm = gr.nn.LSTM(2, 3, forget_bias="chrono", max_lag=9)
    assert repr(lstm) == "LSTM(2, 3, forget_bias='chrono', max_lag=9)"


REFUSED = [
    ("RNN", {"residual": "yes"}, "residual='yes': expected False, True, 'learned'"),
    ("RNN", {"residual": (1.0,)}, "two finite numbers"),
    ("RNN", {"residual": (1.0, float("inf"))}, "two finite numbers"),
    ("RNN", {"skip": 1}, "a skip of 1 is the residual connection: residual=True"),
    ("RNN", {"skip": 0}, "lags of 2 steps or more"),
    ("RNN", {"skip": (2, 2)}, "each lag once"),
    ("RNN", {"skip": 2.5}, "a number of steps, or several"),
    ("RNN", {"skip_weight": "learned"}, "there is none: give skip"),
    ("RNN", {"skip": 2, "skip_weight": "mine"}, "expected 'identity', 'learned', one number"),
    ("RNN", {"skip": (2, 3), "skip_weight": (1.0,)}, r"one number per lag (2)"),
    ("RNN", {"dilation": 0}, "dilation=0: expected 1 or more steps"),
    ("RNN", {"dilation": (1, 2)}, "names 2 layers, but num_layers=1"),
    (
        "RNN",
        {"clip_backpropagated_error": 0},
        "clip_backpropagated_error=0: expected a number above 0",
    ),
    ("RNN", {"nonlinearity": "swish"}, "Unknown nonlinearity 'swish'"),
    ("RNN", {"slope": 0.1}, "slope=0.1 belongs to leaky_relu and elu"),
    ("RNN", {"init": "best"}, "`init` must be one of"),
    ("GRU", {"residual": True}, "the GRU's update gate z already carries the state"),
    ("LSTM", {"residual": (1, 1)}, "the LSTM's cell state c already carries the state"),
    ("LSTM", {"max_lag": 10}, "max_lag=10 belongs to forget_bias='chrono': give both"),
    ("LSTM", {"forget_bias": "chrono"}, "needs `max_lag`"),
    ("LSTM", {"proj_size": 2, "skip": 4}, "proj_size=2: a state smaller than the cell"),
    ("LSTM", {"forget_bias": 1.0, "bias": False}, "built with bias=False"),
]


@pytest.mark.parametrize(("name", "options", "words"), REFUSED, ids=str)
def test_nonsense_is_refused_with_the_reason(name, options, words):
    with pytest.raises((ValueError, TypeError), match=re.escape(words)):
        getattr(gr.nn, name)(3, 4, **options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0,), "epsilon=0.0"),
        ((0.1, True, -1.0), "gamma=-1.0"),
        ((0.1, False, 0.5), "belongs to the antisymmetric matrix"),
    ],
)
def test_euler_step_that_makes_no_sense_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        EulerStep(*arguments)
