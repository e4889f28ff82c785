"""The second opinion is autograd's own gradient of the layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from gradreach.kernels.equations import equations_of
from gradreach.kernels.reverse_scan import Arrivals, StateFlow, reverse_scan
from gradreach.kernels.torch_replay import replay_torch
from gradreach.kernels.widened import widened_gradients

KINDS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("lengths", [[8, 8, 8], [3, 8, 5]], ids=str)
def test_widened_gradients_equal_autograd_and_the_scan(kind, bias, lengths):
    module = KINDS[kind](3, 4, bias=bias).double()
    x = torch.randn(8, 3, 3, dtype=torch.float64)
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    output, state = module(packed)
    parts = state if isinstance(state, tuple) else (state,)
    upstream = torch.randn_like(output.data)
    ends = [torch.randn_like(part) for part in parts]
    module.zero_grad()
    torch.autograd.backward([output.data, *parts], [upstream, *ends])
    replay = replay_torch(module, module._flat_weights, packed, None, output.data.detach(), None)
    tape = replay.tapes[0][0]
    equations_of(tape.kind).recompute(tape)
    arrived = tape.axis.padded(upstream, packed)[:, None]
    flow = StateFlow(ends[0], ends[1] if len(ends) == 2 else None)

    def arriving(start, stop):
        return arrived[start:stop]

    delta, weights = widened_gradients(tape, arriving, flow)

    for got, expected in zip(weights, module.parameters(), strict=True):
        torch.testing.assert_close(got, expected.grad, rtol=1e-11, atol=1e-12)
    sides = []
    reverse_scan(tape, Arrivals(arriving, flow), lambda chunk: sides.append(chunk.input_side))
    torch.testing.assert_close(delta, torch.cat(sides[::-1])[:, 0], rtol=1e-11, atol=1e-13)
