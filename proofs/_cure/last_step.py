"""Train a recurrent network that answers at the last step, as a user writes it.

    python last_step.py --task adding --length 40 --cell rnn

Nothing in here knows of gradreach. What is wrong with a training stands in its arguments.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def adding(n: int, length: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two of the numbers are marked, one in each half; their sum is asked for."""
    rows, half = torch.arange(n), length // 2
    x = torch.stack([torch.rand(n, length, generator=draw), torch.zeros(n, length)], -1)
    first = torch.randint(0, half, (n,), generator=draw)
    second = torch.randint(half, length, (n,), generator=draw)
    x[rows, first, 1] = x[rows, second, 1] = 1.0
    return x, (x[rows, first, :1] + x[rows, second, :1])


def first(n: int, length: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """The first of many bits is asked for."""
    bits = torch.randint(0, 2, (n, length), generator=draw)
    return F.one_hot(bits, 2).float(), bits[:, 0]


def order(n: int, length: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which of two symbols stood at two places, among four others that mean nothing."""
    symbols, rows = torch.randint(2, 6, (n, length), generator=draw), torch.arange(n)
    classes = torch.zeros(n, dtype=torch.long)
    for bit, begins in enumerate((length // 10, length // 2)):
        value = torch.randint(0, 2, (n,), generator=draw)
        symbols[rows, begins + torch.randint(0, length // 10, (n,), generator=draw)] = value
        classes += value << bit
    return F.one_hot(symbols, 6).float(), classes


def recall(n: int, length: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of eight symbols is shown, then nothing, and it is asked for."""
    symbol = torch.randint(0, 8, (n,), generator=draw)
    x = torch.zeros(n, length, 9)
    x[torch.arange(n), 0, symbol] = 1.0
    x[:, -1, 8] = 1.0
    return x, symbol


TASKS = {"adding": (adding, 2, 1), "first": (first, 2, 2), "order": (order, 6, 4),
         "recall": (recall, 9, 8)}  # fmt: skip


class Net(nn.Module):
    """One recurrent layer, read at its last step."""

    def __init__(self, cell: str, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        if cell == "relu":
            self.rnn = nn.RNN(inputs, hidden, nonlinearity="relu", batch_first=True)
        else:
            kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
            self.rnn = kind(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.head(out[:, -1])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", choices=list(TASKS), default="adding")
    parser.add_argument("--length", type=int, default=30)
    parser.add_argument("--cell", choices=["rnn", "relu", "gru", "lstm"], default="rnn")
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--optimizer", choices=["sgd", "adam", "rmsprop"], default="adam")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--clip", type=float)
    parser.add_argument("--clip-early", action="store_true", help="before backward")
    parser.add_argument("--recurrent-std", type=float, help="of the recurrent weights")
    parser.add_argument("--orthogonal", type=float, help="factor of orthogonal ones")
    parser.add_argument("--identity", type=float, help="factor of the identity matrix")
    parser.add_argument("--bias", type=float, help="of the second gate, of all where there is none")
    parser.add_argument("--scale-input", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def initialise(net: Net, args: argparse.Namespace) -> None:
    with torch.no_grad():
        if args.recurrent_std is not None:
            net.rnn.weight_hh_l0.normal_(0.0, args.recurrent_std)
        if args.orthogonal is not None:
            nn.init.orthogonal_(net.rnn.weight_hh_l0, gain=args.orthogonal)
        if args.identity is not None:
            net.rnn.weight_hh_l0.copy_(args.identity * torch.eye(args.hidden))
        if args.bias is not None:
            gates = slice(args.hidden, 2 * args.hidden)
            net.rnn.bias_ih_l0[gates if args.cell in ("gru", "lstm") else slice(None)] = args.bias


def main() -> None:
    args = parse()
    torch.manual_seed(args.seed)
    batch, inputs, outputs = TASKS[args.task]
    criterion = F.mse_loss if args.task == "adding" else F.cross_entropy
    draw = torch.Generator().manual_seed(1000 + args.seed)
    net = Net(args.cell, inputs, args.hidden, outputs)
    initialise(net, args)
    optimizers = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
    optimizer = optimizers[args.optimizer](net.parameters(), lr=args.lr)

    for step in range(args.steps):
        x, y = batch(args.batch, args.length, draw)
        optimizer.zero_grad()
        if args.clip and args.clip_early:
            nn.utils.clip_grad_norm_(net.parameters(), args.clip)
        loss = criterion(net(args.scale_input * x), y)
        loss.backward()
        if args.clip and not args.clip_early:
            nn.utils.clip_grad_norm_(net.parameters(), args.clip)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1} loss {loss.item():.4f}", flush=True)

    with torch.no_grad():
        x, y = batch(1000, args.length, torch.Generator().manual_seed(999))
        answer = net(args.scale_input * x)
        error = criterion(answer, y) if args.task == "adding" else (
            1.0 - (answer.argmax(-1) == y).float().mean())  # fmt: skip
    print(f"held-out error {error.item():.5f}")


if __name__ == "__main__":
    main()
