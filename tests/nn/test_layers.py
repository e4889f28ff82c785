"""Without remedies our layers are torch's: numbers, gradients, call forms, state dicts, errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import gradreach as gr

NAMES = ["RNN", "GRU", "LSTM"]

# Absolute, on numbers of size 1 after at most 9 steps of at most 3 layers. float64: a few
# hundred roundings of 1e-16, taken generously. float32: oneDNN's LSTM, torch's own, uses
# approximations of exp that are off by some 1e-7 each.
CLOSE = {torch.float64: 1e-12, torch.float32: 5e-6}


def pair(name: str, *arguments, **options):
    """Return torch's layer and ours with the same weights."""
    torchs = getattr(torch.nn, name)(*arguments, **options)
    ours = getattr(gr.nn, name)(*arguments, **options)
    ours.load_state_dict(torchs.state_dict())
    return torchs, ours


def leaves_of(result) -> list[torch.Tensor]:
    """Return output, h_n and c_n of a call as plain tensors."""
    output, state = result
    data = output.data if hasattr(output, "batch_sizes") else output
    return [data, *(state if isinstance(state, tuple) else [state])]


def assert_same_call(torchs, ours, inputs, hx=None, seed=0):
    """Outputs, states and all gradients agree; the same random draws are made."""
    results = []
    for layer in (torchs, ours):
        layer.zero_grad()
        torch.manual_seed(seed)
        leaves = leaves_of(layer(inputs, hx))
        weight = [torch.linspace(-1, 1, p.numel(), dtype=p.dtype).view(p.shape) for p in leaves]
        sum((a * b).sum() for a, b in zip(leaves, weight, strict=True)).backward()
        gradients = [parameter.grad for parameter in layer.parameters()]
        results.append([leaf.detach() for leaf in leaves] + gradients)
    tolerance = CLOSE[results[0][0].dtype]
    for wanted, got in zip(*results, strict=True):
        size = max(1.0, float(wanted.abs().max())) if wanted.numel() else 1.0
        torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * size)
        assert got.stride() == wanted.stride() or got.dim() == 1


def given_state(name: str, shape: tuple[int, ...], dtype: torch.dtype):
    hidden = torch.randn(shape, dtype=dtype)
    return (hidden, torch.randn(shape, dtype=dtype)) if name == "LSTM" else hidden


