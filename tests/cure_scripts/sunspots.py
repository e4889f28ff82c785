"""Predict next year's sunspots from the years before: a real series, and a training that jumps.

python sunspots.py sunspots.csv
"""

import csv
import sys

import torch
from torch import nn

with open(sys.argv[1], newline="") as file:
    spots = [float(row["SUNACTIVITY"]) for row in csv.DictReader(file)]
series = torch.tensor(spots)
cut = len(series) - 70
series = (series - series[:cut].mean()) / series[:cut].std()
train, test = series[:cut], series[cut - 60 :]


class Forecast(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.rnn = nn.RNN(1, hidden, nonlinearity="relu", batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        states, _ = self.rnn(x.unsqueeze(-1))
        return self.out(states).squeeze(-1)


model = Forecast()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
for step in range(300):
    begins = torch.randint(0, len(train) - 61, (16,))
    windows = torch.stack([train[begin : begin + 61] for begin in begins])
    loss = nn.functional.mse_loss(model(windows[:, :-1]), windows[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % 50 == 0:
        print(f"step {step + 1} loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    forecast = model(test[None, :-1])[0, 60:]
    print(f"test mse {nn.functional.mse_loss(forecast, test[61:]).item():.4f}")
