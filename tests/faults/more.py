"""Faults beyond the probe's nine: so that every rule has a model that it finds."""

from __future__ import annotations

import torch
from tests.faults.c4_padding import Reader, padded
from tests.faults.c5_closed_gate import gated
from tests.faults.case import Case, LastStepReader, Trial, noise, seeded
from tests.faults.memory import forget_bias
from torch import Tensor, nn

I, H, B, T = 2, 16, 8, 50  # noqa: E741  (the field's name for the input size)


def saturated(seed: int, faulty: bool) -> Trial:
    """A tanh RNN, orthogonal, whose input weights push every unit to its ends."""
    gain = 1000.0 if faulty else 0.02

    def build() -> LastStepReader:
        rnn = nn.RNN(I, H, batch_first=True)
        nn.init.orthogonal_(rnn.weight_hh_l0)
        with torch.no_grad():
            rnn.weight_ih_l0.mul_(gain)
            rnn.bias_ih_l0.zero_()
            rnn.bias_hh_l0.zero_()
        return LastStepReader(rnn)

    return Trial(seeded(seed, build), (noise(B, T, I, seed=seed),), noise(B, 1, seed=seed + 10))


def bad_row(seed: int, faulty: bool) -> Trial:
    """One NaN in the data: step 12 of row 3."""
    x = noise(B, T, I, seed=seed)
    x[3, 12, 1] = float("nan") if faulty else 0.0
    return Trial(
        seeded(seed, lambda: LastStepReader(gated(3.0))), (x,), noise(B, 1, seed=seed + 10)
    )


class WithUnused(LastStepReader):
    def __init__(self, unused: bool) -> None:
        super().__init__(gated(3.0))
        if unused:
            self.decoder = nn.GRU(I, H)


def unused_module(seed: int, faulty: bool) -> Trial:
    """A second recurrent module that the forward pass never calls."""
    model = seeded(seed, lambda: WithUnused(faulty))
    return Trial(model, (noise(B, T, I, seed=seed),), noise(B, 1, seed=seed + 10))


def contracting_reader_of_padding(seed: int) -> Trial:
    """Two faults: `out[:, -1]` of a padded batch, and a recurrence that loses it on the way."""

    def build() -> Reader:
        model = Reader(last_column=True)
        forget_bias(model.rnn, 0.0)
        return model

    return Trial(seeded(seed, build), padded(seed), noise(16, 1, seed=seed + 10))


class Stack(nn.Module):
    """Any layers of torch's, the last output read."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn
        width = int(rnn.hidden_size) * (2 if rnn.bidirectional else 1)
        self.readout = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.rnn(x)[0][:, -1])


MORE = (
    Case("saturated", saturated.__doc__ or "", saturated, "saturated-units"),
    Case("bad row", bad_row.__doc__ or "", bad_row, "nonfinite-value"),
    Case("unused", unused_module.__doc__ or "", unused_module, "blind-probe"),
)
