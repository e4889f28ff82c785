"""16-bit layers, pure and under autocast, are held against a float64 unroll."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracles.unrolled import measure_unrolled
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import gradreach as gr

T, B, I, H = 24, 3, 6, 12  # noqa: E741
EPS = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
# Each step back multiplies by a Jacobian whose φ', gates and states carry one rounding each, so
# that ℓ steps back the relative error is of the order of ℓ·ε at most (they are as often one way as
# the other); the loss gradient itself and the drift of the states add a few ε. Worst seen over 80
# nets: 0.21 of that.
FACTOR = 1.0
KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def data_of(output: Any) -> Tensor:
    sequence = output[0]
    return sequence.data if isinstance(sequence, PackedSequence) else sequence


def read(outputs: list[Any]) -> Tensor:
    """A loss on the last step (packed: on all), each unit with a weight of its own."""
    data = data_of(outputs[0])
    data = data[-1:] if data.dim() == 3 else data
    dtype = torch.float64 if data.dtype == torch.float64 else torch.float32
    weights = torch.linspace(-1, 1, data.shape[-1], dtype=dtype)
    return (data.to(dtype) * weights).sum() / len(data)


def rounded(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a float64 copy whose weights are what a 16-bit pass multiplies with."""
    copy = deepcopy(module).to(dtype).double()
    return copy


