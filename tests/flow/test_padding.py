"""Constant tails, and the share of the loss gradient that enters there."""

from __future__ import annotations

import math

import pytest
import torch
from tests.flow.passes import packed, tracks_of
from torch import nn

from gradreach.flow.padding import constant_tails

STEPS, ENDS = 8, [3, 8, 5, 7]


def tails_of(x, read):
    rnn = nn.RNN(x.shape[-1], 4)
    (track,) = tracks_of(rnn, lambda: read(*rnn(x)))
    return constant_tails(track)


def padded(fill=0.0, steps=STEPS):
    x = torch.randn(steps, len(ENDS), 3)
    for row, end in enumerate(ENDS):
        x[end:, row] = fill
    return x


@pytest.mark.parametrize("fill", [0.0, -7.0])
def test_tail_starts_where_the_sequence_stops_changing(fill):
    tails = tails_of(padded(fill), lambda output, _: output[-1].sum())

    # Row 3 has one padded step only: a single value is no tail.
    assert tails.starts.tolist() == [3, 8, 5, 8]
    assert tails.gradient_share == pytest.approx(0.5)  # two of four equal rows
    assert tails.one_value == 1.0
    assert tails.elsewhere == pytest.approx(1 / 24)


def test_gradient_read_at_each_rows_own_end_enters_before_the_tail():
    last = torch.tensor(ENDS) - 1

    tails = tails_of(padded(), lambda output, _: output[last, torch.arange(4)].sum())

    assert tails.gradient_share == 0.0


def test_returned_state_is_read_at_the_end():
    tails = tails_of(padded(), lambda _, state: state.sum())

    assert tails.gradient_share == pytest.approx(0.5)


def test_value_of_the_data_is_seen_outside_the_tails():
    x = padded()
    x[0] = 0.0  # a symbol of the data: 4 of the 3 + 8 + 5 + 8 steps outside tails, 1 padded

    tails = tails_of(x, lambda output, _: output[-1].sum())

    assert tails.elsewhere == pytest.approx(5 / 24)


def test_different_values_at_the_ends_are_told():
    x = padded()
    x[5:, 2] = 9.0

    assert tails_of(x, lambda output, _: output[-1].sum()).one_value == 0.5


def test_constant_sequence_is_a_tail_from_its_start_and_a_changing_one_has_none():
    constant, changing = torch.ones(6, 1, 2), torch.randn(6, 1, 2)

    assert tails_of(constant, lambda output, _: output[-1].sum()).starts.tolist() == [0]
    none = tails_of(changing, lambda output, _: output[-1].sum())
    assert none.starts.tolist() == [6]
    assert math.isnan(none.one_value)
    assert none.gradient_share == 0.0


def test_packed_sequences_end_where_they_end():
    x, rnn = padded(), nn.GRU(3, 4)

    (track,) = tracks_of(rnn, lambda: rnn(packed(x, ENDS))[0].data.sum())
    tails = constant_tails(track)

    assert tails.starts.tolist() == ENDS
    assert tails.gradient_share == 0.0
