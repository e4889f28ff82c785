"""Train a recurrent cell in a loop over time steps, as a user writes it.

    python cell_loop.py --cell gru --detach 5

Nothing in here knows of gradreach. What is wrong with a training stands in its arguments.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


class Net(nn.Module):
    """A cell applied step by step; every so many steps its state is cut off the graph."""

    def __init__(self, cell: str, hidden: int, detach: int) -> None:
        super().__init__()
        self.cell, self.detach = CELLS[cell](9, hidden), detach
        self.head = nn.Linear(hidden, 8)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in range(x.shape[1]):
            if self.detach and step and step % self.detach == 0:
                if isinstance(state, tuple):
                    state = (state[0].detach(), state[1].detach())
                else:
                    state = state.detach()
            state = self.cell(x[:, step], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


def recall(n: int, length: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of eight symbols is shown, then nothing, and it is asked for."""
    symbol = torch.randint(0, 8, (n,), generator=draw)
    x = torch.zeros(n, length, 9)
    x[torch.arange(n), 0, symbol] = 1.0
    x[:, -1, 8] = 1.0
    return x, symbol


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cell", choices=list(CELLS), default="gru")
    parser.add_argument("--detach", type=int, default=0, help="0 for never")
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--forget", type=float, help="bias of the LSTM's forget gate")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    draw = torch.Generator().manual_seed(1000 + args.seed)
    net = Net(args.cell, args.hidden, args.detach)
    if args.forget is not None:
        with torch.no_grad():
            net.cell.bias_ih[args.hidden : 2 * args.hidden] = args.forget
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    for step in range(args.steps):
        x, y = recall(16, args.length, draw)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            print(f"step {step + 1} loss {loss.item():.4f}", flush=True)

    with torch.no_grad():
        x, y = recall(800, args.length, torch.Generator().manual_seed(999))
        error = (net(x).argmax(-1) != y).float().mean()
    print(f"held-out error {error.item():.5f}")


if __name__ == "__main__":
    main()
