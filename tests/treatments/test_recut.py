"""Where the gradient ends, against loops that detach by hand; windows against longer windows."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from gradreach.records import Finding
from gradreach.treatments import Interception, JoinedWindows, TreatmentError, treat
from gradreach.treatments.facts import LayerFacts, OptimizerFacts, RunFacts
from gradreach.treatments.recut import recut

LAYERS = [nn.RNN, nn.GRU, nn.LSTM]


def detached(state):
    return tuple(map(detached, state)) if isinstance(state, tuple) else state.detach()


def gradients(module, loss):
    loss.backward()
    return [p.grad.clone() for p in module.parameters()]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_stretches_are_a_loop_that_detaches(kind, batch_first):
    layer = kind(2, 3, num_layers=2, batch_first=batch_first)
    plain = copy.deepcopy(layer)
    x = torch.randn(4, 7, 2)
    recut(layer, steps=3)

    output, last = layer(x)
    mine = gradients(layer, output.square().sum())

    state, outputs = None, []
    for chunk in x.split(3, dim=1 if batch_first else 0):
        state = state if state is None else detached(state)
        part, state = plain(chunk, state)
        outputs.append(part)
    by_hand = torch.cat(outputs, 1 if batch_first else 0)
    assert torch.equal(output, by_hand)
    for one, other in zip(
        last if isinstance(last, tuple) else (last,),
        state if isinstance(state, tuple) else (state,),
        strict=True,
    ):
        assert torch.equal(one, other)
    for one, other in zip(mine, gradients(plain, by_hand.square().sum()), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", LAYERS)
def test_stretches_of_packed_rows_are_those_of_each_row_alone(kind):
    layer = kind(2, 3).double()
    rows = [torch.randn(n, 2, dtype=torch.float64) for n in (3, 8, 5)]  # not sorted by length
    plain = copy.deepcopy(layer)
    recut(layer, steps=3)
    packed = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)

    output, last = layer(packed)
    padded, _ = nn.utils.rnn.pad_packed_sequence(output)
    mine = gradients(layer, padded.square().sum())

    total = 0.0
    for place, row in enumerate(rows):
        state = None
        for chunk in row.split(3):
            state = state if state is None else detached(state)
            part, state = plain(chunk.unsqueeze(1), state)
            total = total + part.square().sum()
        h = state[0] if isinstance(state, tuple) else state
        own = last[0] if isinstance(last, tuple) else last
        torch.testing.assert_close(own[:, place], h[:, 0])
    for one, other in zip(mine, gradients(plain, total), strict=True):
        torch.testing.assert_close(one, other)


def test_a_layer_that_is_cut_keeps_its_names_and_can_be_saved_whole(tmp_path):
    model = nn.Sequential(nn.LSTM(2, 3))
    names = list(model.state_dict())
    recut(model[0], steps=2)

    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    again = torch.load(stream, weights_only=False)

    assert list(model.state_dict()) == names
    assert again[0].recut_steps == 2
    assert isinstance(again[0], nn.LSTM)
    assert "LSTM(2, 3)" in str(model)


CUTS = {
    "detach": lambda h: h.detach(),
    "data": lambda h: h.data,
    "copy": lambda h: torch.tensor(h.tolist(), dtype=h.dtype),
}


@pytest.mark.parametrize("cut", list(CUTS))
def test_undone_detach_is_a_loop_without_it(cut):
    cell = nn.GRUCell(2, 3).double()
    plain = copy.deepcopy(cell)
    x = torch.randn(6, 4, 2, dtype=torch.float64)
    recut(cell, joins=True)

    def loss(its, cuts):
        h = torch.zeros(4, 3, dtype=torch.float64)
        for t, step in enumerate(x):
            if cuts and t == 3:
                h = CUTS[cut](h)
            h = its(step, h)
        return h.square().sum()

    mine = gradients(cell, loss(cell, cuts=True))

    for one, other in zip(mine, gradients(plain, loss(plain, cuts=False)), strict=True):
        assert torch.equal(one, other)


def test_a_state_from_a_pass_that_is_done_stays_detached():
    layer = nn.LSTM(2, 3)
    plain = copy.deepcopy(layer)
    recut(layer, joins=True)
    x = torch.randn(4, 5, 1, 2)

    for its in (layer, plain):
        state = None
        for window in x:  # a state left attached would fail in the second pass
            state = None if state is None else detached(state)
            output, state = its(window, state)
            output.square().sum().backward()

    for one, other in zip(layer.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_growing_graph_is_cut_where_a_detach_would_have_cut_it(kind):
    layer = kind(2, 3)
    plain = copy.deepcopy(layer)
    recut(layer, detaches=True)
    x = torch.randn(3, 5, 1, 2)

    for its in (layer, plain):
        state = None
        for window in x:
            if its is plain and state is not None:
                state = detached(state)
            elif state is not None:
                state = tuple(s * 1.0 for s in state) if isinstance(state, tuple) else state * 1.0
            output, state = its(window, state)
            output.square().sum().backward()

    for one, other in zip(layer.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_a_learned_first_state_and_an_encoder_s_are_not_cut():
    encoder, decoder = nn.GRU(2, 3), nn.GRU(2, 3)
    first = nn.Parameter(torch.randn(1, 1, 3))
    recut(encoder, detaches=True)
    recut(decoder, detaches=True)

    for _ in range(2):
        first.grad = encoder.weight_hh_l0.grad = None
        _, state = encoder(torch.randn(4, 1, 2), first * 2)
        decoder(torch.randn(4, 1, 2), state)[0].sum().backward()

        assert first.grad.abs().sum() > 0
        assert encoder.weight_hh_l0.grad.abs().sum() > 0


def train(windows: int, length: int, x: torch.Tensor, optimizer_class, scaled: bool = False):
    """A stateful training on windows of some length; the loss of a long one is the sum."""
    torch.manual_seed(3)
    model = nn.LSTM(2, 4).double()
    optimizer = optimizer_class(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
    state = None
    for at in range(0, len(x), length):
        if state is not None:
            state = tuple(s.detach() for s in state)
        output, state = model(x[at : at + length], state)
        parts = output.split(length // windows)
        loss = sum(part.square().mean() for part in parts)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("n", [2, 4])
def test_joined_windows_are_the_window_n_times_as_long(optimizer, scaled, n):
    x = torch.randn(40, 3, 2, dtype=torch.float64)

    long = train(n, 5 * n, x, optimizer, scaled)
    with treat(f"truncation(windows={n})"):
        joined = train(1, 5, x, optimizer, scaled)

    untreated = train(1, 5, x, optimizer, scaled)
    for one, other, control in zip(joined, long, untreated, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)  # sums in another order
        assert (one - control).abs().max() > 1e-4


def test_windows_that_wait_are_no_error_to_clipping_by_value():
    with treat("truncation(windows=2)"):
        layer = nn.RNN(1, 1)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        before = layer.weight_hh_l0.item()
        moved = []
        for _ in range(4):
            optimizer.zero_grad()
            layer(torch.ones(3, 1, 1))[0].sum().backward()
            nn.utils.clip_grad_value_(layer.parameters(), 0.1)
            optimizer.step()
            moved.append(layer.weight_hh_l0.item() != before)
            before = layer.weight_hh_l0.item()

    assert moved == [False, True, False, True]


def test_joined_windows_leave_torch_as_it_was():
    own = torch.autograd.backward, torch.amp.GradScaler.step

    with Interception() as run:
        JoinedWindows(2).install(run)

    assert (torch.autograd.backward, torch.amp.GradScaler.step) == own


def test_joined_windows_cannot_be_applied_to_a_model_alone():
    with pytest.raises(TreatmentError, match="around model and loop"):
        JoinedWindows(2).apply(nn.RNN(1, 1))


def test_joined_windows_are_proposed_where_a_cut_state_is_asked_about():
    facts = RunFacts(
        layers=(LayerFacts(kind="lstm", carried=True),),
        optimizers=(OptimizerFacts(kind="Adam", lr=0.01),),
        sequence_steps=4,
    )
    cut = Finding(
        code="state-detached", severity="warning", cause="", counter_check="",
        remedies=("truncation",),
    )  # fmt: skip
    other = Finding(code="dead-units", severity="warning", cause="", counter_check="")

    assert [each.label for each in JoinedWindows.candidates(cut, facts)] == [
        "truncation(windows=4)",
        "truncation(windows=2)",
    ]
    assert JoinedWindows.candidates(other, facts) == []
