"""Calls of one module are stitched into time axes by the state that passes between them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.flow.passes import recorded
from torch import nn

from gradreach.flow.sources.links import Link, _state_link, chains_of


class Loop(nn.Module):
    """Calls its layer twice, with ``between`` applied to the state."""

    def __init__(self, layer, between):
        super().__init__()
        self.layer, self.between = layer, between

    def forward(self, x):
        half = len(x) // 2
        first, state = self.layer(x[:half])
        second, _ = self.layer(x[half:], self.between(state))
        return first.sum() + second.sum()


def each(change):
    """Apply a change to h, or to h and c."""
    return lambda state: tuple(map(change, state)) if isinstance(state, tuple) else change(state)


def links_of(model, x):
    calls, _ = recorded(model, lambda: model(x))
    return [(len(chain.calls), chain.links) for chain in chains_of(calls)]


BETWEEN = {
    "same": (each(lambda h: h), [(2, [Link.SAME])]),
    "detached": (each(lambda h: h.detach()), [(2, [Link.DETACHED])]),
    "detached clone": (each(lambda h: h.detach().clone()), [(2, [Link.DETACHED])]),
    "copied": (each(lambda h: torch.tensor(h.tolist())), [(2, [Link.DETACHED])]),
    "masked": (each(lambda h: h * 0.5), [(2, [Link.TRANSFORMED])]),
    "masked by ones": (each(lambda h: torch.ones(2, 1) * h), [(2, [Link.SAME])]),
    "masked by ones, state first": (each(lambda h: h * torch.ones(2, 1)), [(2, [Link.SAME])]),
    "one row masked": (each(lambda h: torch.tensor([[1.0], [0.0]]) * h),
                       [(2, [Link.TRANSFORMED])]),
    "learned mask": (each(lambda h: h * torch.ones(2, 1, requires_grad=True)),
                     [(2, [Link.TRANSFORMED])]),
    "mask on a changed state": (each(lambda h: torch.ones(2, 1) * (2 * h)),
                                [(2, [Link.TRANSFORMED])]),
    "squared": (each(lambda h: h * h), [(2, [Link.TRANSFORMED])]),
    "cloned": (each(lambda h: h.clone()), [(2, [Link.TRANSFORMED])]),
    "normalised": (each(lambda h: (h - h.mean(-1, keepdim=True)) / h.std(-1, keepdim=True)),
                   [(2, [Link.TRANSFORMED])]),
    "changed off the graph": (each(lambda h: h.detach() * 0.5), [(1, []), (1, [])]),
    "zeros": (each(torch.zeros_like), [(1, []), (1, [])]),
    "learned": (each(lambda h: torch.zeros_like(h, requires_grad=True)), [(1, []), (1, [])]),
}  # fmt: skip


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize(("between", "expected"), BETWEEN.values(), ids=BETWEEN)
def test_link_is_told_by_what_became_of_the_state(kind, between, expected):
    assert links_of(Loop(kind(3, 4), between), torch.randn(6, 2, 3)) == expected


def test_parts_of_a_state_that_went_different_ways_are_a_change():
    model = Loop(nn.LSTM(3, 4), lambda state: (state[0], state[1].detach()))

    assert links_of(model, torch.randn(6, 2, 3)) == [(2, [Link.TRANSFORMED])]


def test_state_changed_in_place_is_not_the_same():
    model = Loop(nn.GRU(3, 4), lambda state: state.mul_(0.5))

    assert links_of(model, torch.randn(6, 2, 3)) == [(2, [Link.TRANSFORMED])]


def test_no_state_passed_on_is_an_axis_of_its_own():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.RNN(3, 4)

        def forward(self, x):
            return self.layer(x)[0].sum() + self.layer(x)[0].sum()

    assert links_of(Twice(), torch.randn(6, 2, 3)) == [(1, []), (1, [])]


def test_state_that_goes_to_two_calls_continues_one_axis_and_begins_another():
    class Beam(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.RNN(3, 4)

        def forward(self, x):
            _, state = self.layer(x)
            one, one_state = self.layer(x, state)
            two, _ = self.layer(-x, state)
            three, _ = self.layer(x, one_state)
            return one.sum() + two.sum() + three.sum()

    assert links_of(Beam(), torch.randn(6, 2, 3)) == [(3, [Link.SAME, Link.SAME]), (1, [])]


def test_state_of_another_module_ties_nothing():
    class EncoderDecoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.GRU(3, 4), nn.GRU(3, 4)

        def forward(self, x):
            return self.decoder(x, self.encoder(x)[1])[0].sum()

    model, x = EncoderDecoder(), torch.randn(6, 2, 3)
    calls, _ = recorded(model, lambda: model(x))

    assert [call.before for call in calls] == [None, None]


def test_other_batch_size_ties_nothing():
    model = Loop(nn.GRU(3, 4), lambda state: state)
    x = torch.randn(6, 2, 3)
    wide, _ = model.layer(x[:3])
    calls, _ = recorded(model, lambda: model.layer(x[3:], wide[-1:])[0].sum() + model(x))

    # A state made outside the pass is an initial state.
    assert calls[0].before is None
    assert [call.before is not None for call in calls] == [False, False, True]


def test_state_on_another_device_is_compared_without_an_error():
    # model.cpu() between two passes: the recorded state is still on the accelerator.
    passed, left = torch.ones(1, 2, 4), torch.ones(1, 2, 4, device="meta")
    later = SimpleNamespace(entering=(passed,), entering_versions=(0,))
    earlier = SimpleNamespace(leaving=(left,), leaving_versions=(0,), leaving_places=(None,))

    assert _state_link(earlier, later, 0) is None


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_loop_over_a_cell_is_one_chain_with_its_cuts(kind):
    class Cells(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = kind(3, 4)

        def forward(self, x):
            state = None
            for number, step in enumerate(x):
                if number == 3:
                    state = each(lambda h: h.detach())(state)
                state = self.cell(step, state)
            return (state[0] if isinstance(state, tuple) else state).sum()

    assert links_of(Cells(), torch.randn(5, 2, 3)) == [
        (5, [Link.SAME, Link.SAME, Link.DETACHED, Link.SAME])
    ]
