"""A replay of torch's fused layers has the user's bits, and tells where it has not."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from gradreach.kernels.torch_replay import replay_torch, same_bits

MODULES = {
    "tanh": nn.RNN,
    "relu": lambda *given, **options: nn.RNN(*given, nonlinearity="relu", **options),
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}
LENGTHS = {"packed": [7, 4, 2], "packed unsorted": [4, 7, 2]}
CASES = list(itertools.product(
    MODULES, (0.0, 0.5, 1.0), ("padded", "packed", "packed unsorted"), (False, True), (False, True)
))  # fmt: skip


def recorded(kind, dropout, layout, bidirectional, batch_first, state=None):
    module = MODULES[kind](
        3, 4, num_layers=2, dropout=dropout, bidirectional=bidirectional, batch_first=batch_first
    )
    inputs = torch.randn(3, 7, 3) if batch_first else torch.randn(7, 3, 3)
    if layout != "padded":
        inputs = pack_padded_sequence(inputs, torch.tensor(LENGTHS[layout]),
                                      batch_first=batch_first,
                                      enforce_sorted=layout == "packed")  # fmt: skip
    stream = torch.get_rng_state()
    output = module(inputs, state)[0]
    data = output.data if isinstance(output, PackedSequence) else output
    return module, inputs, data.detach(), stream


@pytest.mark.parametrize(("kind", "dropout", "layout", "bidirectional", "batch_first"), CASES)
def test_replay_has_the_bits_of_the_pass_and_notices_tampering(
    kind, dropout, layout, bidirectional, batch_first
):
    module, inputs, output, stream = recorded(kind, dropout, layout, bidirectional, batch_first)
    weights, before = module._flat_weights, torch.get_rng_state()

    replay = replay_torch(module, weights, inputs, None, output, stream)

    assert replay.identical
    assert torch.equal(torch.get_rng_state(), before)
    data = inputs.data if isinstance(inputs, PackedSequence) else inputs
    kept = data.clone()
    if dropout < 1.0:  # else nothing of the first layer reaches the output
        data.add_(0.1)
        assert not replay_torch(module, weights, inputs, None, output, stream).identical
        data.copy_(kept)
    with torch.no_grad():
        module.weight_hh_l1.add_(0.1)
    assert not replay_torch(module, weights, inputs, None, output, stream).identical


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("layout", ["padded", "packed unsorted"])
def test_tapes_hold_the_states_of_the_pass(kind, layout):
    module, inputs, output, stream = recorded(kind, 0.0, layout, True, False)
    replay = replay_torch(module, module._flat_weights, inputs, None, output, stream)
    lengths = torch.tensor(LENGTHS.get(layout, [7, 7, 7]))
    padded = inputs if layout == "padded" else pad_packed_sequence(inputs)[0]
    whole = module(inputs)[0]
    whole = whole if layout == "padded" else pad_packed_sequence(whole)[0]

    for way, tape in enumerate(replay.tapes[1]):
        exists = tape.axis.valid
        turned = tape.axis.turned(tape.hidden, reverse=way == 1)
        assert same_bits(turned[exists], whole[..., way * 4 : way * 4 + 4].detach()[exists])
        assert torch.equal(tape.previous[1:], tape.hidden[:-1])
        assert not tape.previous[0].any()
    assert torch.equal(tape.axis.lengths, lengths)
    first = replay.tapes[0]
    assert torch.equal(first[1].axis.turned(first[1].inputs, reverse=True), padded)
    below = [own.axis.turned(own.hidden, reverse=way == 1) for way, own in enumerate(first)]
    exists = first[0].axis.valid
    assert torch.equal(torch.cat(below, -1)[exists], replay.tapes[1][0].inputs[exists])


def test_other_random_stream_is_noticed():
    module, inputs, output, _stream = recorded("gru", 0.5, "padded", False, False)
    torch.manual_seed(1)

    other = replay_torch(module, module._flat_weights, inputs, None, output, torch.get_rng_state())

    assert not other.identical


@pytest.mark.parametrize("kind", MODULES)
def test_initial_state_and_unbatched_input_are_replayed(kind):
    module, x = MODULES[kind](3, 4, num_layers=2), torch.randn(6, 3)
    parts = torch.randn(2, 2, 4)
    state = tuple(parts) if kind == "lstm" else parts[0]
    output = module(x, state)[0].detach()

    given = replay_torch(module, module._flat_weights, x, state, output, None)
    zeros = replay_torch(module, module._flat_weights, x, None, output, None)

    assert given.identical
    assert not zeros.identical
    assert torch.equal(given.tapes[1][0].previous[0], parts[0][1:])


def test_bits_tell_what_equality_does_not():
    nan = torch.tensor([float("nan")])

    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same_bits(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
    assert not same_bits(torch.zeros(1), torch.zeros(1, 1))
