"""Lag profiles against autograd, over ragged batches, chains of calls and stacked layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.flow.passes import packed, tracks_of
from torch import nn

import gradreach as gr
from gradreach.flow.lag_profile import Probe, choose_probes, loss_steps

KINDS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
ALL = 10**6


def candidates(count):
    return [Probe(0, count - 1 - step, step) for step in range(count)]


@pytest.mark.parametrize(("count", "wanted"), [(100, 8), (9, 8), (100, 2), (100, 1), (5000, 64)])
def test_sample_of_probes_is_seeded_and_holds_the_last(count, wanted):
    first, again, other = (choose_probes(candidates(count), wanted, seed) for seed in (3, 3, 4))

    assert first == again
    assert len({probe.step for probe in first}) == wanted == len(other)
    assert [probe.step for probe in first] == sorted(probe.step for probe in first)
    assert first[-1].step == other[-1].step == count - 1
    if (count, wanted) == (5000, 64):
        assert first != other
        # One from each stretch: no gap is longer than two of them.
        assert max(np.diff([probe.step for probe in first])) <= 2 * 5000 / 63 + 1


def test_few_probes_are_all_taken_and_none_if_none_are_wanted():
    assert choose_probes(candidates(5), 8, 0) == candidates(5)
    assert choose_probes(candidates(5), 0, 0) == []
    assert choose_probes([], 8, 0) == []


def test_choosing_leaves_the_global_stream_alone():
    before = torch.get_rng_state()

    choose_probes(candidates(100), 8, 0)

    assert torch.equal(torch.get_rng_state(), before)


def test_named_steps_are_taken_as_named():
    assert [probe.step for probe in choose_probes(candidates(9), [7, 2], 0)] == [7, 2]


@pytest.mark.parametrize(
    ("count", "told"), [(0, "no step at all"), (3, "at 0, 1, 2"), (20, "20 steps, 0 … 19")]
)
def test_step_without_loss_is_refused(count, told):
    with pytest.raises(ValueError, match="'lag_probes' names step 77, where no gradient") as caught:
        choose_probes(candidates(count), [77], 0)

    assert str(caught.value).endswith(told)


def test_loss_steps_are_those_where_gradient_enters():
    rnn, x = nn.GRU(3, 4, bidirectional=True), torch.randn(9, 3, 3)

    def steps(read):
        return [[probe.step for probe in loss_steps(track)] for track in tracks_of(rnn, read)]

    assert steps(lambda: rnn(x)[0][[2, 5]].sum()) == [[2, 5]]
    assert steps(lambda: rnn(x)[1][0].sum()) == [[8]]
    assert steps(lambda: rnn(x)[1][1].sum()) == [[0]]  # the reverse direction ends at step 0
    # Rows of 4 and 9: their first steps are 3 and 8 steps before their own ends.
    assert steps(lambda: rnn(packed(x[:, :2], [4, 9]))[1][1].sum()) == [[0, 5]]


def test_state_read_in_each_detached_window_is_a_loss_step():
    rnn, x = nn.RNN(3, 4).double(), torch.randn(12, 2, 3, dtype=torch.float64)

    def windows():
        loss, state = 0.0, None
        for part in x.split(4):
            _, state = rnn(part, None if state is None else state.detach())
            loss = loss + state.square().sum()
        return loss

    layer = gr.measure(rnn, windows).layers["rnn"]

    assert layer.loss_steps == layer.lag_probes == (3, 7, 11)
    # No probe gets beyond its own window.
    np.testing.assert_array_equal(layer.lag_profile[4:], 0.0)
    assert (layer.lag_profile[:4] > 0).all()


def whole_norms(states, loss):
    """Return ‖∂loss/∂s_k‖ of each row, ``(T, B)``; ``states[k]`` is a tuple of parts."""
    flat = [part for state in states for part in state]
    found = torch.autograd.grad(loss, flat, retain_graph=True, materialize_grads=True,
                                allow_unused=True)  # fmt: skip
    size = len(states[0])
    return torch.stack(
        [torch.cat(found[k : k + size], -1).norm(dim=-1) for k in range(0, len(found), size)]
    )


def profile_of(states, losses, lengths=None):
    """Compute the profile by its definition: ``losses`` by lag-0 step, counted from the end."""
    steps, batch = len(states), states[0][0].shape[0]
    lengths = lengths or [steps] * batch
    at_lag, at_zero = np.zeros(steps), np.zeros(steps)
    for back, loss in losses.items():
        norms = whole_norms(states, loss)
        for lag in range(steps):
            rows = [row for row in range(batch) if lengths[row] - 1 - back - lag >= 0]
            if rows:
                ends = [lengths[row] - 1 - back for row in rows]
                now = norms[[end - lag for end in ends], rows]
                at_lag[lag] += float(now.square().mean().sqrt())
                at_zero[lag] += float(norms[ends, rows].square().mean().sqrt())
    longest = int(np.flatnonzero(at_zero)[-1]) + 1
    return at_lag[:longest] / at_zero[:longest]


def cells_of(rnn, layer=0):
    """Return a cell with the weights of one layer, forward direction."""
    size = rnn.input_size if layer == 0 else rnn.hidden_size
    cell = {"RNN": nn.RNNCell, "GRU": nn.GRUCell, "LSTM": nn.LSTMCell}[type(rnn).__name__](
        size, rnn.hidden_size
    ).double()
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(cell, name, nn.Parameter(getattr(rnn, f"{name}_l{layer}").detach().clone()))
    return cell


def run(cell, inputs):
    """Unroll a cell; return its states as tuples."""
    state, states = None, []
    for step in inputs:
        state = cell(step, state)
        states.append(state if isinstance(state, tuple) else (state,))
    return states


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [[9, 9, 9], [4, 9, 6]], ids=str)
def test_profile_of_a_ragged_batch_is_its_definition(kind, lengths):
    rnn, x = KINDS[kind](3, 5).double(), torch.randn(9, 3, 3, dtype=torch.float64)
    weight = torch.randn(9, 3, 5, dtype=torch.float64)  # by steps back from each row's end
    states = run(cells_of(rnn), x)
    losses = {
        back: sum(
            (states[length - 1 - back][0][row] * weight[back, row]).sum()
            for row, length in enumerate(lengths)
            if length > back
        )
        for back in (0, 2, 5)
    }

    def closure():
        output = nn.utils.rnn.pad_packed_sequence(rnn(packed(x, lengths))[0])[0]
        return sum(
            (output[length - 1 - back, row] * weight[back, row]).sum()
            for back in losses
            for row, length in enumerate(lengths)
            if length > back
        )

    layer = gr.measure(rnn, closure, lag_probes=ALL).layers[kind.lower()]

    assert layer.lag_probes == (3, 6, 8)
    np.testing.assert_allclose(layer.lag_profile, profile_of(states, losses, lengths), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_profiles_of_a_lower_layer_with_and_without_the_layer_above(kind):
    rnn, x = KINDS[kind](3, 4, 2).double(), torch.randn(8, 2, 3, dtype=torch.float64)
    loss_at = torch.randn(8, 2, 4, dtype=torch.float64)
    lower = run(cells_of(rnn, 0), x)
    upper = run(cells_of(rnn, 1), [state[0] for state in lower])
    losses = {7 - step: (state[0] * loss_at[step]).sum() for step, state in enumerate(upper)}

    flow = gr.measure(rnn, lambda: (rnn(x)[0] * loss_at).sum(), lag_probes=ALL)
    below, above = (flow.layers[f"{kind.lower()}.l{layer}"] for layer in range(2))

    np.testing.assert_allclose(above.lag_profile, profile_of(upper, losses), rtol=1e-9)
    np.testing.assert_array_equal(above.own_lag_profile, above.lag_profile)
    np.testing.assert_allclose(below.lag_profile, profile_of(lower, losses), rtol=1e-9)
    # Its recurrence alone: what the backward pass brings to its output, put in directly.
    alone = run(cells_of(rnn, 0), x)
    outputs = [state[0].detach().requires_grad_() for state in alone]
    total = sum((s[0] * g).sum() for s, g in zip(run(cells_of(rnn, 1), outputs), loss_at,
                                                 strict=True))  # fmt: skip
    brought = torch.autograd.grad(total, outputs)
    direct = {7 - step: (state[0] * brought[step]).sum() for step, state in enumerate(alone)}
    np.testing.assert_allclose(below.own_lag_profile, profile_of(alone, direct), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 4, 8])
def test_chain_of_two_calls_is_one_long_call(kind, cut):
    rnn, x = KINDS[kind](3, 4, 2).double(), torch.randn(9, 2, 3, dtype=torch.float64)

    def chain():
        first, state = rnn(x[:cut])
        return torch.cat([first, rnn(x[cut:], state)[0]]).square().sum()

    one = gr.measure(rnn, lambda: rnn(x)[0].square().sum(), lag_probes=ALL)
    two = gr.measure(rnn, chain, lag_probes=ALL)

    for name in one.layers:
        for curve in ("lag_profile", "own_lag_profile", "state_gradient_norms"):
            np.testing.assert_allclose(
                getattr(two.layers[name], curve), getattr(one.layers[name], curve), rtol=1e-9
            )


def test_ragged_chain_of_two_calls_is_one_long_call_of_each_row():
    # Rows of 3 + 4 and 2 + 1 steps: the first call is ragged, too, and rows close up.
    parts, rnn = [[3, 2], [4, 1]], nn.LSTM(3, 4).double()
    x = [torch.randn(max(part), 2, 3, dtype=torch.float64) for part in parts]
    rows = [torch.cat([x[0][: parts[0][r], r], x[1][: parts[1][r], r]]) for r in range(2)]
    whole = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)

    def chain():
        _, state = rnn(packed(x[0], parts[0]))
        return sum(part.square().sum() for part in rnn(packed(x[1], parts[1]), state)[1])

    one = gr.measure(rnn, lambda: sum(p.square().sum() for p in rnn(whole)[1])).layers["lstm"]
    two = gr.measure(rnn, chain).layers["lstm"]

    assert two.lengths.tolist() == [7, 3]
    np.testing.assert_allclose(two.lag_profile, one.lag_profile, rtol=1e-9)
    np.testing.assert_allclose(two.per_sample, one.per_sample, rtol=1e-9)
    np.testing.assert_allclose(
        two.contributions["weight_hh_l0"], one.contributions["weight_hh_l0"], rtol=1e-9
    )


def test_bidirectional_chain_follows_each_directions_own_state():
    rnn, x = nn.GRU(3, 4, bidirectional=True).double(), torch.randn(9, 2, 3, dtype=torch.float64)
    forward = nn.GRU(3, 4).double()
    backward = nn.GRU(3, 4).double()
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        setattr(forward, name, nn.Parameter(getattr(rnn, name).detach().clone()))
        setattr(backward, name, nn.Parameter(getattr(rnn, f"{name}_reverse").detach().clone()))
    turned = torch.cat([x[:4].flip(0), x[4:].flip(0)])  # as the reverse direction visits it

    def chain():
        first, state = rnn(x[:4])
        return torch.cat([first, rnn(x[4:], state)[0]]).square().sum()

    both = gr.measure(rnn, chain, lag_probes=ALL).layers
    alone = [gr.measure(own, lambda own=own, y=y: own(y)[0].square().sum(), lag_probes=ALL)
             for own, y in ((forward, x), (backward, turned))]  # fmt: skip

    for name, flow in zip(("gru.l0", "gru.l0_reverse"), alone, strict=True):
        for curve in ("state_gradient_norms", "lag_profile"):
            np.testing.assert_allclose(
                getattr(both[name], curve), getattr(flow.layers["gru"], curve), rtol=1e-9
            )