def assert_profile_of(flow: gr.GradientFlow, layers: dict[str, Any], dtype: torch.dtype) -> None:
    for suffix, reference in layers.items():
        layer = flow.layers[f"rnn.{suffix}"]
        expected = reference.norms
        steps_back = np.arange(len(expected))[::-1] + 1
        # What the type cannot hold is no claim: fp16 ends at 6e-8, bf16 at 1e-38.
        floor = {torch.float16: 1e-6, torch.bfloat16: 1e-30}[dtype]
        held = expected > floor
        error = np.abs(layer.state_gradient_norms[held] / expected[held] - 1)
        assert (error <= FACTOR * EPS[dtype] * (steps_back[held] + 3)).all(), suffix
        assert layer.dtype == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.parametrize("mode", ["pure", "autocast"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_state_gradients_of_16_bits_follow_the_float64_unroll(
    kind, dtype, mode, form, layers, bidirectional
):
    if (kind, mode, dtype, form) == ("lstm", "autocast", torch.float16, "padded"):
        pytest.skip("torch's own CPU kernel refuses an LSTM in float16 under autocast")
    rnn = KINDS[kind](I, H, num_layers=layers, bidirectional=bidirectional)
    model = nn.ModuleDict({"rnn": rnn})
    x = torch.randn(T, B, I)
    if mode == "pure":
        model, x = model.to(dtype), x.to(dtype)
    exact: Any = x.to(dtype).double()
    given: Any = x
    if form == "packed":
        lengths = [T, 11, 2]
        given, exact = pack_padded_sequence(x, lengths), pack_padded_sequence(exact, lengths)

    def closure() -> Tensor:
        with torch.autocast("cpu", dtype=dtype) if mode == "autocast" else nullcontext():
            output = rnn(given)
        return read([output])

    flow = gr.measure(model, closure)

    (layers_of,) = measure_unrolled(rounded(rnn, dtype), [exact], read)
    assert_profile_of(flow, layers_of, dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_loop_over_a_cell_under_autocast_is_measured(kind, dtype):
    cell = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[kind](I, H)
    layer = KINDS[kind](I, H).double()
    with torch.no_grad():
        for name, weight in cell.named_parameters():
            getattr(layer, f"{name}_l0").copy_(weight.to(dtype))
    x = torch.randn(T, B, I)

    def closure() -> Tensor:
        state, states = None, []
        with torch.autocast("cpu", dtype=dtype):
            for step in x:
                state = cell(step, state)
                states.append(state[0] if kind == "lstm" else state)
        return read([(torch.stack(states).float(),)])

    flow = gr.measure(nn.ModuleDict({"rnn": cell}), closure)

    (layers_of,) = measure_unrolled(layer, [x.to(dtype).double()], read)
    measured = flow.layers["rnn"]
    expected = layers_of["l0"].norms
    steps_back = np.arange(T)[::-1] + 4
    error = np.abs(measured.state_gradient_norms - expected) / expected
    assert (error <= FACTOR * EPS[dtype] * steps_back).all()


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_of_16_bits_sum_to_the_gradient_of_the_pass(kind):
    model = nn.ModuleDict({"rnn": KINDS[kind](I, H, num_layers=2)})
    x = torch.randn(T, B, I)

    def closure() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return read([model["rnn"](x)])

    flow = gr.measure(model, closure)

    for layer in flow.layers.values():
        assert set(layer.closure_reference.values()) == {"backward"}
        assert max(layer.closure_error.values()) < 8 * EPS[torch.bfloat16]


def test_scaled_loss_of_a_grad_scaler_is_measured_in_float16():
    """Without the factor float16 loses the tail; with it the profile is that of float32."""
    rnn = nn.GRU(I, H)
    model, x = nn.ModuleDict({"rnn": rnn}), torch.randn(T, B, I)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)

    def closure(scale: bool) -> Tensor:
        with torch.autocast("cpu", dtype=torch.float16, enabled=scale):
            loss = rnn(x)[0][-1].float().square().mean()
        return scaler.scale(loss) if scale else loss

    half = gr.measure(model, lambda: closure(True)).layers["rnn"]
    single = gr.measure(model, lambda: closure(False)).layers["rnn"]

    steps_back = np.arange(T) + 4
    error = np.abs(half.lag_profile / single.lag_profile - 1)
    assert (error <= FACTOR * EPS[torch.float16] * steps_back).all()
    assert half.reach() == single.reach()


def test_training_in_16_bits_is_left_alone():
    def trained(measured: bool) -> list[Tensor]:
        torch.manual_seed(1)
        model = nn.ModuleDict({"rnn": nn.LSTM(I, H, 2, dropout=0.3)})
        optimizer = torch.optim.Adam(model.parameters())

        def loss(x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return model["rnn"](x)[0].float().square().mean()

        for _ in range(4):
            x = torch.randn(T, B, I)
            if measured:
                gr.measure(model, lambda x=x: loss(x))
            optimizer.zero_grad()
            loss(x).backward()
            optimizer.step()
        return [*model.parameters()]

    assert all(map(torch.equal, trained(True), trained(False)))


OWN = {
    "rnn": lambda: gr.nn.RNN(I, H, 2),
    "gru": lambda: gr.nn.GRU(I, H, skip=3),
    "lstm": lambda: gr.nn.LSTM(I, H, bidirectional=True),
    "fast rnn": lambda: gr.nn.RNN(I, H, nonlinearity="relu", init="identity", residual="learned"),
}


@pytest.mark.parametrize("mode", ["pure", "autocast"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", OWN)
def test_layer_of_ours_computes_16_bits_in_float32_and_is_measured_there(kind, dtype, mode):
    rnn = OWN[kind]()
    x = torch.randn(T, B, I)
    if mode == "pure":
        rnn, x = rnn.to(dtype), x.to(dtype)

    def closure() -> Tensor:
        with torch.autocast("cpu", dtype=dtype, enabled=mode == "autocast"):
            return read([rnn(x)])

    half = gr.measure(nn.ModuleDict({"rnn": rnn}), closure)
    single = deepcopy(rnn).float()
    expected = gr.measure(nn.ModuleDict({"rnn": single}), lambda: read([single(x.float())]))

    for name, layer in half.layers.items():
        right = expected.layers[name].state_gradient_norms
        error = layer.state_gradient_norms[right > 0] / right[right > 0] - 1
        # Only the output and the gradient that arrives at it are rounded, once.
        assert np.abs(error).max() <= EPS[dtype]
        assert max(layer.closure_error.values()) < (
            8 * EPS[dtype] if mode == "pure" else 1e-5
        )  # fmt: skip
