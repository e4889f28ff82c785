"""The record of one layer: there and back through JSON, frozen, and its errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.records.made import layer
from torch import nn

import gradreach as gr
from gradreach.records import LayerFlow
from gradreach.records.plain import SchemaError
from gradreach.runs.plain_json import dumps, loads

# The large arrays, and what was computed from them: that is stored under names of its own.
IN_PROCESS = {"tensors", "states", "derived"}


def assert_same(found, expected):
    """Compare field by field; NaN equals NaN."""
    for field in dataclasses.fields(LayerFlow):
        if field.name not in IN_PROCESS | {"gates"}:
            np.testing.assert_equal(getattr(found, field.name), getattr(expected, field.name))
    assert found.gates.keys() == expected.gates.keys()
    for name, gate in expected.gates.items():
        np.testing.assert_equal(found.gates[name].to_dict(), gate.to_dict())


@pytest.mark.parametrize("fields", [{}, {"nonfinite": None, "gates": {}, "notes": ()}])
def test_record_comes_back_through_strict_json(fields):
    record = layer(**fields)

    back = LayerFlow.from_dict(loads(dumps(record.to_dict())))

    assert_same(back, record)
    assert back.lengths.dtype == np.int64
    assert back.dead.dtype == np.bool_


def test_measured_layer_comes_back_without_its_arrays():
    rnn, x = nn.LSTM(3, 4), torch.randn(6, 2, 3)
    record = gr.measure(rnn, lambda: rnn(x)[0].sum()).layers["lstm"]

    back = LayerFlow.from_dict(loads(dumps(record.to_dict())))

    assert_same(back, record)
    for call in (lambda: back.state_gradients(), lambda: back.contribution("weight_hh_l0", 0)):
        with pytest.raises(LookupError, match="lstm.l0: this record holds curves only"):
            call()


def test_every_field_is_in_the_plain_data_or_is_too_large_for_it():
    plain = layer().to_dict()

    assert {field.name for field in dataclasses.fields(LayerFlow)} - plain.keys() == IN_PROCESS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"record": "GradientFlow"}, "expected a 'LayerFlow' record; got 'GradientFlow'"),
        ({"schema_version": 99}, "schema version 99 is not readable"),
    ],
)
def test_other_data_is_refused(change, message):
    with pytest.raises(SchemaError, match=message):
        LayerFlow.from_dict(layer().to_dict() | change)


def test_record_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer().kind = "gru"


def test_saturated_units_are_those_at_95_percent():
    assert layer(saturation=np.array([0.94, 0.95, 1.0])).saturated.tolist() == [False, True, True]


def test_only_the_source_inputs_is_inexact():
    assert [layer(source=source).exact for source in ("fused", "cells", "inputs")] == [
        True, True, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda own: own.state_gradients("c"), r"must be one of \['h'\] for rnn.l0 \(tanh\)"),
        (lambda own: own.contribution("weight", 0), r"weight of rnn.l0 \(weight_ih_l0, weight_hh"),
        (lambda own: own.contribution("weight_hh_l0", 6), "must be within 0 … 5; got 6"),
        (lambda own: own.contribution("weight_hh_l0", -7), "must be within 0 … 5; got -7"),
    ],
)
def test_wrong_arguments_are_told(call, message):
    rnn, x = nn.RNN(3, 4), torch.randn(6, 2, 3)
    own = gr.measure(rnn, lambda: rnn(x)[0].sum()).layers["rnn"]

    with pytest.raises(ValueError, match=message):
        call(own)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_matrices_of_a_ragged_batch_have_the_norms_told_and_add_up(kind):
    rnn, x = kind(3, 4).double(), torch.randn(6, 3, 3, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([2, 6, 3]), enforce_sorted=False)
    loss = rnn(packed)[0].data.square().sum()
    loss.backward()

    own = gr.measure(rnn, lambda: rnn(packed)[0].data.square().sum()).layers[kind.__name__.lower()]

    for name, weight in rnn.named_parameters():
        terms = [own.contribution(name, step) for step in range(6)]
        norms = [np.linalg.norm(term) for term in terms]
        np.testing.assert_allclose(norms, own.contributions[name], rtol=1e-9)
        np.testing.assert_allclose(sum(terms), weight.grad, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(own.contribution(name, -1), terms[-1])
