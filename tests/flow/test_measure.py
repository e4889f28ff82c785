"""`measure` on the models and mistakes that users bring."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradreach as gr
from gradreach.errors import NotMeasurableError


class Classifier(nn.Module):
    """Dropout, batch norm and a recurrent layer: everything a pass may leave a trace in."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, num_layers=2, dropout=0.4, batch_first=True)
        self.norm = nn.BatchNorm1d(5)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(5, 1)
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.rnn(x)
        self.seen = output
        return self.head(self.drop(self.norm(output[:, -1])))


def last_step_loss(module: nn.Module, x: Tensor) -> Tensor:
    return module(x)[0][-1].square().mean()


def picture(model: nn.Module) -> list[bytes]:
    """Everything that must not change, as bytes."""
    tensors = [*model.state_dict().values()]
    tensors += [p.grad for p in model.parameters() if p.grad is not None]
    found = [tensor.detach().numpy().tobytes() for tensor in tensors]
    found += [torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()]
    found += [repr(random.getstate()).encode()]
    for name, module in model.named_modules():
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
        found.append(f"{name} {module.training} {hooks}".encode())
    found += [f"{n} {p.requires_grad}".encode() for n, p in model.named_parameters()]
    return found


@pytest.mark.parametrize("raises", [False, True])
def test_measure_leaves_everything_bit_identical(raises):
    model = Classifier()
    model(torch.randn(4, 7, 3)).sum().backward()
    before, hooks = picture(model), len(torch.nn.modules.module._global_forward_hooks)
    gradients = [p.grad for p in model.parameters()]

    def closure():
        model.eval()
        model.train()
        np.random.rand(3)
        random.random()
        model.head.weight.requires_grad_(False)
        loss = model(torch.randn(4, 7, 3)).square().mean()
        with torch.no_grad():
            model.head.bias.add_(1.0)
        if raises:
            raise KeyError("the user's own")
        return loss

    if raises:
        with pytest.raises(KeyError, match="the user's own"):
            gr.measure(model, closure)
    else:
        gr.measure(model, closure)

    assert picture(model) == before
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert len(torch.nn.modules.module._global_forward_hooks) == hooks
    assert model.seen is not None and model.seen.grad_fn is not None  # the earlier pass's own


def test_measured_run_trains_to_the_same_weights():
    def trained(watched: bool) -> list[Tensor]:
        torch.manual_seed(3)
        model = Classifier()
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(5):
            x = torch.randn(4, 7, 3)
            if watched:
                gr.measure(model, lambda x=x: model(x).square().mean())
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    for plain, watched in zip(trained(False), trained(True), strict=True):
        assert torch.equal(plain, watched)


def test_weight_decay_in_the_loss_is_told_apart_by_the_second_opinion():
    rnn, x = nn.GRU(3, 6, bidirectional=True), torch.randn(9, 2, 3)

    def closure():
        decay = sum(p.square().sum() for p in rnn.parameters())
        return last_step_loss(rnn, x) + 0.1 * decay

    layer = gr.measure(rnn, closure).layers["gru.l0"]

    assert layer.closure_reference["weight_hh_l0"] == "replay"
    assert layer.closure_error["weight_hh_l0"] < 1e-5
    plain = gr.measure(rnn, lambda: last_step_loss(rnn, x)).layers["gru.l0"]
    np.testing.assert_allclose(
        layer.contributions["weight_hh_l0"], plain.contributions["weight_hh_l0"], rtol=1e-5
    )
    assert layer.outside_gradient["weight_hh_l0"] > 0.1
    assert plain.outside_gradient["weight_hh_l0"] == 0.0


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_weight_decay_beside_a_cell_loop_has_a_second_opinion_too(cell):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = cell(3, 4)

        def forward(self, x):
            state = None
            for step in x:
                state = self.cell(step, state)
            return state[0] if isinstance(state, tuple) else state

    model, x = Loop(), torch.randn(8, 2, 3)

    layer = gr.measure(
        model, lambda: model(x).sum() + sum(p.square().sum() for p in model.parameters())
    ).layers["cell"]

    assert set(layer.closure_reference.values()) == {"replay"}
    assert max(layer.closure_error.values()) < 1e-5


def test_frozen_weights_are_checked_against_torchs_own_backward():
    rnn, x = nn.LSTM(3, 4), torch.randn(6, 2, 3, requires_grad=True)
    rnn.requires_grad_(False)

    layer = gr.measure(rnn, lambda: last_step_loss(rnn, x)).layers["lstm"]

    assert layer.closure_reference["weight_hh_l0"] == "replay"
    assert layer.closure_error["weight_hh_l0"] < 1e-5


