"""Train on long streams, a window at a time, the state carried on, as a user writes it.

    python stream.py --cell lstm --window 4 --lag 6

At each step the symbol of some steps ago is asked for. Nothing in here knows of gradreach. What
is wrong with a training stands in its arguments.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, cell: str, symbols: int, hidden: int) -> None:
        super().__init__()
        kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.rnn = kind(symbols, hidden, batch_first=True)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, x: Tensor, state: object) -> tuple[Tensor, object]:
        out, state = self.rnn(x, state)
        return self.head(out), state


def detached(state: object) -> object:
    if isinstance(state, tuple):
        return tuple(part.detach() for part in state)
    return state.detach()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cell", choices=["rnn", "gru", "lstm"], default="lstm")
    parser.add_argument("--window", type=int, default=24)
    parser.add_argument("--lag", type=int, default=4)
    parser.add_argument("--symbols", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--updates", type=int, default=250)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--sgd", action="store_true", help="plain descent instead of Adam")
    parser.add_argument("--clip", type=float)
    parser.add_argument("--clip-early", action="store_true", help="before backward")
    parser.add_argument("--keep-graph", action="store_true", help="do not detach the state")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    draw = torch.Generator().manual_seed(1000 + args.seed)
    net = Net(args.cell, args.symbols, args.hidden)
    kind = torch.optim.SGD if args.sgd else torch.optim.Adam
    optimizer = kind(net.parameters(), lr=args.lr)

    def one_hot(symbols: Tensor) -> Tensor:
        return F.one_hot(symbols, args.symbols).float()

    past = torch.randint(0, args.symbols, (16, args.lag), generator=draw)
    state = None
    for update in range(args.updates):
        new = torch.randint(0, args.symbols, (16, args.window), generator=draw)
        seen = torch.cat([past, new], 1)
        past = seen[:, seen.shape[1] - args.lag :]
        if state is not None and not args.keep_graph:
            state = detached(state)
        answer, state = net(one_hot(new), state)
        optimizer.zero_grad()
        if args.clip and args.clip_early:
            nn.utils.clip_grad_norm_(net.parameters(), args.clip)
        loss = F.cross_entropy(answer.flatten(0, 1), seen[:, : args.window].flatten())
        loss.backward()
        if args.clip and not args.clip_early:
            nn.utils.clip_grad_norm_(net.parameters(), args.clip)
        optimizer.step()
        if update % 50 == 49:
            print(f"update {update + 1} loss {loss.item():.4f}", flush=True)

    with torch.no_grad():
        draw = torch.Generator().manual_seed(999)
        symbols = torch.randint(0, args.symbols, (64, 60), generator=draw)
        answer, _ = net(one_hot(symbols), None)
        wrong = answer[:, args.lag :].argmax(-1) != symbols[:, : 60 - args.lag]
    print(f"held-out error {wrong.float().mean().item():.5f}")


if __name__ == "__main__":
    main()
