"""Models run through torch.compile: hooks on modules must not change what it makes of them."""

import warnings

import torch
from torch import nn

warnings.simplefilter("error")  # none of them may come from us
torch.manual_seed(0)
x = torch.randn(11, 3, 4)


def fit(name, parameters, loss_of, steps=3):
    optimizer = torch.optim.SGD(list(parameters), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
    print(name, loss.item())


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 6)
        self.norm = nn.LayerNorm(6)

    def forward(self, series):
        h = torch.zeros(3, 6)
        for each in series:
            h = self.norm(self.cell(each, h))
        return h


compiled = torch.compile(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), Loop()), backend="eager")
fit("compiled", compiled.parameters(), lambda: compiled(x).square().mean())
kept = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 6))
half = torch.compile(kept, backend="eager")
fit("compiled around an LSTM", kept.parameters(), lambda: half(x)[0].square().mean())

whole = torch.compile(nn.Linear(4, 4), backend="eager", fullgraph=True)
optimizer = torch.optim.SGD([*whole.parameters(), *kept.parameters()], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    kept[1](whole(x))[0].sum().backward()
    optimizer.step()
torch.save([compiled.state_dict(), kept, whole.state_dict()], "models.pt")
print(torch.randn(3))