def test_gradient_penalty_is_reported_as_blind():
    rnn, x = nn.RNN(3, 4), torch.randn(6, 2, 3, requires_grad=True)

    def closure():
        loss = last_step_loss(rnn, x)
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        return loss + slope.square().sum()

    with pytest.raises(NotMeasurableError, match="backward itself|gradient of a gradient"):
        gr.measure(rnn, closure)


def test_subclass_that_changes_its_input_is_blind():
    class Doubled(nn.RNN):
        def forward(self, input, hx=None):
            return super().forward(input * 2.0, hx)

    rnn, x = Doubled(3, 4), torch.randn(6, 2, 3)

    with pytest.raises(NotMeasurableError, match="gave other bits"):
        gr.measure(rnn, lambda: last_step_loss(rnn, x))


def test_output_changed_in_place_is_measured():
    rnn, x = nn.RNN(3, 4), torch.randn(6, 2, 3)

    def closure():
        output, _ = rnn(x)
        output.mul_(3.0)
        return output.sum()

    layer = gr.measure(rnn, closure).layers["rnn"]

    np.testing.assert_allclose(layer.state_gradients("h")[-1], 3.0, rtol=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_is_measured(reentrant):
    from torch.utils.checkpoint import checkpoint

    rnn, x = nn.GRU(3, 4), torch.randn(6, 2, 3, requires_grad=True)
    expected = gr.measure(rnn, lambda: last_step_loss(rnn, x)).layers["gru"]

    layer = gr.measure(
        rnn, lambda: checkpoint(lambda v: rnn(v)[0], x, use_reentrant=reentrant)[-1].square().mean()
    ).layers["gru"]

    np.testing.assert_allclose(layer.state_gradient_norms, expected.state_gradient_norms, rtol=1e-6)


def test_weight_norm_and_weight_drop_read_the_weights_of_the_call():
    rnn = nn.LSTM(3, 4)
    torch.nn.utils.parametrizations.weight_norm(rnn, "weight_hh_l0")
    x = torch.randn(6, 2, 3)

    layer = gr.measure(rnn, lambda: last_step_loss(rnn, x)).layers["lstm"]

    assert max(layer.closure_error.values()) < 1e-5


def test_learned_initial_state_and_keyword_arguments():
    rnn, x = nn.GRU(3, 4), torch.randn(6, 2, 3)
    start = nn.Parameter(torch.randn(1, 1, 4))

    layer = gr.measure(
        rnn, lambda: rnn(input=x, hx=start.expand(1, 2, 4).contiguous())[0][-1].sum()
    ).layers["gru"]

    assert max(layer.closure_error.values()) < 1e-5
    assert start.grad is None


def test_layer_called_twice_with_the_state_passed_on_has_one_axis():
    rnn, x = nn.LSTM(3, 4, num_layers=2), torch.randn(10, 2, 3, dtype=torch.float64)
    rnn.double()

    def windows():
        first, state = rnn(x[:4])
        second, _ = rnn(x[4:], state)
        return torch.cat([first, second])

    one = gr.measure(rnn, lambda: rnn(x)[0].square().mean(), lag_probes=20).layers["lstm.l1"]
    two = gr.measure(rnn, lambda: windows().square().mean(), lag_probes=20).layers["lstm.l1"]

    assert two.steps == 10
    for name in ("state_gradient_norms", "lag_profile"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=1e-9)


def test_state_detached_between_two_calls_is_named():
    rnn, x = nn.GRU(3, 4), torch.randn(10, 2, 3)

    def closure():
        _, state = rnn(x[:6])
        output, _ = rnn(x[6:], state.detach())
        return output[-1].sum()

    with pytest.raises(NotMeasurableError):  # nothing of the first call is reached at all
        gr.measure(nn.Sequential(nn.Linear(2, 2)), closure)
    layer = gr.measure(rnn, closure).layers["gru"]

    assert layer.steps == 10
    assert layer.detached_steps == (6,)
    assert (layer.state_gradient_norms[:6] == 0).all()
    assert (layer.state_gradient_norms[6:] > 0).all()


def test_calls_that_pass_no_state_on_have_axes_of_their_own():
    rnn, x = nn.RNN(3, 4), torch.randn(6, 2, 3)

    flow = gr.measure(rnn, lambda: (rnn(x)[0] + rnn(x.flip(0))[0]).square().sum())

    assert list(flow.layers) == ["rnn.l0", "rnn#2.l0"]
    assert flow.layers["rnn#2"].closure_error["weight_hh_l0"] < 1e-5


def test_masked_state_between_calls_is_followed_and_told():
    rnn, x = nn.GRU(3, 4), torch.randn(5, 2, 3)

    def closure():
        state, outputs = torch.zeros(1, 2, 4), []
        for step in x:
            output, state = rnn(step[None], state * 0.9)
            outputs.append(output)
        return torch.cat(outputs)[-1].sum()

    layer = gr.measure(rnn, closure).layers["gru"]

    assert layer.steps == 5
    assert (layer.state_gradient_norms > 0).all()
    assert layer.lag_profile.size == 0 and "changed between steps" in layer.notes[0]


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM, nn.LSTMCell])
def test_state_masked_by_ones_is_measured_as_if_it_were_not_masked(kind):
    model, x = kind(3, 4), torch.randn(9, 2, 3)

    def closure(mask):
        shape = (2, 4) if kind is nn.LSTMCell else (1, 2, 4)
        state, outputs = torch.zeros(shape), []
        if kind in (nn.LSTM, nn.LSTMCell):
            state = (state, state)
        for step in x:
            if mask is not None and outputs:
                state = (
                    tuple(mask * part for part in state)
                    if isinstance(state, tuple)
                    else mask * state
                )
            if kind is nn.LSTMCell:
                state = model(step, state)
                outputs.append(state[0][None])
            else:
                output, state = model(step[None], state)
                outputs.append(output)
        return torch.cat(outputs).square().sum()

    (plain,) = gr.measure(model, lambda: closure(None)).layers.values()
    (masked,) = gr.measure(model, lambda: closure(torch.ones(2, 1))).layers.values()

    assert masked.transformed_steps == ()
    assert len(masked.lag_profile) == 9
    np.testing.assert_array_equal(masked.lag_profile, plain.lag_profile)
    np.testing.assert_allclose(
        masked.state_gradient_norms, plain.state_gradient_norms, rtol=1e-6, atol=0
    )


