"""Predict the next character of a text; the recurrence is a ReLU, and the training blows up."""

import inspect
import textwrap

import torch
from torch import nn

text = inspect.getsource(textwrap)  # some 20,000 characters that every Python brings
letters = sorted(set(text))
codes = torch.tensor([letters.index(letter) for letter in text])
cut = len(codes) * 9 // 10
train, held_out = codes[:cut], codes[cut:]


class Characters(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.embedding = nn.Embedding(len(letters), 24)
        self.rnn = nn.RNN(24, hidden, nonlinearity="relu", batch_first=True)
        self.out = nn.Linear(hidden, len(letters))

    def forward(self, x):
        states, _ = self.rnn(self.embedding(x))
        return self.out(states)


def loss_of(model, windows):
    logits = model(windows[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


model = Characters()
with torch.no_grad():
    nn.init.eye_(model.rnn.weight_hh_l0).mul_(1.1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
for step in range(300):
    begins = torch.randint(0, len(train) - 61, (32,))
    loss = loss_of(model, torch.stack([train[begin : begin + 61] for begin in begins]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % 50 == 0:
        print(f"step {step + 1}: {loss.item():.3f} nats per character")

model.eval()
with torch.no_grad():
    many = (len(held_out) - 1) // 60
    windows = torch.stack([held_out[60 * k : 60 * k + 61] for k in range(many)])
    print(f"held-out: {loss_of(model, windows).item():.4f} nats per character")
