"""C4: sequences of 5 to 20 steps, padded with zeros to 200, of which `out[:, -1]` is read."""

from __future__ import annotations

import torch
from tests.faults.case import Case, Trial, noise, seeded
from tests.faults.memory import open_forget_gate
from torch import Tensor, nn

I, H, B, T = 2, 32, 16, 200  # noqa: E741  (the field's name for the input size)


class Reader(nn.Module):
    def __init__(self, last_column: bool) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, batch_first=True)
        open_forget_gate(self.rnn)
        self.readout = nn.Linear(H, 1)
        self.last_column = last_column

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        rows = torch.arange(len(x))
        last = out[:, -1] if self.last_column else out[rows, lengths - 1]
        return self.readout(last)


class PackedReader(Reader):
    """The other healthy way to read it."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        _, (h, _) = self.rnn(packed)
        return self.readout(h[-1])


def padded(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 21, (B,), generator=generator)
    inside = torch.arange(T) < lengths[:, None]
    return noise(B, T, I, seed=seed) * inside[..., None], lengths


def build(seed: int, faulty: bool) -> Trial:
    model = seeded(seed, lambda: Reader(last_column=faulty))
    return Trial(model, padded(seed), noise(B, 1, seed=seed + 10))


def build_packed(seed: int, faulty: bool) -> Trial:
    model = seeded(seed, lambda: Reader(True) if faulty else PackedReader(False))
    return Trial(model, padded(seed), noise(B, 1, seed=seed + 10))


CASE = Case("c4", __doc__, build, "reads-padding")
PACKED = Case("c4-packed", __doc__, build_packed, "reads-padding")