class OwnCell(nn.Module):
    def __init__(self, inputs, hidden):
        super().__init__()
        self.input, self.state = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)

    def forward(self, x, h):
        h = x.new_zeros(len(x), self.state.in_features) if h is None else h
        return torch.tanh(self.input(x) + self.state(h))


@pytest.mark.parametrize("where", ["input", "weight", "state"])
def test_nonfinite_value_is_located_and_nothing_raises(where):
    rnn, x = nn.LSTM(3, 4), torch.randn(8, 2, 3)
    state = (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))
    if where == "input":
        x[3, 1, 0] = torch.inf
        x[3, 1, 1] = -torch.inf
    elif where == "weight":
        with torch.no_grad():
            rnn.weight_hh_l0[0, 0] = torch.nan
    else:
        state[0][0, 1] = torch.nan

    flow = gr.measure(rnn, lambda: rnn(x, state)[0].sum())
    found = flow.layers["lstm"].nonfinite

    assert found is not None
    expected = {"input": ("input", 3, 1), "weight": ("weight weight_hh_l0", -1, -1),
                "state": ("state", 0, 1)}[where]  # fmt: skip
    assert (found.where, found.step, found.row) == expected
    assert "nan" in str(flow).lower() or "infinity" in str(flow).lower() or flow.notes


@pytest.mark.parametrize("how", ["inf", "nan"])
@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell, gr.nn.RNNCell, OwnCell])
def test_the_step_where_an_infinite_gradient_enters_a_loop_is_named(cell, how):
    model, x = cell(2, 4), torch.randn(10, 3, 2)

    def closure():
        state, steps = None, []
        for given in x:
            state = model(given, state)
            steps.append(state[0] if isinstance(state, tuple) else state)
        own = steps[6]
        bad = (own * 1e30).square().sum() * 1e30 if how == "inf" else (own - own).sqrt().sum() * 0
        return steps[-1].sum() + bad

    (layer,) = gr.measure(model, closure).layers.values()

    assert (layer.nonfinite.where, layer.nonfinite.step) == ("gradient", 6)
    assert np.isfinite(layer.state_gradient_norms[7:]).all()


@pytest.mark.parametrize("shape", [(1, 2, 3), (6, 1, 3), (1, 1, 3), (6, 3)])
def test_one_step_one_sequence_and_unbatched_work(shape):
    rnn, x = nn.GRU(3, 4), torch.randn(*shape)

    layer = gr.measure(rnn, lambda: rnn(x)[0].sum()).layers["gru"]

    assert layer.steps == shape[0]
    assert layer.batch == (shape[1] if len(shape) == 3 else 1)


