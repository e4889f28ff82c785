"""`gradreach.measure` of unmodified fused layers is held against unrolled autograd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.claims import (
    TOLERANCE,
    assert_close_to_curve,
    assert_close_to_tensor,
    assert_layer_matches_reference,
    reach_of,
)
from tests.oracles.fused_cases import CHOICES, LENGTHS, FusedCase, build, covering_cases
from tests.oracles.unrolled import LayerReference, measure_unrolled
from torch import Tensor, nn

import gradreach as gr


class Net(nn.Module):
    """A user's model: a recurrent module under the name `rnn`, and nothing of ours."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, input: Any, hx: Any = None) -> Any:
        return self.rnn(input, hx)


def measured_and_expected(
    case: FusedCase, **options: Any
) -> tuple[gr.GradientFlow, dict[str, LayerReference]]:
    """Measure a case and unroll it, from the same state of torch's generator."""
    module, input, hx, loss = build(case)
    model = Net(module)
    torch.manual_seed(case.seed)
    rng_state = torch.get_rng_state()

    flow = gr.measure(model, lambda: loss([model(input, hx)]), **options)

    assert torch.equal(torch.get_rng_state(), rng_state)
    assert all(parameter.grad is None for parameter in model.parameters())
    (layers,) = measure_unrolled(module, [input], loss, hx=hx, rng_state=rng_state)
    return flow, layers


def assert_flow_matches(
    flow: gr.GradientFlow, layers: dict[str, LayerReference], case: FusedCase
) -> None:
    assert {f"rnn.{suffix}" for suffix in layers} <= set(flow.layers)
    for suffix, reference in layers.items():
        layer = flow.layers[f"rnn.{suffix}"]
        assert (layer.source, layer.exact) == ("fused", True)
        assert (layer.steps, layer.batch) == reference.per_sample.shape
        assert layer.hidden_size == (case.projection or case.hidden)
        assert_layer_matches_reference(layer, reference, case.dtype)
        assert layer.reach(0.01) == reach_of(layer.lag_profile, 0.01)


@pytest.mark.parametrize("case", covering_cases(), ids=str)
def test_measured_layer_is_the_unrolled_one(case: FusedCase) -> None:
    flow, layers = measured_and_expected(case)

    assert_flow_matches(flow, layers, case)


PROJECTED = [
    replace(case, hidden=5, projection=2 + number % 2)
    for number, case in enumerate(covering_cases())
    if case.kind == "LSTM"
]


# torch tells once that oneDNN has no such kernel; the user's own pass says the same.
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("case", PROJECTED, ids=str)
def test_lstm_with_a_projection_is_the_unrolled_one(case: FusedCase) -> None:
    flow, layers = measured_and_expected(case)

    assert_flow_matches(flow, layers, case)


def is_borne_by_float32(case: FusedCase) -> bool:
    """Say whether plain autograd in float32 keeps every single vector of the case.

    The difference of nearly equal paths loses digits in any float32 forward, torch's own
    included: nothing measured on it could be held to 1e-5 of that vector's size.
    """
    module, input, hx, loss = build(case)
    torch.manual_seed(case.seed)
    how = {"hx": hx, "rng_state": torch.get_rng_state()}
    (low,) = measure_unrolled(module, [input], loss, dtype=torch.float32, **how)
    (high,) = measure_unrolled(module, [input], loss, **how)
    limit = 0.2 * TOLERANCE[torch.float32]  # errors of two float32 forwards differ by that much
    try:
        for suffix, reference in high.items():
            for part, gradients in reference.parts.items():
                assert_close_to_tensor(
                    low[suffix].parts[part], gradients, tolerance=limit, what=part, row_axes=2
                )
            for name, terms in reference.terms.items():
                assert_close_to_tensor(low[suffix].terms[name], terms, tolerance=limit, what=name)
    except AssertionError:
        return False
    return True


FUSED_CASES = st.builds(
    FusedCase,
    **{name: st.sampled_from(values) for name, values in CHOICES.items()},
    steps=st.integers(1, 14),
    batch=st.integers(1, 3),
    hidden=st.integers(1, 5),
    seed=st.integers(0, 10_000),
).filter(lambda case: case.layers > 1 or not case.dropout)


