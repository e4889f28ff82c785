"""The cells: torch's without remedies, one step of our layers with them."""

from __future__ import annotations

import pytest
import torch

import gradreach as gr

NAMES = ["RNN", "GRU", "LSTM"]
CUSTOM = {"nonlinearity": torch.sin}  # the slower path, whatever else is asked


@pytest.mark.parametrize("name", NAMES)
def test_cell_without_remedies_is_torchs(name):
    torchs = getattr(torch.nn, f"{name}Cell")(3, 5)
    ours = getattr(gr.nn, f"{name}Cell")(3, 5)
    ours.load_state_dict(torchs.state_dict())
    inputs = torch.randn(4, 3)

    torch.testing.assert_close(ours(inputs), torchs(inputs), rtol=0, atol=0)
    assert repr(ours) == repr(torchs)
    assert isinstance(ours, type(torchs))


OPTIONS = {
    "plain": ("RNN", {"nonlinearity": "softsign"}),
    "residual": ("RNN", {"residual": True}),
    "learned": ("RNN", {"residual": "learned", "nonlinearity": "modrelu"}),
    "antisymmetric": ("RNN", {"residual": gr.nn.EulerStep(0.1, gamma=0.5)}),
    "clipped": ("RNN", {"clip_backpropagated_error": 0.01}),
    "gru": ("GRU", {"nonlinearity": "relu"}),
    "gru clipped": ("GRU", {"clip_backpropagated_error": 0.01, "forget_bias": 2.0}),
    "lstm": ("LSTM", {"nonlinearity": "elu", "slope": 0.5}),
    "lstm without bias": ("LSTM", {"nonlinearity": torch.sin, "bias": False}),
}


@pytest.mark.parametrize("case", sorted(OPTIONS))
def test_loop_over_a_cell_equals_the_layer(case):
    name, options = OPTIONS[case]
    layer = getattr(gr.nn, name)(3, 5, dtype=torch.float64, **options)
    cell = getattr(gr.nn, f"{name}Cell")(3, 5, dtype=torch.float64, **options)
    cell.load_state_dict({key[: -len("_l0")]: v for key, v in layer.state_dict().items()})
    inputs = torch.randn(6, 4, 3, dtype=torch.float64)

    state, outputs = None, []
    for now in inputs:
        state = cell(now, state)
        outputs.append(state[0] if name == "LSTM" else state)
    looped = torch.stack(outputs)
    looped.sum().backward()
    output, _ = layer(inputs)
    output.sum().backward()

    torch.testing.assert_close(looped, output, rtol=0, atol=1e-12)
    for key, parameter in cell.named_parameters():
        wanted = getattr(layer, f"{key}_l0").grad
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_unbatched_step_is_the_row_of_a_batch(name):
    cell = getattr(gr.nn, f"{name}Cell")(3, 5, **CUSTOM)
    inputs, hidden = torch.randn(1, 3), torch.randn(1, 5)
    state = (hidden, hidden) if name == "LSTM" else hidden
    row = (hidden[0], hidden[0]) if name == "LSTM" else hidden[0]

    batched, single = cell(inputs, state), cell(inputs[0], row)

    first = [part[0] for part in batched] if name == "LSTM" else [batched[0]]
    for wanted, got in zip(first, single if name == "LSTM" else [single], strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


BAD_CALLS = {
    "three dimensions": lambda x, h: (x[None], None),
    "state of three dimensions": lambda x, h: (x, h[None]),
    "another input size": lambda x, h: (x[:, :2], None),
    "state of another size": lambda x, h: (x, h[:, :4]),
    "state of another batch": lambda x, h: (x, h[:1]),
    "another dtype": lambda x, h: (x.double(), None),
}


@pytest.mark.parametrize("case", sorted(BAD_CALLS))
@pytest.mark.parametrize("name", NAMES)
def test_bad_call_fails_as_torchs_does(name, case):
    torchs = getattr(torch.nn, f"{name}Cell")(3, 5)
    ours = getattr(gr.nn, f"{name}Cell")(3, 5, **CUSTOM)
    inputs, hx = BAD_CALLS[case](torch.randn(4, 3), torch.randn(4, 5))
    if hx is not None and name == "LSTM":
        hx = (hx, hx)

    with pytest.raises((RuntimeError, ValueError)) as wanted:
        torchs(inputs, hx)
    with pytest.raises(type(wanted.value)) as got:
        ours(inputs, hx)

    if case != "another dtype":  # a matter of torch's matrix product, which words it
        assert str(got.value) == str(wanted.value)


@pytest.mark.parametrize("name", ["GRU", "LSTM"])
def test_residual_of_a_gated_cell_is_refused_with_the_reason(name):
    with pytest.raises(ValueError, match=f"the {name}Cell's .* already carries the state"):
        getattr(gr.nn, f"{name}Cell")(3, 5, residual=True)


def test_cell_prints_its_remedies():
    cell = gr.nn.RNNCell(2, 3, bias=False, nonlinearity="relu", residual=True, init="identity")

    assert repr(cell) == (
        "RNNCell(2, 3, bias=False, nonlinearity='relu', residual=True, init='identity')"
    )
