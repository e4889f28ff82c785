"""The reference is held against torch: outputs, final states, weight gradients, every dtype."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from tests.claims import TOLERANCE
from tests.oracles.fused_cases import (
    CHOICES,
    FusedCase,
    build,
    covering_cases,
    met,
    possible,
    settings,
)
from tests.oracles.unrolled import (
    measure_unrolled,
    unroll_module,
)
from tests.oracles.unrolled_cells import measure_unrolled_cells, run_cells
from torch import nn
from torch.nn.utils.rnn import PackedSequence

CASES = covering_cases()


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, torch.Tensor) else list(value)


def assert_close(got: Any, expected: Any, dtype: torch.dtype) -> None:
    for one, other in zip(tensors(got), tensors(expected), strict=True):
        scale = float(other.detach().abs().max())
        torch.testing.assert_close(
            one.double(), other.double(), rtol=0, atol=TOLERANCE[dtype] * scale
        )


def test_cases_cover_every_possible_triple_of_settings() -> None:
    names = list(CHOICES)
    triples = {
        triple
        for chosen in itertools.combinations(range(len(names)), 3)
        for values in itertools.product(*(CHOICES[names[i]] for i in chosen))
        if possible(triple := tuple(zip(chosen, values, strict=True)))
    }

    covered = set().union(*(met(settings(case), 3) for case in CASES))

    assert triples <= covered
    assert 60 <= len(CASES) <= 110


@pytest.mark.parametrize("case", CASES, ids=str)
def test_unrolled_layer_gives_outputs_and_weight_gradients_of_torch(case: FusedCase) -> None:
    module, input, hx, loss = build(case)
    torch.manual_seed(case.seed)
    rng_state = torch.get_rng_state()
    output, state = module(input, hx)
    loss([(output, state)]).backward()

    how = {"hx": hx, "rng_state": rng_state}
    ((call,),) = unroll_module(module, [input], **how)
    (layers,) = measure_unrolled(module, [input], loss, **how)

    shown, final = call.as_user(call.output, call.final)
    assert_close(output, shown, case.dtype)
    assert_close(state, final, case.dtype)
    sums = {name: c.sum(axis=0) for layer in layers.values() for name, c in layer.terms.items()}
    assert set(sums) == {name for name, _ in module.named_parameters()}
    for name, parameter in module.named_parameters():
        assert_close(parameter.grad, torch.from_numpy(sums[name]), case.dtype)


@pytest.mark.parametrize("carry", ["state", "detached", None])
@pytest.mark.parametrize("kind", CHOICES["kind"])
def test_unrolled_calls_give_weight_gradients_of_torch(kind: str, carry: Any) -> None:
    case = FusedCase(kind, 2, False, False, True, "padded", False, 0.4, torch.float64, "every step")
    module, input, hx, loss = build(case)
    pieces = list(input.split([3, 5, 2]))
    torch.manual_seed(1)
    rng_state = torch.get_rng_state()
    returned: list[Any] = []
    for piece in pieces:
        start = returned[-1][1] if returned and carry else hx
        if returned and carry == "detached":
            start = (
                tuple(part.detach() for part in start)
                if isinstance(start, tuple)
                else start.detach()
            )
        returned.append(module(piece, start))
    loss(returned).backward()

    axes = measure_unrolled(module, pieces, loss, hx=hx, carry=carry, rng_state=rng_state)

    assert len(axes) == (1 if carry else 3)
    for name, parameter in module.named_parameters():
        suffix = name.split("_")[-1]
        total = sum(axis[suffix].terms[name].sum(axis=0) for axis in axes)
        assert_close(parameter.grad, torch.from_numpy(total), case.dtype)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_unrolled_cells_give_states_and_gradients_of_torch(kind: type[nn.Module]) -> None:
    torch.manual_seed(3)
    cells = [kind(3, 4, dtype=torch.float64), kind(4, 5, dtype=torch.float64)]
    inputs = torch.randn(8, 2, 3, dtype=torch.float64)
    kept: list[list[Any]] = []

    def loss(returned: list[list[Any]]) -> torch.Tensor:
        kept.append([part for state in returned[0] for part in tensors(state)])
        ends = [part for states in returned for part in tensors(states[-1])]
        return sum(part.sin().sum() for part in ends)

    value = loss(run_cells(cells, inputs))
    value.backward(retain_graph=True)
    direct = torch.autograd.grad(value, kept[0])
    layers = measure_unrolled_cells(cells, inputs, loss)

    for part, letter in enumerate(layers[0].parts):
        expected = torch.stack(direct[part :: len(layers[0].parts)])
        assert_close(expected, torch.from_numpy(layers[0].parts[letter]), torch.float64)
    for cell, layer in zip(cells, layers, strict=True):
        for name, parameter in cell.named_parameters():
            assert_close(parameter.grad, torch.from_numpy(layer.terms[name].sum(0)), torch.float64)


def test_probes_of_every_step_add_up_to_the_state_gradient() -> None:
    """∂L/∂s_k is the sum of ∂L_t/∂s_k over t: with B = 1, H = 1 and one sign, norms add up."""
    module = nn.RNN(1, 1, nonlinearity="relu", dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.7)
    inputs = torch.ones(6, 1, 1, dtype=torch.float64)

    ((layer,),) = [
        list(axis.values()) for axis in measure_unrolled(module, [inputs], lambda r: r[0][0].sum())
    ]

    by_probe = np.array(
        [[layer.lags(t)[t - k, 0] if t >= k else 0 for k in range(6)] for t in range(6)]
    )
    np.testing.assert_allclose(by_probe.sum(axis=0), layer.norms, rtol=1e-12)
    np.testing.assert_allclose(layer.lag_profile(range(6)), 0.7 ** np.arange(6), rtol=1e-12)
