"""Three tasks that small networks learn in 200 steps, and the networks that learn them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.faults.case import LastStepReader, StepReader
from tests.faults.memory import forget_bias
from torch import Tensor, nn

__all__ = ["CELLS", "TASKS", "echo", "first_value", "fixed_batch", "last_reader", "step_reader"]

Batches = Callable[[int], tuple[Tensor, Tensor]]
I = 2  # noqa: E741  (the field's name for the input size)


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(100_003 * (seed + 1) + step)


def echo(seed: int, *, T: int = 30, B: int = 16, lag: int = 2, noise: float = 0.0) -> Batches:
    """At every step, say what the input was a few steps ago; new data in every batch."""

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = _generator(seed, step)
        x = torch.randn(B, T, I, generator=generator)
        target = torch.zeros(B, T, 1)
        target[:, lag:, 0] = x[:, : T - lag, 0]
        return x, target + noise * torch.randn(B, T, 1, generator=generator)

    return batch


def first_value(seed: int, *, T: int = 30, B: int = 16) -> Batches:
    """At the last step, say the sign that was shown at the first; noise in between."""

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = _generator(seed, step)
        x = 0.3 * torch.randn(B, T, I, generator=generator)
        sign = torch.randint(0, 2, (B,), generator=generator) * 2.0 - 1.0
        x[:, 0, 0] = sign
        return x, sign[:, None]

    return batch


def fixed_batch(seed: int, *, T: int = 30, B: int = 16) -> Batches:
    """One batch again and again: the running mean of a random walk's steps."""
    generator = _generator(seed, 0)
    x = torch.randn(B, T, I, generator=generator)
    target = x[..., :1].cumsum(1) / torch.arange(1, T + 1)[:, None] ** 0.5
    return lambda step: (x, target)


TASKS: dict[str, Callable[..., Batches]] = {
    "echo": echo,
    "first": first_value,
    "fixed": fixed_batch,
}


def rnn(H: int) -> nn.Module:
    layer = nn.RNN(I, H, batch_first=True)
    nn.init.orthogonal_(layer.weight_hh_l0)
    with torch.no_grad():
        layer.weight_ih_l0.mul_(0.5)
        layer.bias_ih_l0.zero_()
        layer.bias_hh_l0.zero_()
    return layer


def gru(H: int) -> nn.Module:
    layer = nn.GRU(I, H, batch_first=True)
    with torch.no_grad():  # z near 1 keeps the state: gates r, z, n
        layer.bias_ih_l0[H : 2 * H] = 2.0
        layer.bias_hh_l0[H : 2 * H] = 0.0
    return layer


def lstm(H: int) -> nn.Module:
    layer = nn.LSTM(I, H, batch_first=True)
    forget_bias(layer, 3.0)
    return layer


CELLS: dict[str, Callable[[int], nn.Module]] = {"rnn": rnn, "gru": gru, "lstm": lstm}


def step_reader(cell: str, H: int = 16) -> StepReader:
    return StepReader(CELLS[cell](H))


def last_reader(cell: str, H: int = 16) -> LastStepReader:
    return LastStepReader(CELLS[cell](H))
