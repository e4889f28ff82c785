"""Stretches of the past against truncated backpropagation, which is their definition."""

from __future__ import annotations

import pytest
import torch
from tests.report.flows import flow_of, geometric_flow
from torch import nn

from gradreach.report.stretches import Stretch, recurrent_weight, stretches

# float32 forward, twenty steps: as argued in tests/claims.py.
TOLERANCE = 1e-5


def test_share_of_the_last_steps_is_that_of_truncated_backpropagation():
    rnn, x = nn.RNN(3, 6), torch.randn(20, 2, 3)
    layer = flow_of(rnn, lambda: rnn(x)[0][-1] ** 2).layers["rnn"]
    parts = stretches(layer, edges=(4, 11))

    def gradient(steps):
        """Backpropagate through the last ``steps`` steps only."""
        with torch.no_grad():
            h = rnn(x[: 20 - steps])[1] if steps < 20 else None
        loss = rnn(x[20 - steps :], h)[0][-1].square().sum()
        return torch.autograd.grad(loss, rnn.weight_hh_l0)[0].double()

    whole = gradient(20)
    expected = [float((gradient(n) * whole).sum() / whole.square().sum()) for n in (4, 11)]

    assert [(part.first, part.last) for part in parts] == [(1, 4), (5, 11), (12, 20)]
    assert parts[0].share == pytest.approx(expected[0], abs=TOLERANCE)
    assert parts[0].share + parts[1].share == pytest.approx(expected[1], abs=TOLERANCE)
    assert sum(part.share for part in parts) == pytest.approx(1.0, abs=1e-12)


def test_loss_in_the_middle_counts_back_from_its_own_step():
    rnn, x = nn.RNN(2, 4), torch.randn(20, 2, 2)

    layer = flow_of(rnn, lambda: rnn(x)[0][11]).layers["rnn"]

    assert [(part.first, part.last) for part in stretches(layer)] == [(1, 3), (4, 10), (11, 12)]
    assert sum(part.share for part in stretches(layer)) == pytest.approx(1.0, abs=1e-12)


def test_reverse_layer_counts_towards_the_end():
    rnn, x = nn.RNN(2, 4, bidirectional=True), torch.randn(20, 2, 2)

    flow = flow_of(rnn, lambda: rnn(x)[0][5])

    assert [part.last for part in stretches(flow.layers["rnn.l0"])] == [3, 6]
    assert [part.last for part in stretches(flow.layers["rnn.l0_reverse"])] == [3, 10, 15]


def test_loss_at_every_step_is_refused():
    layer = geometric_flow(0.5, every_step=True).layers["rnn"]

    with pytest.raises(ValueError, match="enters at 30 steps: measure the loss of the last step"):
        stretches(layer)


def test_rows_of_different_length_are_refused():
    rnn, x = nn.RNN(2, 4), torch.randn(20, 2, 2)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([20, 9]))
    layer = flow_of(rnn, lambda: rnn(packed)[1]).layers["rnn"]

    with pytest.raises(ValueError, match="have 9 to 20 steps: measure one length alone"):
        stretches(layer)


def test_gradient_of_zero_has_no_shares():
    rnn, x = nn.RNN(2, 4, nonlinearity="relu"), torch.randn(20, 2, 2)
    with torch.no_grad():
        rnn.bias_hh_l0.fill_(-100.0)  # every unit dead: the sum is exactly zero

    layer = flow_of(rnn, lambda: rnn(x)[0][-1]).layers["rnn"]

    assert all(part.share != part.share for part in stretches(layer))


def test_recurrent_weight_is_named_as_torch_names_it():
    rnn, x = nn.LSTM(2, 4, 2), torch.randn(20, 2, 2)

    layers = flow_of(rnn, lambda: rnn(x)[0]).layers

    assert [recurrent_weight(layer) for layer in layers.values()] == [
        "weight_hh_l0",
        "weight_hh_l1",
    ]


@pytest.mark.parametrize(
    ("first", "last", "label"), [(1, 1, "last"), (1, 3, "last 3"), (4, 4, "4"), (4, 10, "4-10")]
)
def test_label_reads_as_a_heading(first, last, label):
    assert Stretch(first, last, 0.5).label == label
