"""Module time and recurrence time of equal and ragged batches."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence

from gradreach.kernels.time_axis import TimeAxis

ragged = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def axis_of(lengths, longer=0):
    return TimeAxis(max(lengths) + longer, torch.tensor(lengths))


@given(ragged, st.integers(0, 2), st.booleans(), st.sampled_from([(), (2,), (2, 3)]))
def test_turning_twice_changes_nothing(lengths, longer, reverse, rest):
    axis = axis_of(lengths, longer)
    sequence = torch.randn(axis.steps, axis.batch, *rest)

    turned = axis.turned(sequence, reverse=reverse)

    assert torch.equal(axis.turned(turned, reverse=reverse), sequence)
    assert torch.equal(turned[~axis.valid], sequence[~axis.valid])


@given(ragged)
def test_each_row_is_turned_at_its_own_end(lengths):
    axis = axis_of(lengths)
    sequence = torch.randn(axis.steps, axis.batch, 2)

    turned = axis.turned(sequence, reverse=True)

    for row, length in enumerate(lengths):
        assert torch.equal(turned[:length, row], sequence[:length, row].flip(0))


@given(ragged)
def test_steps_that_exist_and_rows_that_end(lengths):
    axis = axis_of(lengths)

    assert axis.valid.sum(0).tolist() == lengths
    ends = {row: step for step, rows in axis.ends().items() for row in rows.tolist()}
    assert [ends[row] + 1 for row in range(len(lengths))] == lengths
    assert axis.ragged == (len(set(lengths)) > 1)


@given(ragged)
def test_packed_rows_are_laid_out_in_the_users_order(lengths):
    axis = axis_of(lengths)
    sequence = torch.randn(axis.steps, axis.batch, 2)
    packed = pack_padded_sequence(sequence, axis.lengths, enforce_sorted=False)

    padded = TimeAxis.padded(packed.data, packed)

    assert torch.equal(padded, sequence * axis.valid[..., None])


def test_full_axis_has_no_end_but_the_last():
    axis = TimeAxis.full(4, 3, torch.device("cpu"))

    assert not axis.ragged
    assert list(axis.ends()) == [3]