def test_layers_of_two_dtypes_are_measured_each_in_its_own():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.low = nn.RNN(3, 4)
            self.high = nn.GRU(4, 2).double()

        def forward(self, x):
            return self.high(self.low(x)[0].double())[0]

    model, x = Mixed(), torch.randn(5, 2, 3)

    layers = gr.measure(model, lambda: model(x)[-1].sum()).layers

    assert [layer.dtype for layer in layers.values()] == ["float32", "float64"]


BAD = [
    ("no module", lambda: gr.measure("model", lambda: None), TypeError, "'model' must be a torch"),
    ("no function", lambda: gr.measure(nn.RNN(1, 1), torch.zeros(1)), TypeError, "'closure' must"),
    (
        "no recurrent layer",
        lambda: gr.measure(nn.Linear(1, 1), lambda: None),
        NotMeasurableError,
        "no recurrent layer",
    ),
    ("no tensor", lambda: gr.measure(nn.RNN(1, 1), lambda: 3.0), TypeError, "returned float"),
    (
        "no scalar",
        lambda: gr.measure(nn.RNN(1, 1), lambda: torch.zeros(2, requires_grad=True)),
        TypeError,
        r"shape \(2,\)",
    ),
    (
        "no gradient",
        lambda: gr.measure(nn.RNN(1, 1), lambda: torch.zeros(())),
        NotMeasurableError,
        "carries no gradient",
    ),
    (
        "probe without loss",
        lambda: measured_last(lag_probes=[2]),
        ValueError,
        "no gradient of the loss enters; it enters at 4",
    ),
    ("no probes", lambda: measured_last(lag_probes=-1), ValueError, "a number of loss steps"),
]


def measured_last(**options):
    rnn, x = nn.RNN(1, 2), torch.randn(5, 1, 1)
    return gr.measure(rnn, lambda: rnn(x)[0][-1].sum(), **options)


@pytest.mark.parametrize(("call", "error", "message"), [row[1:] for row in BAD],
                         ids=[row[0] for row in BAD])  # fmt: skip
def test_wrong_arguments_are_told_in_one_sentence(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()

    assert "measure()" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("closure_of", "message"),
    [
        (lambda rnn, x: lambda: no_grad_loss(rnn, x), "carries no gradient"),
        (lambda rnn, x: lambda: backward_inside(rnn, x), "ran backward itself"),
        (lambda rnn, x: lambda: torch.zeros((), requires_grad=True) * 1, "did not call it"),
        (lambda rnn, x: lambda: rnn(x[:, :0])[0].sum(), "empty batch"),
        (lambda rnn, x: lambda: unused_output(rnn, x), "no gradient of the loss reaches it"),
    ],
    ids=["no_grad", "backward", "not called", "empty batch", "unused"],
)
def test_closures_that_cannot_be_measured_are_told_why(closure_of, message):
    rnn, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)

    with pytest.raises(NotMeasurableError, match=message):
        gr.measure(rnn, closure_of(rnn, x))


def no_grad_loss(rnn, x):
    with torch.no_grad():
        return rnn(x)[0].sum()


def backward_inside(rnn, x):
    loss = rnn(x)[0].sum()
    loss.backward()
    return loss


def unused_output(rnn, x):
    rnn(x)
    return rnn.weight_hh_l0.sum()


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("own", [False, True], ids=["torch's", "ours"])
def test_jacobian_of_a_projected_lstm_is_refused_with_the_reason(own):
    rnn = (gr.nn.LSTM if own else nn.LSTM)(3, 4, proj_size=2)
    x = torch.randn(6, 1, 3)

    layer = gr.measure(rnn, lambda: rnn(x)[0].square().sum()).layers["lstm"]

    assert layer.state_gradients("h").shape == (6, 1, 2)
    assert layer.state_gradients("c").shape == (6, 1, 4)
    with pytest.raises(NotMeasurableError, match="narrower h than c"):
        _ = layer.jacobian


def test_error_of_the_closure_passes_through_with_a_note():
    rnn = nn.RNN(3, 4)

    with pytest.raises((RuntimeError, ValueError)) as caught:
        gr.measure(rnn, lambda: rnn(torch.zeros(2, 1, 3, dtype=torch.float64))[0].sum())

    assert any("model and random streams are restored" in note for note in caught.value.__notes__)


def test_state_carried_over_on_the_graph_is_explained():
    rnn, x = nn.RNN(3, 4), torch.randn(5, 2, 3)
    _, state = rnn(x)
    state.sum().backward()

    with pytest.raises(NotMeasurableError, match="without .detach()"):
        gr.measure(rnn, lambda: rnn(x, state)[0].sum())
