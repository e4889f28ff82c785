"""Profiles of the inputs of four architectures without a state that could be followed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import gradreach as gr

T, B, D = 24, 3, 6
EXACT = {torch.float64: 1e-12, torch.float32: 1e-6}


class GatedLinearRecurrence(nn.Module):
    """h_t = a(x_t) h_{t-1} + (1 - a(x_t)) b(x_t): the whole sequence in one call."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        keep = torch.sigmoid(self.gate(x) + 2)
        state, states = x.new_zeros(len(x), D), []
        for step in range(x.shape[1]):
            state = keep[:, step] * state + (1 - keep[:, step]) * self.value(x[:, step])
            states.append(state)
        return torch.stack(states, 1)


class DiagonalStateSpace(nn.Module):
    """A diagonal linear system as one convolution over the whole past, by FFT."""

    def __init__(self, decay: float = 0.8) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.full((D,), decay))

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[1]
        kernel = self.decay[:, None] ** torch.arange(steps, dtype=x.dtype)  # (D, T)
        spectrum = torch.fft.rfft(x.mT, 2 * steps) * torch.fft.rfft(kernel, 2 * steps)
        return torch.fft.irfft(spectrum, 2 * steps)[..., :steps].mT


class CausalTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.encoder(x, mask=mask, is_causal=True)


class TemporalConvolution(nn.Module):
    """Two causal convolutions of kernel 3, dilation 1 and 2: receptive field 1 + 2 + 4 = 7."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(D, D, 3), nn.Conv1d(D, D, 3, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        once = self.first(F.pad(x.mT, (2, 0)))
        return self.second(F.pad(once, (4, 0))).mT


ARCHITECTURES = [GatedLinearRecurrence, DiagonalStateSpace, CausalTransformer, TemporalConvolution]


class Reader(nn.Module):
    """A mixer between an embedding and a readout, with a path around it."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.embed, self.mixer, self.readout = nn.Linear(2, D), mixer, nn.Linear(D, 1)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.embed(x)
        return self.readout(embedded + self.mixer(embedded))


