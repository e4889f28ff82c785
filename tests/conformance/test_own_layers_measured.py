"""`gradreach.measure` of `gradreach.nn`'s layers is held against unrolled autograd."""

from __future__ import annotations

import itertools
import random
import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.claims import (
    TOLERANCE,
    assert_close_to_curve,
    assert_close_to_tensor,
    assert_layer_matches_reference,
)
from tests.oracles.fused_cases import distance
from tests.oracles.unrolled_remedies import ACTIVATIONS, measure_own
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import gradreach as gr
from gradreach.errors import NotMeasurableError

EULER = gr.nn.EulerStep(0.2, gamma=0.1)
BARE_EULER = gr.nn.EulerStep(0.2, antisymmetric=False)

COMMON: dict[str, tuple[Any, ...]] = {
    "activation": tuple(ACTIVATIONS),
    "skips": ((None, "identity"), (2, "identity"), (3, 0.5), ((2, 4), "learned")),
    "dilation": (1, 2, 3),
    "layers": (1, 2),
    "bidirectional": (False, True),
    "bias": (True, False),
    "layout": ("padded", "batch first", "packed", "unbatched"),
    "given_state": (False, True),
    "dtype": (torch.float32, torch.float64),
    "loss": ("last step", "every step", "final state"),
}
RESIDUALS = (False, True, (0.4, 0.7), "learned", EULER, BARE_EULER)


