"""The sum of contributions is compared with torch's gradient, and a wrong sum is told."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tests.flow.passes import recorded
from torch import nn

from gradreach.flow.assemble import swept
from gradreach.flow.closure import check_closure, relative_error
from gradreach.flow.sources.cells import cells_track
from gradreach.flow.sources.fused import fused_track
from gradreach.flow.sources.links import chains_of


class Loop(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state = None
        for step in x:
            state = self.cell(step, state)
        return state[0] if isinstance(state, tuple) else state


def checked_pass(kind):
    """Return the swept tracks of a pass, and torch's gradients."""
    x = torch.randn(7, 2, 3)
    if issubclass(kind, nn.RNNBase):
        model = kind(3, 4, 2)
        calls, gradients = recorded(model, lambda: model(x)[0].square().sum())
        track = fused_track
    else:
        model = Loop(kind(3, 4))
        calls, gradients = recorded(model, lambda: model(x).square().sum())
        track = cells_track
    return model, [swept(track(chain, "rnn")) for chain in chains_of(calls)], gradients


ALL = [nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell]


@pytest.mark.parametrize("kind", ALL)
def test_sum_agrees_with_the_backward_pass_and_with_the_second_opinion(kind):
    _, results, gradients = checked_pass(kind)

    backward, replay = check_closure(results, gradients), check_closure(results, {})

    # float32 gradients of seven mild steps against a float64 sum.
    for checked, reference in ((backward, "backward"), (replay, "replay")):
        assert not checked.failed
        assert set(checked.closure_reference.values()) == {reference}
        assert max(checked.closure_error.values()) < 1e-5
    assert set(backward.outside_gradient.values()) == {0.0}


@pytest.mark.parametrize("kind", ALL)
def test_gradient_from_elsewhere_is_measured(kind):
    model, results, gradients = checked_pass(kind)
    name, weight = next(
        (name.split(".")[-1], weight) for name, weight in model.named_parameters() if "hh" in name
    )
    gradients[id(weight)] = 2 * gradients[id(weight)]

    checked = check_closure(results, gradients)

    assert checked.closure_reference[name] == "replay"
    assert checked.outside_gradient[name] == pytest.approx(0.5, rel=1e-4)
    assert sum(reference == "replay" for reference in checked.closure_reference.values()) == 1


@pytest.mark.parametrize("kind", ALL)
def test_wrong_sum_fails(kind):
    _, results, gradients = checked_pass(kind)
    own = results[0].contributions[0, 0]
    name = next(iter(own))
    own[name] = dataclasses.replace(own[name], total=1.01 * own[name].total)

    assert check_closure(results, gradients).failed == [name]


def test_relative_error_at_its_edges():
    zero, one, huge = torch.zeros(70, 3), torch.ones(70, 3), torch.full((70, 3), 3e38)

    assert relative_error(zero, zero) == 0.0
    assert relative_error(one, zero) == float("inf")
    assert relative_error(zero, one) == 1.0
    assert relative_error(huge, huge * 0.5) == pytest.approx(1.0)
    assert relative_error(one * 1e-30, one * 2e-30) == pytest.approx(0.5)
    assert relative_error(one * torch.nan, one) != relative_error(one, one)
