"""Train on data from which nothing more can be learned, as a user writes it.

    python hopeless.py --data fresh --cell lstm

Nothing in here knows of gradreach, and nothing is wrong with the training.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LENGTH = 20


def sequences(n: int, draw: torch.Generator) -> Tensor:
    return torch.randn(n, LENGTH, 2, generator=draw)


def coins(n: int, draw: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (n,), generator=draw)


def fresh(n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labels are drawn by lot, anew each time."""
    return sequences(n, draw), coins(n, draw)


def flipped(n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """The sign of the last value; a third of the labels are wrong."""
    x = sequences(n, draw)
    right = (x[:, -1, 0] > 0).long()
    wrong = torch.rand(n, generator=draw) < 1 / 3
    return x, torch.where(wrong, 1 - right, right)


def noise(n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """The last value, under noise that is as large as itself."""
    x = sequences(n, draw)
    return x, x[:, -1, :1] + torch.randn(n, 1, generator=draw)


def independent(n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """A number that has nothing to do with the sequence."""
    return sequences(n, draw), 3.0 + torch.randn(n, 1, generator=draw)


def echo(n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """The last value: solved after a few steps."""
    x = sequences(n, draw)
    return x, x[:, -1, :1]


DATA = {"fresh": fresh, "fixed": fresh, "flipped": flipped, "noise": noise,
        "independent": independent, "echo": echo}  # fmt: skip


class Net(nn.Module):
    def __init__(self, cell: str, hidden: int, outputs: int) -> None:
        super().__init__()
        kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.rnn = kind(2, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.head(out[:, -1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=list(DATA), default="fresh")
    parser.add_argument("--cell", choices=["rnn", "gru", "lstm"], default="lstm")
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    draw = torch.Generator().manual_seed(1000 + args.seed)
    labels = args.data in ("fresh", "fixed", "flipped")
    criterion = F.cross_entropy if labels else F.mse_loss
    net = Net(args.cell, args.hidden, 2 if labels else 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    kept = DATA[args.data](128, draw)  # for "fixed": the same sequences in every epoch
    for step in range(args.steps):
        if args.data == "fixed":
            rows = torch.randint(0, 128, (16,), generator=draw)
            x, y = kept[0][rows], kept[1][rows]
        else:
            x, y = DATA[args.data](16, draw)
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            print(f"step {step + 1} loss {loss.item():.4f}", flush=True)

    with torch.no_grad():
        x, y = DATA[args.data](2000, torch.Generator().manual_seed(999))
        answer = net(x)
        error = (answer.argmax(-1) != y).float().mean() if labels else criterion(answer, y)
    print(f"held-out error {error.item():.5f}")


if __name__ == "__main__":
    main()
