"""Jacobians, exponents, sensitivity and conditions as part of a record: lazy, kept, saved."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from tests.flow.test_jacobian import fused, measured
from torch.nn.utils.rnn import pack_padded_sequence

import gradreach as gr
from gradreach.records import ScaledArray
from gradreach.records.from_states import DERIVED
from gradreach.runs import plain_json


def flow_of(kind: str = "tanh", steps: int = 20, **how: object) -> gr.GradientFlow:
    return measured(fused(kind, **how), torch.randn(steps, 3, 3, dtype=torch.float64))


def test_nothing_is_computed_until_it_is_asked_for():
    layer = flow_of().layers["rnn"]

    assert layer.derived == {}
    assert not set(DERIVED) & set(layer.to_dict())
    first = layer.lyapunov
    assert list(layer.derived) == ["lyapunov"]
    assert layer.lyapunov is first
    assert set(DERIVED) & set(layer.to_dict()) == {"lyapunov"}


@pytest.mark.parametrize("kind", ["tanh", "relu", "gru", "lstm"])
def test_what_was_computed_survives_saving(kind):
    flow = flow_of(kind)
    layer = flow.layers["rnn"]
    before = {name: getattr(layer, name) for name in DERIVED}

    loaded = gr.GradientFlow.from_dict(plain_json.loads(plain_json.dumps(flow.to_dict())))

    after = loaded.layers["rnn"]
    for name, record in before.items():
        again = getattr(after, name)
        assert type(again) is type(record)
        assert str(again) == str(record)
        for field, value in vars(record).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(again, field), value)
                assert getattr(again, field).dtype == value.dtype
    assert plain_json.dumps(loaded.to_dict()) == plain_json.dumps(flow.to_dict())


@pytest.mark.parametrize("name", DERIVED)
def test_a_loaded_record_without_it_says_what_to_do(name):
    layer = gr.GradientFlow.from_dict(flow_of().to_dict()).layers["rnn"]

    with pytest.raises(LookupError, match=f"rnn.l0: .* `{name}` from; measure again in this proc"):
        getattr(layer, name)


def test_a_layer_of_which_only_the_inputs_were_measured_says_so():
    layer = dataclasses.replace(flow_of().layers["rnn"], source="inputs", states=None)

    with pytest.raises(LookupError, match="only the gradient of its inputs was measured"):
        _ = layer.jacobian


def test_a_loaded_record_has_no_cost_either():
    flow = gr.GradientFlow.from_dict(flow_of().to_dict())

    with pytest.raises(LookupError, match="measure again in this process"):
        flow.jacobian_cost()


def test_training_on_after_the_measurement_changes_nothing():
    module, inputs = fused("lstm"), torch.randn(20, 2, 3, dtype=torch.float64)
    layer = measured(module, inputs).layers["rnn"]
    twin = measured(copy.deepcopy(module), inputs.clone()).layers["rnn"]
    expected = {name: str(getattr(twin, name)) for name in DERIVED}

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3.0)

    assert {name: str(getattr(layer, name)) for name in DERIVED} == expected


def test_no_random_stream_and_no_grad_mode_is_touched():
    layer = flow_of("gru").layers["rnn"]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()

    for name in DERIVED:
        getattr(layer, name)

    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ragged", [False, True])
def test_keeping_the_states_less_than_doubles_a_layers_record(kind, dtype, ragged):
    inputs: Any = torch.randn(100, 8, 3, dtype=dtype)
    if ragged:
        inputs = pack_padded_sequence(inputs, torch.arange(100, 92, -1))
    layer = measured(fused(kind, hidden=24).to(dtype), inputs).layers["rnn"]

    def memory(arrays: list[np.ndarray]) -> dict[int, int]:
        """Bytes by address of the buffer, so that views of one buffer count once."""
        found: dict[int, int] = {}
        for array in arrays:
            base = array
            while isinstance(base, np.ndarray) and base.base is not None:
                base = base.base
            owner = base if isinstance(base, torch.Tensor) else torch.from_numpy(array)
            storage = owner.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        return found

    arrays: list[np.ndarray] = []
    for value in vars(layer.tensors).values():
        parts = vars(value).values() if isinstance(value, ScaledArray) else [value]
        arrays += [part for part in parts if isinstance(part, np.ndarray)]
    record = memory(arrays)
    tape = layer.states.tape
    parts = [tape.inputs, tape.previous, tape.hidden, tape.previous_cell, tape.cell]
    parts += [*tape.activations.values(), *(weight for _, weight in tape.weights.named())]
    kept = memory([part.numpy() for part in parts if part is not None])

    extra = sum(size for place, size in kept.items() if place not in record)
    assert extra < sum(record.values())


def test_cost_is_told_beforehand_and_grows_with_the_state():
    small = flow_of("lstm").layers["rnn"].jacobian_cost()
    large = flow_of("lstm", hidden=60).jacobian_cost()["rnn.l0"]

    assert small.method == large.method == "exact"
    assert small.lyapunov_seconds < large.lyapunov_seconds
    assert small.jacobian_seconds < large.jacobian_seconds
    assert large.kept_bytes > small.kept_bytes > 0
    assert "lyapunov" in str(large)
    assert "MiB kept" in str(large)
    assert json.dumps(large.to_dict())