@settings(max_examples=60)
@given(
    name=st.sampled_from(NAMES),
    sizes=st.tuples(*[st.integers(1, high) for high in (9, 4, 3, 5)]),
    layers=st.integers(1, 3),
    switches=st.tuples(*[st.booleans()] * 4),
    dtype=st.sampled_from(list(CLOSE)),
    form=st.sampled_from(["batch", "no batch", "packed", "packed unsorted"]),
    strided=st.booleans(),
)
def test_layer_equals_torchs(name, sizes, layers, switches, dtype, form, strided):
    T, B, input_size, H = sizes
    bidirectional, batch_first, bias, with_state = switches
    torchs, ours = pair(
        name, input_size, H, layers, bias=bias, batch_first=batch_first,
        bidirectional=bidirectional, dropout=0.5 if layers > 1 else 0.0, dtype=dtype,
    )  # fmt: skip
    rows = layers * (2 if bidirectional else 1)
    inputs = torch.randn(B if batch_first else T, T if batch_first else B, input_size, dtype=dtype)
    if strided:
        inputs = torch.randn(*inputs.shape[::-1], dtype=dtype).permute(2, 1, 0)
    hx = given_state(name, (rows, B, H), dtype)
    if form == "no batch":
        inputs = inputs.select(0 if batch_first else 1, 0)
        hx = tuple(p[:, 0] for p in hx) if name == "LSTM" else hx[:, 0]
    elif form != "batch":
        lengths = torch.randint(1, T + 1, (B,))
        unsorted = form == "packed unsorted"
        lengths = lengths if unsorted else lengths.sort(descending=True).values
        inputs = pack_padded_sequence(inputs, lengths, batch_first, enforce_sorted=not unsorted)

    assert_same_call(torchs, ours, inputs, hx if with_state else None)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("p", [0.3, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_dropout_between_layers_draws_torchs_masks(name, p, packed):
    torchs, ours = pair(name, 4, 8, 3, dropout=p, bidirectional=True, dtype=torch.float64)
    inputs = torch.randn(7, 5, 4, dtype=torch.float64)
    if packed:
        inputs = pack_padded_sequence(inputs, [7, 7, 4, 2, 1])

    assert_same_call(torchs, ours, inputs, seed=3)

    assert_same_call(torchs.eval(), ours.eval(), inputs)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_nonlinearities_of_torch_are_torchs(nonlinearity):
    torchs, ours = pair("RNN", 3, 5, nonlinearity=nonlinearity, dtype=torch.float64)

    assert_same_call(torchs, ours, torch.randn(6, 2, 3, dtype=torch.float64))


def test_lstm_with_projection_is_torchs():
    torchs, ours = pair("LSTM", 3, 5, 2, proj_size=2, dtype=torch.float64)

    assert_same_call(torchs, ours, torch.randn(6, 2, 3, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_state_dicts_fit_both_ways_and_start_from_torchs_draws(name):
    torch.manual_seed(5)
    torchs = getattr(torch.nn, name)(3, 5, 2, bidirectional=True)
    torch.manual_seed(5)
    ours = getattr(gr.nn, name)(3, 5, 2, bidirectional=True)

    assert list(ours.state_dict()) == list(torchs.state_dict())
    for key, value in torchs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)
    torchs.load_state_dict(ours.state_dict(), strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_layer_is_an_instance_of_torchs_and_prints_as_it(name):
    ours = getattr(gr.nn, name)(3, 5, 2, batch_first=True)

    assert isinstance(ours, getattr(torch.nn, name))
    assert repr(ours) == repr(getattr(torch.nn, name)(3, 5, 2, batch_first=True))


@pytest.mark.parametrize("name", NAMES)
def test_batch_of_no_rows_gives_no_rows(name):
    output, state = getattr(gr.nn, name)(3, 5)(torch.randn(4, 0, 3))

    h_n = state[0] if name == "LSTM" else state
    assert output.shape == (4, 0, 5) and h_n.shape == (1, 0, 5)


BAD_CALLS = {
    "four dimensions": lambda x, h: (x[None], None),
    "another input size": lambda x, h: (x[..., :2], None),
    "another dtype": lambda x, h: (x.double(), None),
    "no steps": lambda x, h: (x[:0], None),
    "state of another batch": lambda x, h: (x, h[:, :1]),
    "state of another size": lambda x, h: (x, h[..., :4]),
    "state of another depth": lambda x, h: (x, torch.cat([h, h])),
    "state with batch, input without": lambda x, h: (x[:, 0], h),
    "state without batch, input with": lambda x, h: (x, h[:, 0]),
    "packed of another input size": lambda x, h: (pack_padded_sequence(x[..., 1:], [3, 2]), None),
    "packed, state of another batch": lambda x, h: (pack_padded_sequence(x, [3, 2]), h[:, :1]),
}


@pytest.mark.parametrize("case", sorted(BAD_CALLS))
@pytest.mark.parametrize("name", NAMES)
def test_bad_call_fails_as_torchs_does(name, case):
    torchs, ours = pair(name, 3, 5)
    inputs, hx = BAD_CALLS[case](torch.randn(3, 2, 3), torch.randn(1, 2, 5))
    if hx is not None and name == "LSTM":
        hx = (hx, hx)

    errors = []
    for layer in (torchs, ours):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            layer(inputs, hx)
        errors.append(caught)

    assert type(errors[1].value) is type(errors[0].value)
    if name == "LSTM" and case.startswith("packed"):
        return  # torch leaves these to its kernel, whose words are about its own matrices
    # torch's RNN and GRU say "4D tensor instead", its LSTM "4D instead".
    said, wanted = (str(e.value).replace("D tensor instead", "D instead") for e in errors)
    assert said == wanted


BAD_LAYERS = [
    {"hidden_size": 0},
    {"input_size": 0},
    {"hidden_size": 2.0},
    {"num_layers": 0},
    {"dropout": 2.0},
    {"bias": 1},
    {"batch_first": 1},
]


@pytest.mark.parametrize("bad", BAD_LAYERS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_bad_constructor_fails_as_torchs_does(name, bad):
    options = {"input_size": 2, "hidden_size": 3} | bad

    with pytest.raises((TypeError, ValueError)) as wanted:
        getattr(torch.nn, name)(**options)
    with pytest.raises(type(wanted.value)) as got:
        getattr(gr.nn, name)(**options)

    assert str(got.value) == str(wanted.value)


@pytest.mark.parametrize("name", ["RNN", "GRU"])
def test_projection_is_the_lstms_alone(name):
    with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
        getattr(gr.nn, name)(2, 3, proj_size=1)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_batch_without_sequences_has_gradients_of_zero(name):
    """The memory of a gradient that nobody writes holds whatever was there before."""
    layer = getattr(gr.nn, name)(3, 4)

    output, _ = layer(torch.randn(5, 0, 3))
    output.sum().backward()

    assert output.shape == (5, 0, 4)
    for weight in layer.parameters():
        assert torch.equal(weight.grad, torch.zeros_like(weight))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_packed_data_shorter_than_its_sizes_is_refused_as_torch_does(kind):
    layer, torchs = getattr(gr.nn, kind)(3, 5), getattr(torch.nn, kind)(3, 5)
    packed = PackedSequence(torch.randn(5, 3), torch.tensor([3, 3, 2]))

    with pytest.raises(RuntimeError):
        torchs(packed)
    with pytest.raises(RuntimeError, match="Expected packed data of 8 rows, .* got 5"):
        layer(packed)
