"""Sine waves by two LSTM cells and L-BFGS, whose closure runs backward many times a step."""

import torch
from torch import nn

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm1 = nn.LSTMCell(1, 9)
        self.lstm2 = nn.LSTMCell(9, 9)
        self.linear = nn.Linear(9, 1)

    def forward(self, series, future=0):
        outputs = []
        h1 = c1 = h2 = c2 = torch.zeros(series.size(0), 9)
        for value in series.split(1, dim=1):
            h1, c1 = self.lstm1(value, (h1, c1))
            h2, c2 = self.lstm2(h1, (h2, c2))
            outputs.append(self.linear(h2))
        for _ in range(future):
            h1, c1 = self.lstm1(outputs[-1], (h1, c1))
            h2, c2 = self.lstm2(h1, (h2, c2))
            outputs.append(self.linear(h2))
        return torch.cat(outputs, dim=1)


series = torch.sin(torch.arange(25)[None] / 4 + torch.arange(5)[:, None])
model, criterion = Sequence(), nn.MSELoss()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.8, max_iter=6)
for step in range(3):

    def closure():
        optimizer.zero_grad()
        loss = criterion(model(series[:, :-1]), series[:, 1:])
        print("loss", loss.item())
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        print("test", criterion(model(series[:, :-1], future=3)[:, :-3], series[:, 1:]).item())
torch.save(model, "model.pt")
print(torch.randn(2))
