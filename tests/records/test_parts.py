"""The small records a layer's record is made of."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from gradreach.records import BlindSpot, Gate, LayerTensors, NonFinite, ScaledArray
from gradreach.runs.plain_json import dumps, loads


@pytest.mark.parametrize(
    "record", [BlindSpot("decoder", "GRU", "why"), NonFinite("weight weight_hh_l0", -1, -1)]
)
def test_record_comes_back_and_is_frozen(record):
    assert type(record)(**loads(dumps(record.to_dict()))) == record
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, dataclasses.fields(record)[0].name, "other")


def test_nonfinite_says_where():
    assert str(NonFinite("state", 3, 1)).endswith("in the state of step 3, batch row 1")
    assert str(NonFinite("weight w", -1, -1)) == "NaN or infinity in weight w"


def test_gate_comes_back_with_its_mean():
    gate = Gate(np.array([0.25, 0.75]), np.array([0.5, math.nan]))

    back = Gate.from_dict(loads(dumps(gate.to_dict())))

    np.testing.assert_array_equal(back.per_step, gate.per_step)
    assert back.mean == gate.mean == 0.5
    assert math.isnan(Gate(np.zeros(0), np.zeros(0)).mean)


def test_scaled_array_widens_all_steps_as_each():
    array = ScaledArray(np.array([[[0.5, -1.0]], [[1.0, 0.0]]], dtype=np.float32),
                        np.array([[1e-300], [math.nan]]))  # fmt: skip

    np.testing.assert_array_equal(array.array()[0], [[5e-301, -1e-300]])
    assert np.isnan(array.array()[1]).all()
    for step in range(2):
        np.testing.assert_array_equal(array.step(step), array.array()[step])


def test_last_block_of_the_recurrent_side_is_replaced_where_it_differs():
    side = ScaledArray(np.arange(12.0).reshape(1, 2, 6), None)
    last = ScaledArray(-np.ones((1, 2, 2)), None)
    none = np.zeros((1, 2, 0))

    plain = LayerTensors(side, None, side, None, none, none)
    gru = LayerTensors(side, None, side, last, none, none)

    np.testing.assert_array_equal(plain.side(recurrent=True, step=0), side.step(0))
    np.testing.assert_array_equal(gru.side(recurrent=False, step=0), side.step(0))
    np.testing.assert_array_equal(
        gru.side(recurrent=True, step=0), [[0, 1, 2, 3, -1, -1], [6, 7, 8, 9, -1, -1]]
    )