@hypothesis_settings(
    max_examples=20,
    deadline=None,
    derandomize=True,  # the default suite says the same thing every time it is run
    database=None,
    phases=[Phase.generate],  # shrinking a red case takes minutes; its settings say enough
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(case=FUSED_CASES)
def test_any_measured_layer_is_the_unrolled_one(case: FusedCase) -> None:
    # ReLU's kinks make most tiny random nets dead; the matrix above has its living ones.
    if case.kind == "RNN_RELU":
        case = replace(case, kind="RNN_TANH")
    assume(case.dtype == torch.float64 or is_borne_by_float32(case))

    flow, layers = measured_and_expected(case)

    assert_flow_matches(flow, layers, case)


def make_case(kind: str, loss: str = "last step", **changes: Any) -> FusedCase:
    plain: dict[str, Any] = {
        "layers": 1,
        "bidirectional": False,
        "batch_first": False,
        "bias": True,
        "layout": "padded",
        "given_state": False,
        "dropout": 0.0,
        "dtype": torch.float64,
    }
    return FusedCase(kind=kind, loss=loss, **{**plain, **changes})


@pytest.mark.parametrize("kind", CHOICES["kind"])
def test_rows_of_an_unsorted_batch_stay_in_the_users_order(kind: str) -> None:
    flow, _ = measured_and_expected(make_case(kind, layout="packed unsorted"))

    layer = flow.layers["rnn"]

    assert tuple(int(n) for n in layer.lengths) == LENGTHS["packed unsorted"]
    assert (~np.isnan(layer.per_sample)).sum(axis=0).tolist() == list(LENGTHS["packed unsorted"])


# --------------------------------------------------------------------------- lag profiles


@pytest.mark.parametrize("kind", CHOICES["kind"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_lag_profile_of_named_probes_is_the_unrolled_one(
    kind: str, bidirectional: bool, layers: int
) -> None:
    case = make_case(
        kind, "every step", layers=layers, bidirectional=bidirectional, dropout=0.3 * (layers > 1)
    )
    probes = [2, case.steps // 2, case.steps - 1]

    flow, expected = measured_and_expected(case, lag_probes=probes)

    for suffix, reference in expected.items():
        layer = flow.layers[f"rnn.{suffix}"]
        assert sorted(int(t) for t in layer.lag_probes) == probes
        assert_layer_matches_reference(layer, reference, case.dtype)


@pytest.mark.parametrize("kind", CHOICES["kind"])
@pytest.mark.parametrize(
    ("loss", "arrivals"), [("every step", range(7)), ("last step", [6]), ("final state", [6])]
)
def test_lag_probes_are_all_loss_steps_where_they_are_few(
    kind: str, loss: str, arrivals: Any
) -> None:
    flow, _ = measured_and_expected(make_case(kind, loss, steps=7))

    layer = flow.layers["rnn"]

    assert sorted(int(t) for t in layer.lag_probes) == list(arrivals)
    assert sorted(int(t) for t in layer.loss_steps) == list(arrivals)


@pytest.mark.parametrize("kind", CHOICES["kind"])
def test_lag_probes_of_many_loss_steps_are_a_stated_and_repeatable_sample(kind: str) -> None:
    case = make_case(kind, "every step", steps=60, batch=1)

    (one, expected), (other, _) = measured_and_expected(case), measured_and_expected(case)

    layer = one.layers["rnn"]
    assert sorted(layer.loss_steps) == list(range(60))
    assert 2 <= len(layer.lag_probes) < 60
    assert set(layer.lag_probes) <= set(layer.loss_steps)
    assert layer.lag_probes == other.layers["rnn"].lag_probes
    assert_layer_matches_reference(layer, expected["l0"], case.dtype)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", CHOICES["kind"])
def test_final_state_of_a_reverse_layer_enters_at_its_own_last_step(kind: str, layers: int) -> None:
    """`h_n` of a reverse direction is its state at step 0: there its share of the loss enters."""
    case = make_case(kind, "final state", bidirectional=True, layers=layers, steps=6)

    flow, expected = measured_and_expected(case)

    for suffix, reference in expected.items():
        layer = flow.layers[f"rnn.{suffix}"]
        assert np.count_nonzero(~np.isnan(layer.lag_profile)) == 6
        assert_layer_matches_reference(layer, reference, case.dtype)


@pytest.mark.parametrize("layout", ["padded", "packed unsorted"])
@pytest.mark.parametrize("kind", CHOICES["kind"])
def test_own_lag_profile_of_a_single_layer_is_its_lag_profile(kind: str, layout: str) -> None:
    flow, _ = measured_and_expected(make_case(kind, "every step", layout=layout))

    layer = flow.layers["rnn"]

    assert_close_to_curve(
        layer.own_lag_profile,
        layer.lag_profile,
        tolerance=TOLERANCE[torch.float64],
        what="own_lag_profile",
    )


@pytest.mark.parametrize("kind", CHOICES["kind"])
def test_own_lag_profile_of_the_top_layer_is_its_lag_profile(kind: str) -> None:
    flow, _ = measured_and_expected(make_case(kind, "every step", layers=3))

    layer = flow.layers["rnn.l2"]

    assert_close_to_curve(
        layer.own_lag_profile,
        layer.lag_profile,
        tolerance=TOLERANCE[torch.float64],
        what="own_lag_profile",
    )


# --------------------------------------------------------------------------- several calls


def start_of_next(state: Any, carry: str | None) -> Any:
    if carry is None:
        return None
    if carry == "state":
        return state
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()


def measured_calls(
    case: FusedCase, pieces: list[Tensor], carry: str | None
) -> tuple[gr.GradientFlow, list[dict[str, LayerReference]]]:
    module, _, _, loss = build(case)
    model = Net(module)

    def closure() -> Tensor:
        returned: list[Any] = []
        for piece in pieces:
            start = start_of_next(returned[-1][1], carry) if returned else None
            returned.append(model(piece, start))
        return loss(returned)

    torch.manual_seed(case.seed)
    rng_state = torch.get_rng_state()
    flow = gr.measure(model, closure)
    axes = measure_unrolled(module, pieces, loss, carry=carry, rng_state=rng_state)
    return flow, axes


def pieces_of(case: FusedCase) -> list[Tensor]:
    return list(build(case).input.split([3, 5, 2]))


@pytest.mark.parametrize("loss", ["every step", "final state"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("dtype", CHOICES["dtype"])
@pytest.mark.parametrize("kind", CHOICES["kind"])
def test_calls_that_pass_the_state_on_share_one_time_axis(
    kind: str, dtype: torch.dtype, layers: int, loss: str
) -> None:
    case = make_case(kind, loss, layers=layers, dtype=dtype, dropout=0.3 * (layers > 1))

    flow, (expected,) = measured_calls(case, pieces_of(case), "state")

    assert not [name for name in flow.layers if "#" in name]
    for suffix, reference in expected.items():
        layer = flow.layers[f"rnn.{suffix}"]
        assert layer.steps == 10
        assert_layer_matches_reference(layer, reference, dtype)


@pytest.mark.parametrize("kind", CHOICES["kind"])
def test_calls_that_do_not_pass_the_state_on_are_layers_of_their_own(kind: str) -> None:
    case = make_case(kind, "every step", layers=2)

    flow, expected = measured_calls(case, pieces_of(case), None)

    for index, axis in enumerate(expected):
        name = "rnn" if index == 0 else f"rnn#{index + 1}"
        for suffix, reference in axis.items():
            assert_layer_matches_reference(flow.layers[f"{name}.{suffix}"], reference, case.dtype)


@pytest.mark.parametrize("kind", CHOICES["kind"])
def test_a_detached_state_cuts_the_gradient_and_is_reported(kind: str) -> None:
    case = make_case(kind, "last step")
    module, input, _, loss = build(case)
    model = Net(module)

    def closure() -> Tensor:
        _, state = model(input[:6])
        return loss([model(input[6:], start_of_next(state, "detached"))])

    flow = gr.measure(model, closure)
    layer = flow.layers["rnn"]

    (expected,) = measure_unrolled(
        module,
        [input[:6], input[6:]],
        lambda returned: loss(returned[1:]),
        carry="detached",
    )
    assert layer.steps == 10
    assert len(layer.detached_steps) == 1
    assert_close_to_curve(
        layer.state_gradient_norms,
        expected["l0"].norms,
        tolerance=TOLERANCE[case.dtype],
        what="norms",
    )
    assert not layer.state_gradient_norms[:6].any()


# --------------------------------------------------------------------------- edges


@pytest.mark.parametrize("kind", CHOICES["kind"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_single_step_is_measured(kind: str, bidirectional: bool) -> None:
    case = make_case(kind, steps=1, bidirectional=bidirectional, layers=2)

    flow, expected = measured_and_expected(case)

    assert_flow_matches(flow, expected, case)


def test_a_model_in_train_mode_with_grads_is_left_as_it_was() -> None:
    case = make_case("LSTM", "every step", layers=2, dropout=0.4)
    module, input, hx, loss = build(case)
    model = Net(module)
    loss([model(input, hx)]).backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    gr.measure(model, lambda: loss([model(input, hx)]))

    assert model.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, before[name])
        assert torch.equal(parameter, weights[name])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("kind", CHOICES["kind"])
def test_lag_profile_and_shares_do_not_depend_on_the_scale_of_the_loss(
    kind: str, scale: float
) -> None:
    case = make_case(kind, "every step")
    module, input, hx, loss = build(case)
    model = Net(module)

    plain = gr.measure(model, lambda: loss([model(input, hx)])).layers["rnn"]
    scaled = gr.measure(model, lambda: scale * loss([model(input, hx)])).layers["rnn"]

    np.testing.assert_allclose(scaled.lag_profile, plain.lag_profile, rtol=1e-12)
    for name in plain.contributions:
        np.testing.assert_allclose(scaled.shares[name], plain.shares[name], rtol=0, atol=1e-12)
