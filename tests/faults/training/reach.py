"""Networks whose gradient does not reach the past, or explodes on the way: not to be trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.faults.case import LastStepReader
from tests.faults.memory import forget_bias, open_forget_gate
from tests.faults.training.fault import Fault, Optimizer, adam, sgd
from tests.faults.training.tasks import I, first_value, last_reader, rnn
from tests.faults.training.training import Loop
from torch import Tensor, nn

__all__ = ["REACH"]

T, B, H = 30, 8, 16
STEPS = 120


def of(
    make: Callable[[bool], nn.Module], optimizer: Optimizer, clip: float | None = None
) -> Callable[[int, bool], Loop]:
    def build(seed: int, faulty: bool) -> Loop:
        torch.manual_seed(seed)
        return Loop(make(faulty), first_value(seed, T=T, B=B), optimizer, steps=STEPS, clip=clip)

    return build


def contracting(radius: float) -> Callable[[bool], nn.Module]:
    def make(faulty: bool) -> nn.Module:
        layer = rnn(H)
        with torch.no_grad():
            layer.weight_hh_l0.mul_(radius if faulty else 1.0)
        return LastStepReader(layer)

    return make


def short_gru(faulty: bool) -> nn.Module:
    """A GRU as torch makes it, which keeps half of its state in a step."""
    return LastStepReader(nn.GRU(I, H, batch_first=True)) if faulty else last_reader("gru")


def closed_gate(bias: float) -> Callable[[bool], nn.Module]:
    def make(faulty: bool) -> nn.Module:
        layer = nn.LSTM(I, H, batch_first=True)
        forget_bias(layer, bias if faulty else 3.0)
        return LastStepReader(layer)

    return make


def saturated(gain: float) -> Callable[[bool], nn.Module]:
    def make(faulty: bool) -> nn.Module:
        layer = rnn(H)
        with torch.no_grad():
            layer.weight_ih_l0.mul_(gain if faulty else 0.5)
        return LastStepReader(layer)

    return make


def relu(gain: float, bias: float) -> Callable[[bool], nn.Module]:
    """The identity preserves; a larger gain explodes, and a bias below all inputs kills."""

    def make(faulty: bool) -> nn.Module:
        layer = nn.RNN(I, H, nonlinearity="relu", batch_first=True)
        with torch.no_grad():
            layer.weight_hh_l0.copy_((gain if faulty else 1.0) * torch.eye(H))
            layer.weight_ih_l0.mul_(0.3)
            layer.bias_ih_l0.fill_(bias if faulty else 0.0)
            layer.bias_hh_l0.zero_()
        return LastStepReader(layer)

    return make


class CellLoop(nn.Module):
    """A loop over a cell, which may detach its state every few steps."""

    def __init__(self, cell: nn.Module, every: int | None) -> None:
        super().__init__()
        self.cell, self.every = cell, every
        self.readout = nn.Linear(H, 1)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in range(x.shape[1]):
            if self.every and step and step % self.every == 0:
                state = state.detach() if isinstance(state, Tensor) else (
                    tuple(part.detach() for part in state))  # fmt: skip
            state = self.cell(x[:, step], state)
        return self.readout(state if isinstance(state, Tensor) else state[0])


def detached(kind: type[nn.Module], every: int) -> Callable[[bool], nn.Module]:
    def make(faulty: bool) -> nn.Module:
        cell = kind(I, H)
        if kind is nn.LSTMCell:
            open_forget_gate(cell)
        else:
            with torch.no_grad():  # z near 1 keeps the state: gates r, z, n
                cell.bias_ih[H : 2 * H] = 3.0
        return CellLoop(cell, every if faulty else None)

    return make


class LastReader(nn.Module):
    def __init__(self, layer: nn.Module, last_column: bool) -> None:
        super().__init__()
        self.rnn, self.last_column = layer, last_column
        self.readout = nn.Linear(H, 1)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        lengths = x.ne(0).any(-1).long().cumsum(1).argmax(1)
        last = out[:, -1] if self.last_column else out[torch.arange(len(x)), lengths]
        return self.readout(last)


def padded(layer: Callable[[], nn.Module], optimizer: Optimizer) -> Callable[[int, bool], Loop]:
    """Sequences of 4 to 12 steps, padded with zeros to 60, and the last column is read."""

    def build(seed: int, faulty: bool) -> Loop:
        torch.manual_seed(seed)
        usual = first_value(seed, T=60, B=B)

        def batch(step: int) -> tuple[Tensor, Tensor]:
            x, target = usual(step)
            lengths = torch.randint(4, 13, (B,), generator=torch.Generator().manual_seed(step))
            return x * (torch.arange(60) < lengths[:, None])[..., None], target

        return Loop(LastReader(layer(), faulty), batch, optimizer, steps=STEPS)

    return build


def plain_lstm() -> nn.Module:
    layer = nn.LSTM(I, H, batch_first=True)
    open_forget_gate(layer)
    return layer


PAST = "nothing-reaches-the-past"
UNDONE = "updates-undo-each-other"

REACH = (
    Fault("vanishing", "radius 0.5, Adam", of(contracting(0.5), adam(3e-3)),
          "vanishing-gradient", carries=PAST),
    Fault("vanishing", "radius 0.3, SGD", of(contracting(0.3), sgd(0.05)),
          "vanishing-gradient", carries=PAST),
    Fault("vanishing", "default GRU, SGD", of(short_gru, sgd(0.05)), "vanishing-gradient",
          carries=PAST),
    Fault("detached", "LSTMCell every 10", of(detached(nn.LSTMCell, 10), adam(1e-2)),
          "truncated-gradient", carries=PAST),
    Fault("detached", "GRUCell every 5", of(detached(nn.GRUCell, 5), adam(1e-2)),
          "truncated-gradient", carries=PAST),
    Fault("detached", "LSTMCell every 5, SGD", of(detached(nn.LSTMCell, 5), sgd(0.1)),
          "truncated-gradient", carries=PAST),
    Fault("padding", "LSTM, Adam", padded(plain_lstm, adam(1e-2)), "reads-padding"),
    Fault("padding", "LSTM, SGD", padded(plain_lstm, sgd(0.1)), "reads-padding", carries=PAST),
    Fault("dead", "bias -4, Adam", of(relu(1.0, -4.0), adam(3e-4)), "dead-units",
          carries="dead-units"),
    Fault("dead", "bias -9, SGD", of(relu(1.0, -9.0), sgd(0.002), clip=1.0), "dead-units",
          carries="dead-units"),
    Fault("saturated", "gain 1e6, SGD", of(saturated(1e6), sgd(0.01)), "saturated-units"),
    Fault("saturated", "gain 1e5, Adam", of(saturated(1e5), adam(1e-3)), "saturated-units"),
    Fault("closed gate", "bias -6, Adam", of(closed_gate(-6.0), adam(3e-3)), "closed-gate",
          carries=PAST),
    Fault("closed gate", "bias -8, SGD", of(closed_gate(-8.0), sgd(0.1)), "closed-gate",
          carries=PAST),
    Fault("exploding recurrence", "1.3 I, SGD, clipped",
          of(relu(1.3, 0.0), sgd(0.005), clip=1.0), "exploding-gradient", carries=UNDONE),
    Fault("exploding recurrence", "1.25 I, SGD, clipped",
          of(relu(1.25, 0.0), sgd(0.002), clip=1.0), "exploding-gradient", carries=UNDONE),
    Fault("exploding recurrence", "1.4 I, Adam", of(relu(1.4, 0.0), adam(3e-4)),
          "exploding-gradient"),
    Fault("exploding recurrence", "1.25 I, SGD", of(relu(1.25, 0.0), sgd(1e-3)),
          "exploding-gradient"),
)  # fmt: skip
