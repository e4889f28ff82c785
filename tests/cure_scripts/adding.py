"""Add the two marked numbers of a long sequence: a plain RNN as torch builds it by default."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--length", type=int, default=150)
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--hidden", type=int, default=48)
parser.add_argument("--batch", type=int, default=32)
args = parser.parse_args()


class Adder(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(2, args.hidden, batch_first=True)
        self.out = nn.Linear(args.hidden, 1)

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.out(states[:, -1]).squeeze(-1)


def batch(size, length):
    x = torch.rand(size, length, 2)
    x[:, :, 1] = 0.0
    rows = torch.arange(size)
    x[rows, torch.randint(0, length // 2, (size,)), 1] = 1.0
    x[rows, torch.randint(length // 2, length, (size,)), 1] = 1.0
    return x, (x[:, :, 0] * x[:, :, 1]).sum(1)


model = Adder()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(args.steps):
    x, y = batch(args.batch, args.length)
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % 100 == 0:
        print(f"step {step + 1} loss {loss.item():.5f}")

model.eval()
with torch.no_grad():
    x, y = batch(500, args.length)
    print(f"test mse {nn.functional.mse_loss(model(x), y).item():.6f}")
