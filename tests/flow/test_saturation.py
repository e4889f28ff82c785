"""Saturated and dead units, gates, tails and the first NaN: definitions, padding left out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flow.passes import packed, swept_of, tracks_of
from torch import nn

from gradreach.flow.gates import gates_of
from gradreach.flow.nonfinite import first_nonfinite
from gradreach.flow.saturation import dead_units, saturation_of

KINDS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
LENGTHS = [2, 7, 4]


def ragged_track(kind, layers=1):
    module, x = KINDS[kind](3, 6, layers), 4 * torch.randn(7, 3, 3)
    (track,) = tracks_of(module, lambda: module(packed(x, LENGTHS))[0].data.sum())
    return track


def own_activation(tape):
    return tape.activations.get("n", tape.activations.get("g", tape.hidden))


@pytest.mark.parametrize("kind", KINDS)
def test_saturation_is_the_share_of_small_slopes(kind):
    tapes = ragged_track(kind).tapes(0, 0)

    found = saturation_of(tapes)

    values = torch.stack(
        [
            own_activation(tapes[0])[step, row].double()
            for row, length in enumerate(LENGTHS)
            for step in range(length)
        ]
    )
    expected = (1 - values**2 < 0.05).double().mean(0)
    assert 0 < float(expected.mean()) < 1
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)
    assert not dead_units(tapes).any()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(padding=st.floats(-1e6, 1e6, width=32) | st.just(math.nan) | st.just(math.inf))
def test_what_lies_in_the_padding_changes_nothing(kind, padding):
    torch.manual_seed(1)
    track = ragged_track(kind)
    (tape,) = track.tapes(0, 0)

    def told():
        gates = {name: gate.to_dict() for name, gate in gates_of(track, (0, 0)).items()}
        return saturation_of([tape]).tolist(), dead_units([tape]).tolist(), gates

    before = told()
    for values in (tape.hidden, *tape.activations.values()):
        values[~tape.axis.valid] = padding

    assert told() == before


def test_dead_unit_is_dead_at_every_step_that_exists():
    rnn, x = nn.RNN(2, 4, nonlinearity="relu"), torch.randn(7, 3, 2)
    with torch.no_grad():
        rnn.bias_ih_l0[:] = torch.tensor([-100.0, 100.0, -100.0, 0.0])
        rnn.weight_hh_l0.zero_()
        rnn.bias_hh_l0.zero_()
    (track,) = tracks_of(rnn, lambda: rnn(packed(x, LENGTHS))[0].data.sum())
    tapes = track.tapes(0, 0)

    assert dead_units(tapes).tolist() == [True, False, True, False]
    tapes[0].hidden[6, 1, 0] = 1.0  # alive once
    tapes[0].hidden[6, 0, 2] = 1.0  # in the padding of a row
    assert dead_units(tapes).tolist() == [False, False, True, False]


def test_nan_is_neither_saturated_nor_dead():
    (tape,) = ragged_track("RNN").tapes(0, 0)
    tape.hidden.fill_(torch.nan)

    assert not saturation_of([tape]).any()
    assert not dead_units([tape]).any()


def test_units_are_counted_over_all_calls_of_a_chain():
    rnn, x = nn.RNN(3, 6), 4 * torch.randn(9, 2, 3)

    def windows():
        first, state = rnn(x[:2])
        return torch.cat([first, rnn(x[2:], state)[0]]).sum()

    (two,), (one,) = tracks_of(rnn, windows), tracks_of(rnn, lambda: rnn(x)[0].sum())

    torch.testing.assert_close(saturation_of(two.tapes(0, 0)), saturation_of(one.tapes(0, 0)))


@pytest.mark.parametrize(("kind", "letters"), [("GRU", "rz"), ("LSTM", "ifo")])
def test_gates_are_means_over_what_exists(kind, letters):
    track = ragged_track(kind)
    (tape,) = track.tapes(0, 0)

    gates = gates_of(track, (0, 0))

    assert list(gates) == list(letters)
    valid = tape.axis.valid
    for name, gate in gates.items():
        values = tape.activations[name].double()
        torch.testing.assert_close(torch.from_numpy(gate.per_unit), values[valid].mean(0),
                                   rtol=1e-6, atol=0)  # fmt: skip
        per_step = [values[step, valid[step]].mean() for step in range(7)]
        torch.testing.assert_close(torch.from_numpy(gate.per_step), torch.stack(per_step),
                                   rtol=1e-6, atol=0)  # fmt: skip


def test_simple_rnn_has_no_gates():
    assert gates_of(ragged_track("RNN"), (0, 0)) == {}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda r: r.track.tapes(0, 0)[0].weights.recurrent.data[1, 1].fill_(math.inf),
         ("weight weight_hh_l0", -1, -1)),
        (lambda r: r.track.tapes(0, 0)[0].inputs[3, 1].fill_(math.nan), ("input", 3, 1)),
        (lambda r: r.track.tapes(0, 0)[0].hidden[2, 2, 0].fill_(-math.inf), ("state", 2, 2)),
        (lambda r: (r.track.tapes(0, 0)[0].hidden[2, 2].fill_(math.nan),
                    r.track.tapes(0, 0)[0].inputs[2, 1].fill_(math.nan)), ("input", 2, 1)),
        (lambda r: r.norms[0, 0].__setitem__(([1, 3], [1, 2]), math.nan), ("gradient", 3, 2)),
        (lambda r: r.norms[0, 0].__setitem__((5, 0), math.nan), None),  # beyond row 0's end
        (lambda r: r.track.tapes(0, 0)[0].hidden[5, 0].fill_(math.nan), None),
    ],
    ids=["weight", "input", "state", "input first", "gradient", "padding", "padded state"],
)  # fmt: skip
def test_first_nonfinite_value_is_the_cause_before_its_effects(spoil, expected):
    rnn, x = nn.GRU(3, 4), torch.randn(7, 3, 3)
    result = swept_of(rnn, lambda: rnn(packed(x, LENGTHS))[0].data.sum())
    spoil(result)

    found = first_nonfinite(result, (0, 0))

    assert (found and (found.where, found.step, found.row)) == expected