@dataclass(frozen=True)
class Case:
    """One layer of ours with its remedies, one batch, one loss."""

    kind: str = "rnn"
    residual: Any = False
    activation: str = "tanh"
    skips: tuple[Any, Any] = (None, "identity")
    dilation: int = 1
    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    layout: str = "padded"
    given_state: bool = False
    dtype: torch.dtype = torch.float64
    loss: str = "every step"
    seed: int = 0

    def __str__(self) -> str:
        return "-".join(
            str(getattr(self, field.name)).removeprefix("torch.") for field in fields(self)
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What the reference has to know."""
        skip, weight = self.skips
        return {"activation": self.activation, "residual": self.residual, "skip": skip,
                "skip_weight": weight, "dilation": self.dilation}  # fmt: skip


def covering(kind: str, seed: int) -> list[Case]:
    """List cases in which every pair of settings occurs."""
    choices = {"residual": RESIDUALS if kind == "rnn" else (False,)} | COMMON
    rng, names = random.Random(seed), list(choices)
    pairs = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(names, 2)
        for i in range(len(choices[a]))
        for j in range(len(choices[b]))
    }
    cases: list[Case] = []
    while pairs:
        wanted = dict(min(pairs, key=repr))
        rows = [
            {name: rng.randrange(len(values)) for name, values in choices.items()} | wanted
            for _ in range(60)
        ]
        best, met = max(
            ((row, pairs & set(itertools.combinations(row.items(), 2))) for row in rows),
            key=lambda found: len(found[1]),
        )
        pairs -= met
        cases.append(Case(kind, **{name: choices[name][place] for name, place in best.items()}))
    return cases


class Net(nn.Module):
    """A user's model with one of our layers."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, input: Any, hx: Any = None) -> Any:
        return self.rnn(input, hx)


def make_layer(case: Case) -> Any:
    """Make a case's layer, with weights of moderate size."""
    phi: Any = torch.sin if case.activation == "users" else case.activation
    options: dict[str, Any] = {
        "num_layers": case.layers, "bidirectional": case.bidirectional, "bias": case.bias,
        "batch_first": case.layout == "batch first", "dtype": case.dtype, "nonlinearity": phi,
        "slope": {"leaky_relu": 0.2, "elu": 0.5}.get(case.activation),
        "skip": case.skips[0], "skip_weight": case.skips[1], "dilation": case.dilation,
        "dropout": 0.3 * (case.layers > 1),
    }  # fmt: skip
    if case.kind != "rnn":
        return {"gru": gr.nn.GRU, "lstm": gr.nn.LSTM}[case.kind](3, 4, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an Euler step without the antisymmetric matrix grows
        return gr.nn.RNN(3, 4, residual=case.residual, **options)


def build(case: Case) -> tuple[Any, Any, Any, Any]:
    """Make a case's layer, input, initial state and loss."""
    generator = torch.Generator().manual_seed(case.seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (scale * values).to(case.dtype)

    layer = make_layer(case)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(draw(*parameter.shape, scale=0.3))
            if "activation_bias" in name:
                parameter.add_(0.1)
    batch, rows = (4 if case.layout == "packed" else 2), case.layers * (1 + case.bidirectional)
    if case.layout == "unbatched":
        input: Any = draw(8, 3)
        shape: tuple[int, ...] = (rows, 4)
    else:
        input = draw(*((batch, 8) if case.layout == "batch first" else (8, batch)), 3)
        shape = (rows, batch, 4)
    if case.layout == "packed":
        input = pack_padded_sequence(input, torch.tensor([5, 8, 2, 8]), enforce_sorted=False)
    hx: Any = None
    if case.given_state:
        hx = draw(*shape)
        hx = (hx, draw(*shape)) if case.kind == "lstm" else hx

    def loss(returned: list[tuple[Any, Any]]) -> Tensor:
        value = torch.zeros((), dtype=torch.float64)
        for output, state in returned:
            if case.loss == "final state":
                for part in state if isinstance(state, tuple) else (state,):
                    value = value + distance(part)
                continue
            steps, lengths = steps_first(output, case)
            rows = torch.arange(len(lengths))
            value = value + distance(
                steps if case.loss == "every step" else steps[lengths - 1, rows]
            )
        return value

    return layer, input, hx, loss


def steps_first(output: Any, case: Case) -> tuple[Tensor, Tensor]:
    """Bring an output to `(T, B, D·H)` and say how long its rows are."""
    if isinstance(output, PackedSequence):
        return pad_packed_sequence(output)
    if output.dim() == 2:
        output = output.unsqueeze(1)
    elif case.layout == "batch first":
        output = output.transpose(0, 1)
    return output, torch.full((output.shape[1],), len(output))


def is_borne_by_float32(case: Case) -> bool:
    """Say whether plain autograd in float32 keeps every vector of the case, kinks included."""
    layer, input, hx, loss = build(case)
    torch.manual_seed(case.seed)
    how = {"hx": hx, "rng_state": torch.get_rng_state()}
    low = measure_own(layer, [input], loss, case.settings, dtype=torch.float32, **how)
    high = measure_own(layer, [input], loss, case.settings, **how)
    limit = 0.2 * TOLERANCE[torch.float32]
    try:
        for suffix, reference in high.items():
            own = low[suffix]
            for part, wanted in reference.parts.items():
                assert_close_to_tensor(
                    own.parts[part], wanted, tolerance=limit, what=part, row_axes=2
                )
            for name, wanted in reference.terms.items():
                assert_close_to_tensor(own.terms[name], wanted, tolerance=limit, what=name)
    except AssertionError:
        return False
    return True


def well_posed(case: Case) -> Case:
    """Take the first seed at which float32 can say what float64 says."""
    if case.dtype == torch.float64:
        return case
    seeds = (replace(case, seed=seed) for seed in range(40))
    return next(own for own in seeds if is_borne_by_float32(own))


def assert_layer_is(layer: Any, reference: Any, dtype: torch.dtype) -> None:
    """Assert that a measured layer is the reference, its lag profile lag by lag included."""
    assert_layer_matches_reference(layer, reference, dtype)
    expected = reference.lag_profile(layer.lag_probes)
    longest = max(np.flatnonzero(~np.isnan(expected)), default=-1) + 1
    assert_close_to_curve(
        layer.lag_profile[:longest],
        expected[:longest],
        tolerance=TOLERANCE[dtype],
        what="lag_profile",
    )


def measured(case: Case, **options: Any) -> tuple[gr.GradientFlow, dict[str, Any]]:
    layer, input, hx, loss = build(case)
    model = Net(layer)
    torch.manual_seed(case.seed)
    rng_state = torch.get_rng_state()

    flow = gr.measure(model, lambda: loss([model(input, hx)]), **options)

    assert torch.equal(torch.get_rng_state(), rng_state)
    assert all(parameter.grad is None for parameter in model.parameters())
    return flow, measure_own(layer, [input], loss, case.settings, hx=hx, rng_state=rng_state)


@pytest.mark.parametrize(
    "case", [*covering("rnn", 1), *covering("gru", 2), *covering("lstm", 3)], ids=str
)
def test_measured_layer_is_the_unrolled_one(case: Case) -> None:
    case = well_posed(case)

    flow, expected = measured(case)

    assert {f"rnn.{suffix}" for suffix in expected} <= set(flow.layers)
    for suffix, reference in expected.items():
        layer = flow.layers[f"rnn.{suffix}"]
        assert (layer.source, layer.exact) == ("fused", True)
        assert set(layer.closure_reference.values()) == {"backward"}
        assert_layer_is(layer, reference, case.dtype)
    gr.diagnose(flow)
    gr.GradientFlow.from_dict(flow.to_dict())


REMEDIES = [
    Case(residual=True, activation="gelu"),
    Case(residual=EULER, skips=((2, 3), "learned"), dilation=2),
    Case(residual="learned", activation="modrelu", bidirectional=True, layers=2),
    Case("gru", skips=((2, 4), "learned"), dilation=2),
    Case("lstm", activation="modrelu", skips=(2, 0.5), dilation=3),
]


@pytest.mark.parametrize("case", REMEDIES, ids=str)
def test_calls_that_pass_the_state_on_share_one_time_axis(case: Case) -> None:
    case = replace(case, bidirectional=False)
    layer, input, _, loss = build(case)
    model, pieces = Net(layer), list(input.split([3, 4, 1]))

    def closure() -> Tensor:
        returned: list[Any] = []
        for piece in pieces:
            returned.append(model(piece, returned[-1][1] if returned else None))
        return loss(returned)

    torch.manual_seed(0)
    rng_state = torch.get_rng_state()
    flow = gr.measure(model, closure)

    expected = measure_own(layer, pieces, loss, case.settings, rng_state=rng_state)
    for suffix, reference in expected.items():
        assert_layer_is(flow.layers[f"rnn.{suffix}"], reference, case.dtype)


@pytest.mark.parametrize("case", REMEDIES, ids=str)
def test_contributions_to_frozen_weights_are_checked_by_a_loop_of_our_own(case: Case) -> None:
    layer, input, _, loss = build(case)
    model = Net(layer).requires_grad_(False)
    input = input.requires_grad_()

    flow = gr.measure(model, lambda: loss([model(input)]))

    for own in flow.layers.values():
        assert set(own.closure_reference.values()) == {"replay"}
        assert max(own.closure_error.values()) <= TOLERANCE[case.dtype]


@pytest.mark.parametrize("case", REMEDIES, ids=str)
def test_measuring_leaves_weights_gradients_hooks_and_modes(case: Case) -> None:
    layer, input, _, loss = build(case)
    model = Net(layer)
    loss([model(input)]).backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    gr.measure(model, lambda: loss([model(input)]))

    assert model.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, before[name])
        assert torch.equal(parameter, weights[name])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# --------------------------------------------------------------------------- loops over cells


@pytest.mark.parametrize("residual", RESIDUALS, ids=str)
@pytest.mark.parametrize("activation", ["elu", "modrelu", "tanh"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_loop_over_our_cell_is_the_layer(residual: Any, activation: str, frozen: bool) -> None:
    case = Case(residual=residual, activation=activation)
    layer, input, _, loss = build(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = gr.nn.RNNCell(3, 4, residual=residual, nonlinearity=activation,
                             slope={"elu": 0.5}.get(activation), dtype=case.dtype)  # fmt: skip
    own = {name.removesuffix("_l0"): value for name, value in layer.state_dict().items()}
    cell.load_state_dict(own)
    cell.requires_grad_(not frozen)
    given = torch.zeros(2, 4, dtype=case.dtype, requires_grad=True)

    def closure() -> Tensor:
        state, states = given, []
        for x in input:
            state = cell(x, state)
            states.append(state)
        return loss([(torch.stack(states), state)])

    flow = gr.measure(cell, closure)

    (expected,) = measure_own(layer, [input], loss, case.settings).values()
    expected.terms = {n.removesuffix("_l0"): terms for n, terms in expected.terms.items()}
    assert_layer_is(flow.layers["rnncell"], expected, case.dtype)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_loop_over_our_gated_cell_with_another_activation_closes(kind: str) -> None:
    cell = {"gru": gr.nn.GRUCell, "lstm": gr.nn.LSTMCell}[kind](
        3, 4, nonlinearity="modrelu", dtype=torch.float64
    )
    nn.init.constant_(cell.activation_bias, 0.1)
    input = torch.randn(8, 2, 3, dtype=torch.float64)

    def closure() -> Tensor:
        state: Any = None
        for x in input:
            state = cell(x, state)
        return (state[0] if kind == "lstm" else state).square().sum()

    (layer,) = set(gr.measure(cell, closure).layers.values())

    assert max(layer.closure_error.values()) <= TOLERANCE[torch.float64]
    assert "activation_bias" in layer.contributions


# --------------------------------------------------------------------------- beside torch's


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_converted_model_has_the_flow_of_the_torch_model(kind: str, dtype: torch.dtype) -> None:
    model = nn.Sequential()
    model.rnn = getattr(nn, kind)(3, 5, num_layers=2, bidirectional=True, dtype=dtype)
    input = torch.randn(12, 2, 3, dtype=dtype)

    theirs = gr.measure(model, lambda: model.rnn(input)[0][-1].square().mean())
    gr.nn.convert(model)
    ours = gr.measure(model, lambda: model.rnn(input)[0][-1].square().mean())

    assert type(model.rnn).__module__.startswith("gradreach.")
    assert set(ours.layers) == set(theirs.layers)
    for name, layer in theirs.layers.items():
        own = ours.layers[name]
        assert own.kind == layer.kind
        tolerance = 1e-6 if dtype == torch.float64 else TOLERANCE[dtype]
        pairs = {"norms": (own.state_gradient_norms, layer.state_gradient_norms),
                 "profile": (own.lag_profile, layer.lag_profile)}  # fmt: skip
        pairs |= {n: (own.contributions[n], c) for n, c in layer.contributions.items()}
        for what, (got, wanted) in pairs.items():
            assert_close_to_curve(got, wanted, tolerance=tolerance, what=what)


def test_a_residual_connection_reaches_the_first_step_where_a_plain_layer_does_not() -> None:
    steps = 60
    input = torch.randn(steps, 4, 2)
    plain = gr.nn.RNN(2, 16)
    cured = gr.nn.RNN(2, 16, nonlinearity="relu", init="identity", residual=gr.nn.EulerStep(0.01))

    def flow_of(layer: nn.Module) -> gr.GradientFlow:
        return gr.measure(layer, lambda: layer(input)[0][-1].square().mean())

    assert flow_of(plain).layers["rnn"].reach(0.01) < steps / 2
    assert flow_of(cured).layers["rnn"].reach(0.01) == steps
    assert [f.code for f in gr.diagnose(flow_of(plain))] == ["vanishing-gradient"]
    assert not gr.diagnose(flow_of(cured))


# --------------------------------------------------------------------------- Jacobians


@pytest.mark.parametrize("residual", RESIDUALS[1:], ids=str)
def test_step_jacobian_of_a_residual_layer_is_autograds(residual: Any) -> None:
    case = Case(residual=residual, activation="softsign")
    layer, input, _, loss = build(case)

    own = gr.measure(layer, lambda: loss([layer(input)])).layers["rnn"]

    states = torch.cat([torch.zeros(1, 2, 4, dtype=case.dtype), layer(input)[0].detach()])
    for step, row in itertools.product(range(8), range(2)):
        x = input[step : step + 1, row : row + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda h, x=x: layer(x, h.view(1, 1, -1))[1].view(-1), states[step, row]
        )
        wanted = torch.linalg.svdvals(jacobian)
        assert own.jacobian.largest[step, row] == pytest.approx(float(wanted[0]), rel=1e-10)
        assert own.jacobian.smallest[step, row] == pytest.approx(float(wanted[-1]), rel=1e-8)


@pytest.mark.parametrize("options", [{"skip": 2}, {"dilation": 2}])
@pytest.mark.parametrize("wanted", ["jacobian", "lyapunov", "sensitivity", "conditions"])
def test_a_state_that_is_not_markov_has_no_step_jacobian(options: Any, wanted: str) -> None:
    layer = gr.nn.RNN(3, 4, **options)
    flow = gr.measure(layer, lambda: layer(torch.randn(8, 2, 3))[0].square().mean())

    with pytest.raises(NotMeasurableError, match="no Jacobian of one step"):
        getattr(flow.layers["rnn"], wanted)


def test_conditions_of_a_residual_layer_are_refused() -> None:
    layer = gr.nn.RNN(3, 4, residual=True)
    flow = gr.measure(layer, lambda: layer(torch.randn(8, 2, 3))[0].square().mean())

    with pytest.raises(NotMeasurableError, match=r"read layer\.lyapunov"):
        _ = flow.layers["rnn"].conditions


def test_conditions_of_another_bounded_activation_are_those_of_tanh() -> None:
    layer = gr.nn.RNN(3, 4, nonlinearity="softsign")
    layer.weight_hh_l0.data.copy_(0.5 * torch.eye(4))
    flow = gr.measure(layer, lambda: layer(torch.randn(8, 2, 3))[0].square().mean())

    assert flow.layers["rnn"].conditions.must_vanish


# --------------------------------------------------------------------------- what is not measured


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"clip_backpropagated_error": 1.0}, "no longer the derivative"),
        ({"recurrent_dropout": 0.2}, r"call model\.eval\(\)"),
        ({"zoneout": 0.2}, "zoneout"),
        ({"layer_norm": True}, "layer_norm"),
    ],
)
def test_what_stands_inside_the_cell_is_refused_with_its_reason(options: Any, reason: str) -> None:
    layer = gr.nn.RNN(3, 4, **options)

    with pytest.raises(NotMeasurableError, match=reason):
        gr.measure(layer, lambda: layer(torch.randn(8, 2, 3))[0].square().mean())


def test_a_layer_with_recurrent_dropout_is_measured_in_evaluation() -> None:
    layer = gr.nn.RNN(3, 4, recurrent_dropout=0.2, residual=True).eval()

    flow = gr.measure(layer, lambda: layer(torch.randn(8, 2, 3))[0].square().mean())

    assert not flow.blind


def test_saturation_counts_slopes_of_either_sign() -> None:
    layer = gr.nn.RNN(1, 3, nonlinearity=torch.sin)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    layer.bias_ih_l0.data.copy_(torch.tensor([0.0, np.pi, np.pi / 2]))  # slopes 1, -1, 0

    flow = gr.measure(layer, lambda: layer(torch.zeros(5, 1, 1))[0].square().sum())

    assert flow.layers["rnn"].saturated.tolist() == [False, False, True]