def profile_by_autograd(
    mixer: nn.Module, given: Tensor, arrived: Tensor, steps: list[int]
) -> np.ndarray:
    """Return the lag profile from nothing but the Jacobian of the module, step by step."""
    given = given.detach().requires_grad_()
    output = mixer(given)
    at_lag, at_zero = np.zeros(T), np.zeros(T)
    for step in steps:
        (found,) = torch.autograd.grad(output[:, step], given, arrived[:, step], retain_graph=True)
        norms = found.double().pow(2).sum(2).mean(0).sqrt().numpy()
        for lag in range(step + 1):
            at_lag[lag] += norms[step - lag]
            at_zero[lag] += norms[step]
    return at_lag[: max(steps) + 1] / at_zero[: max(steps) + 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_profile_is_that_of_autograd(architecture, dtype):
    model = Reader(architecture()).to(dtype)
    x = torch.randn(B, T, 2, dtype=dtype)
    steps = [3, 11, T - 1]
    embedded = model.embed(x).detach()
    mixed = model.mixer(embedded).detach().requires_grad_()
    model.readout(embedded + mixed).square().mean().backward()

    flow = gr.measure(model, lambda: model(x).square().mean(), inputs=["mixer"], lag_probes=steps)

    layer = flow.layers["mixer"]
    expected = profile_by_autograd(model.mixer, embedded, mixed.grad, steps)
    peak = expected.max()
    np.testing.assert_allclose(layer.lag_profile, expected, rtol=0, atol=EXACT[dtype] * peak)
    assert (layer.source, layer.exact, layer.steps, layer.batch) == ("inputs", False, T, B)


def test_gradient_of_all_inputs_is_that_through_the_module_alone():
    model = Reader(GatedLinearRecurrence()).double()
    x = torch.randn(B, T, 2, dtype=torch.float64)
    embedded = model.embed(x).detach()
    given = embedded.clone().requires_grad_()
    model.readout(embedded + model.mixer(given)).square().mean().backward()

    flow = gr.measure(model, lambda: model(x).square().mean(), inputs=["mixer"])

    expected = given.grad.norm(dim=2).mT  # the path around the mixer is not in it
    np.testing.assert_allclose(flow.layers["mixer"].per_sample, expected, rtol=1e-12)


@pytest.mark.parametrize("kernel", [1, 2, 5, 9])
@pytest.mark.parametrize("dilation", [1, 3])
def test_convolution_reaches_exactly_its_receptive_field(kernel, dilation):
    field = 1 + (kernel - 1) * dilation
    mixer = nn.Sequential(
        nn.ConstantPad1d((field - 1, 0), 0.0), nn.Conv1d(D, D, kernel, dilation=dilation)
    )
    nn.init.ones_(mixer[1].weight)
    x = torch.randn(B, D, 40)

    flow = gr.measure(mixer, lambda: mixer(x)[..., -1].sum(), inputs={"": 2})

    layer = flow.layers["sequential"]
    assert layer.reach() == field
    assert np.count_nonzero(layer.lag_profile) == kernel


def test_linear_state_space_decays_by_its_own_factor():
    mixer = DiagonalStateSpace(0.75).double()
    x = torch.randn(B, T, D, dtype=torch.float64)

    flow = gr.measure(mixer, lambda: mixer(x)[:, -1].square().mean(), inputs=True)

    layer = flow.layers["diagonalstatespace"]
    np.testing.assert_allclose(layer.lag_profile, 0.75 ** np.arange(T), rtol=1e-9)
    assert layer.decay_per_step == pytest.approx(0.75, rel=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outermost_module_that_mixes_steps_is_found(architecture):
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.body, self.head = nn.Embedding(5, D), architecture(), nn.Linear(D, 2)
            self.step_by_step = nn.Sequential(nn.Linear(D, D), nn.ReLU())

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.step_by_step(self.body(self.embed(tokens)))[:, -1])

    model, tokens = Classifier(), torch.randint(5, (B, T))

    flow = gr.measure(model, lambda: model(tokens).square().mean(), inputs=True)

    assert list(flow.layers) == ["body"]


def test_measuring_inputs_leaves_the_model_and_its_training_alone():
    def trained(measured: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = Reader(nn.Sequential(CausalTransformer(), nn.Dropout(0.2)))
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(4):
            x = torch.randn(B, T, 2)
            if measured:
                gr.measure(model, lambda x=x: model(x).square().mean(), inputs=["mixer"])
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return [*model.parameters()]

    assert all(map(torch.equal, trained(True), trained(False)))


def test_time_first_and_unbatched_inputs_are_laid_out_right():
    layer = nn.TransformerEncoderLayer(D, 2, 16, dropout=0.0)  # (T, B, D)
    x = torch.randn(T, B, D)

    flow = gr.measure(layer, lambda: layer(x)[-1].square().mean(), inputs=True)
    single = gr.measure(layer, lambda: layer(x[:, 0])[-1].square().mean(), inputs=True)

    assert (flow.layers["transformerencoderlayer"].steps, flow.layers[
        "transformerencoderlayer"].batch) == (T, B)  # fmt: skip
    assert single.layers["transformerencoderlayer"].lengths.tolist() == [T]


def test_module_that_looks_ahead_says_so():
    layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True)
    x = torch.randn(B, T, D)

    flow = gr.measure(layer, lambda: layer(x)[:, 3].square().mean(), inputs=True)

    assert any("looks ahead" in note for note in flow.layers["transformerencoderlayer"].notes)


def test_recurrent_layers_are_measured_beside_inputs():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.rnn = TemporalConvolution(), nn.GRU(D, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(self.conv(x))[0]

    model, x = Both(), torch.randn(B, T, D)

    flow = gr.measure(model, lambda: model(x)[:, -1].sum(), inputs=["conv"])

    assert {n: layer.source for n, layer in flow.layers.items()} == {
        "rnn.l0": "fused", "conv": "inputs"
    }  # fmt: skip
    assert flow.layers["conv"].reach(1e-12) == 7


def test_nonfinite_input_is_located():
    mixer, x = TemporalConvolution(), torch.randn(B, T, D)
    x[1, 5, 0] = float("nan")

    flow = gr.measure(mixer, lambda: mixer(x).sum(), inputs=True)

    assert str(flow.layers["temporalconvolution"].nonfinite) == (
        "first NaN or infinity in the input of step 5, batch row 1"
    )


def test_short_receptive_field_is_told_without_words_about_a_recurrence():
    mixer, x = TemporalConvolution(), torch.randn(B, T, D)
    flow = gr.measure(mixer, lambda: mixer(x)[:, -1].square().mean(), inputs=True)

    (found,) = gr.diagnose(flow, needs_lag=20)

    assert (found.code, found.severity, found.remedies) == ("vanishing-gradient", "error", ())
    assert "recurrence" not in found.cause


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("mixer", "got the string 'mixer': write inputs="),
        (["mixr"], "names 'mixr', which is no module"),
        ({"mixer": "time"}, "the dimension that counts time as a number"),
    ],
)
def test_wrong_choice_is_refused(which, message):
    model, x = Reader(TemporalConvolution()), torch.randn(B, T, 2)

    with pytest.raises((TypeError, ValueError), match=message):
        gr.measure(model, lambda: model(x).sum(), inputs=which)


@pytest.mark.parametrize(
    ("name", "mixer", "reason"),
    [
        ("steps", nn.Conv1d(D, D, 3), "it returns 22 steps for 24"),
        ("frozen", nn.Conv1d(D, D, 1).requires_grad_(False), None),
    ],
)
def test_module_without_one_output_a_step_is_blind(name, mixer, reason):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixer, self.rnn = mixer, nn.RNN(D, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(self.mixer(x).mT)[0]

    model, x = Model(), torch.randn(B, D, T)

    flow = gr.measure(model, lambda: model(x).sum(), inputs=["mixer"])

    assert "rnn.l0" in flow.layers
    assert any(reason in str(spot) for spot in flow.blind) if reason else "mixer" in flow.layers


def test_reentrant_checkpoint_is_blind_with_the_reason():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixer, self.rnn = TemporalConvolution(), nn.RNN(D, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(checkpoint(self.mixer, x, use_reentrant=True))[0]

    model, x = Model(), torch.randn(B, T, D, requires_grad=True)

    flow = gr.measure(model, lambda: model(x).sum(), inputs=["mixer"])

    assert [spot.module for spot in flow.blind] == ["mixer"]
