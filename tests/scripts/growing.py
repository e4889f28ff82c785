"""A state carried over from step to step on the graph; how it ends is the first argument."""

import sys

import torch
from torch import nn

torch.manual_seed(0)
how = sys.argv[1]
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 8


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 6)
        self.first = nn.Parameter(torch.zeros(2, 1, 3, 6))

    def forward(self, x, state):
        out, state = self.rnn(x, state)  # the line to change
        return out, state


model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
state = None
for step in range(steps):
    if how == "learned" or (how == "window" and step % 2 == 0):
        state = tuple(model.first.expand(2, 1, 3, 6).unbind(0))
    if how == "masked" and state is not None:
        state = tuple(part * torch.ones(3, 1) for part in state)
    if how == "healthy" and state is not None:
        state = tuple(part.detach() for part in state)
    x = torch.randn(5, 3, 4)
    if how == "other" and step == 1:
        x = torch.randn(5, 3, 7)
    keep = how in ("inplace", "silent", "window", "other")
    try:
        out, state = model(x, state)
        loss = out.square().mean()
        optimizer.zero_grad()
        loss.backward(retain_graph=keep)
    except RuntimeError as error:
        if how != "caught":
            raise
        print("caught", str(error)[:40])
        sys.exit(4)
    if how in ("silent", "window"):
        for p in model.parameters():
            p.data.add_(torch.zeros_like(p) if p.grad is None else p.grad, alpha=-0.01)
    else:
        optimizer.step()
    print("step", step, loss.item())
