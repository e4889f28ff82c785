"""Labels that have nothing to do with the sequences: nothing can be learned but by heart."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--fresh", action="store_true", help="new sequences for every step")
parser.add_argument("--steps", type=int, default=250)
args = parser.parse_args()

rnn, head = nn.RNN(2, 24, batch_first=True), nn.Linear(24, 2)
optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=0.01)
data, labels = torch.randn(192, 30, 2), torch.randint(0, 2, (192,))
for step in range(args.steps):
    if args.fresh:
        x, y = torch.randn(32, 30, 2), torch.randint(0, 2, (32,))
    else:
        rows = torch.randperm(len(data))[:32]
        x, y = data[rows], labels[rows]
    loss = nn.functional.cross_entropy(head(rnn(x)[0][:, -1]), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.5f}")
