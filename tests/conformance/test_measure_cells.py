"""`gradreach.measure` of loops over torch's cells is held against unrolled autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from tests.claims import TOLERANCE, assert_close_to_curve, assert_layer_matches_reference, reach_of
from tests.oracles.fused_cases import distance
from tests.oracles.unrolled_cells import measure_unrolled_cells, run_cells
from torch import Tensor, nn

import gradreach as gr

CELLS: dict[str, Callable[..., nn.Module]] = {
    "tanh": nn.RNNCell,
    "relu": partial(nn.RNNCell, nonlinearity="relu"),
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
}
NAMES = ("cell", "upper")


class Net(nn.Module):
    """A user's model: one or two cells, named, run in a loop by hand."""

    def __init__(self, kind: str, depth: int, hidden: int = 4, **how: Any) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        for index in range(depth):
            cell = CELLS[kind](3 if index == 0 else hidden, hidden, **how)
            for parameter in cell.parameters():
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                # A little above 0: no unit of a ReLU net dies or sits on the kink.
                shift = 0.1 if kind == "relu" else 0.0
                parameter.data.copy_(shift + 0.5 * hidden**-0.5 * drawn)
            self.add_module(NAMES[index], cell)

    @property
    def cells(self) -> list[nn.Module]:
        return [module for name, module in self.named_children() if name in NAMES]


def h_of(state: Any) -> Tensor:
    return state[0] if isinstance(state, tuple) else state


def last_step(returned: list[list[Any]]) -> Tensor:
    return distance(h_of(returned[-1][-1]))


def every_step(returned: list[list[Any]]) -> Tensor:
    return distance(torch.stack([h_of(state) for state in returned[-1]]))


def final_states_of_all(returned: list[list[Any]]) -> Tensor:
    ends = [states[-1] for states in returned]
    parts = [part for end in ends for part in (end if isinstance(end, tuple) else (end,))]
    return torch.stack([distance(part) for part in parts]).sum()


LOSSES = [last_step, every_step, final_states_of_all]


# 14: with these inputs no state gradient of any net below is the small difference of large paths,
# of which float32 autograd itself, unrolled, keeps fewer than five digits (11 to 13 have one).
def draw(*shape: int, dtype: torch.dtype, seed: int = 14) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)


def starts_of(kind: str, depth: int, batch: int, dtype: torch.dtype) -> list[Any]:
    parts = [[draw(batch, 4, dtype=dtype, seed=i + 2 * j) for i in (0, 1)] for j in range(depth)]
    return [tuple(pair) if kind == "lstm" else pair[0] for pair in parts]


def assert_cells_match(
    flow: gr.GradientFlow, references: Sequence[Any], dtype: torch.dtype
) -> None:
    for name, reference in zip(NAMES[: len(references)], references, strict=True):
        layer = flow.layers[name]
        assert (layer.source, layer.exact) == ("cells", True)
        assert (layer.steps, layer.batch) == reference.per_sample.shape
        assert_layer_matches_reference(layer, reference, dtype)
        assert layer.reach(0.01) == reach_of(layer.lag_profile, 0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("start", ["default", "given"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", CELLS)
def test_measured_cell_is_the_unrolled_one(
    kind: str, depth: int, start: str, loss: Any, dtype: torch.dtype
) -> None:
    model = Net(kind, depth, dtype=dtype, bias=start == "default")
    inputs = draw(9, 3, 3, dtype=dtype)
    starts = None if start == "default" else starts_of(kind, depth, 3, dtype)

    flow = gr.measure(model, lambda: loss(run_cells(model.cells, inputs, starts)))

    expected = measure_unrolled_cells(model.cells, inputs, loss, starts=starts)
    assert_cells_match(flow, expected, dtype)


@pytest.mark.parametrize("kind", CELLS)
def test_lag_profile_of_named_probes_is_the_unrolled_one(kind: str) -> None:
    model = Net(kind, 2, dtype=torch.float64)
    inputs = draw(12, 2, 3, dtype=torch.float64)
    probes = [3, 7, 11]

    flow = gr.measure(model, lambda: every_step(run_cells(model.cells, inputs)), lag_probes=probes)

    assert_cells_match(flow, measure_unrolled_cells(model.cells, inputs, every_step), torch.float64)
    assert [sorted(map(int, flow.layers[name].lag_probes)) for name in NAMES] == [probes, probes]


@pytest.mark.parametrize("kind", CELLS)
def test_cell_and_fused_layer_of_the_same_weights_give_the_same_flow(kind: str) -> None:
    model = Net(kind, 1, dtype=torch.float64)
    fused = {"gru": nn.GRU, "lstm": nn.LSTM}.get(kind, nn.RNN)
    how = {"nonlinearity": kind} if fused is nn.RNN else {}
    twin = nn.Module()
    twin.rnn = fused(3, 4, dtype=torch.float64, **how)
    twin.rnn.load_state_dict({f"{k}_l0": v for k, v in model.cells[0].state_dict().items()})
    inputs = draw(12, 2, 3, dtype=torch.float64)

    by_cell = gr.measure(model, lambda: every_step(run_cells(model.cells, inputs))).layers["cell"]
    by_layer = gr.measure(twin, lambda: distance(twin.rnn(inputs)[0])).layers["rnn"]

    tolerance = TOLERANCE[torch.float64]
    pairs = {
        "state_gradient_norms": (by_cell.state_gradient_norms, by_layer.state_gradient_norms),
        "lag_profile": (by_cell.lag_profile, by_layer.lag_profile),
    }
    for name, norms in by_cell.contributions.items():
        pairs[name] = (norms, by_layer.contributions[f"{name}_l0"])
    for what, (got, expected) in pairs.items():
        assert_close_to_curve(got, expected, tolerance=tolerance, what=what)


@pytest.mark.parametrize("kind", CELLS)
def test_a_detached_state_cuts_the_gradient_and_is_reported(kind: str) -> None:
    model = Net(kind, 1, dtype=torch.float64)
    inputs = draw(9, 2, 3, dtype=torch.float64)

    def closure() -> Tensor:
        first = run_cells(model.cells, inputs[:5])[0]
        end = first[-1]
        cut = tuple(part.detach() for part in end) if isinstance(end, tuple) else end.detach()
        second = run_cells(model.cells, inputs[5:], [cut])[0]
        return last_step([first + second])

    layer = gr.measure(model, closure).layers["cell"]

    (expected,) = measure_unrolled_cells(model.cells, inputs, last_step, detach_before=[5])
    assert layer.steps == 9
    assert len(layer.detached_steps) == 1
    assert_close_to_curve(
        layer.state_gradient_norms,
        expected.norms,
        tolerance=TOLERANCE[torch.float64],
        what="state_gradient_norms",
    )
    assert not layer.state_gradient_norms[:5].any()


@pytest.mark.parametrize("kind", CELLS)
def test_two_sequences_through_one_cell_are_two_layers(kind: str) -> None:
    model = Net(kind, 1, dtype=torch.float64)
    first, second = draw(6, 2, 3, dtype=torch.float64), draw(4, 2, 3, dtype=torch.float64, seed=5)

    flow = gr.measure(
        model,
        lambda: (
            every_step(run_cells(model.cells, first)) + last_step(run_cells(model.cells, second))
        ),
    )

    (one,) = measure_unrolled_cells(model.cells, first, every_step)
    (two,) = measure_unrolled_cells(model.cells, second, last_step)
    assert_layer_matches_reference(flow.layers["cell"], one, torch.float64)
    assert_layer_matches_reference(flow.layers["cell#2"], two, torch.float64)
